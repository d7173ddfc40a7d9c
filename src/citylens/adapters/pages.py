"""Figures as PNG, and the page that holds them: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html.j2")


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """A figure's PNG, without a date or a program's name: the same bytes each time.

    Args:
        colours: 2..256, a dithered palette instead of full colour: half the bytes of a figure full of photographs.
    """
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi="figure", metadata={"Software": None})
    image = Image.open(drawn).convert("RGB")
    if colours is not None:
        image = image.quantize(palette=image.quantize(colours), dither=Image.Dither.FLOYDSTEINBERG)
    image.save(packed, format="png", optimize=True)
    return packed.getvalue()


def html(page: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as one HTML text, with the PNG bytes of the figures it names in it."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sources = {name: "data:image/png;base64," + base64.b64encode(data).decode() for name, data in pictures.items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page, sources=sources)
