"""Fonts for names in scripts that matplotlib's own font lacks, such as Chinese and Thai."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

PACKAGES = ("manimgx_fonts", "noto_cjk_sans_jp_regular")
"""Python packages that hold Noto's fonts; they are not imported."""


@functools.cache
def stand_ins(characters: frozenset[str]) -> tuple[str, ...]:
    """Return the families of fonts for the characters that matplotlib's own font lacks; print a line if no font has them."""
    missing = {char for char in characters if char.isprintable()} - _characters(findfont(FontProperties()))
    if not missing:
        return ()
    families = []
    for path in _font_files():
        found = missing & _characters(path)
        if found:
            fontManager.addfont(path)
            families.append(FT2Font(path).family_name)
            missing -= found
        if not missing:
            break
    else:
        print(
            f"citylens report: warning: no font here shows {' '.join(sorted(missing)[:20])}; figures have boxes there. Fonts for "
            "most scripts: `apt install fonts-noto-core fonts-noto-cjk`, or your system's package of Noto",
            file=sys.stderr,
        )
    return tuple(families)


def _font_files() -> list[str]:
    """Return the fonts of the packages `PACKAGES`, then of the system, the upright and sans serif ones of each first."""
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [folder for spec in specs if spec for folder in spec.submodule_search_locations or ()]
    packaged = [str(path) for folder in folders for path in Path(folder).rglob("*.?t[fc]")]

    def rank(path: str) -> tuple[bool, bool, bool, str]:
        name = Path(path).name
        plain = "Regular" in name or not any(style in name for style in ("Bold", "Italic", "Light", "Thin", "Black"))
        return "Emoji" in name, "Sans" not in name, not plain, name

    return [*sorted(packaged, key=rank), *sorted(findSystemFonts(), key=rank)]


def _characters(path: str) -> set[str]:
    """Return the characters that a font file has; none if it cannot be read or drawn at any size."""
    try:
        font = FT2Font(path)
        return {chr(code) for code in font.get_charmap()} if font.scalable else set()
    except (OSError, RuntimeError):
        return set()
