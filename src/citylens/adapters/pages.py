"""Figures as PNG, and the page that holds them: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

TEMPLATE = Path(__file__).with_name("page.html.j2")
ALMOST_WHITE = 244
SHARPNESS = 1.5
"""Pixels of a figure a pixel of the page."""


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """A figure's PNG, without a date or a program's name: the same bytes each time.

    Args:
        colours: 2..256, a dithered palette instead of full colour: half the bytes of a figure full of photographs.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if colours is not None:
        image = image.quantize(palette=_palette(image, colours), dither=Image.Dither.FLOYDSTEINBERG)
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return packed.getvalue()


def _palette(image: Image.Image, colours: int) -> Image.Image:
    """The colours that serve the image best; those that are almost white are made the page's own white."""
    image = image.quantize(colours)
    values = image.getpalette() or []
    for at in range(0, len(values), 3):
        if min(values[at : at + 3]) > ALMOST_WHITE:
            values[at : at + 3] = [255] * 3
    image.putpalette(values)
    return image


def html(page: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as one HTML text, with the PNG bytes of the figures it names in it."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sources = {name: "data:image/png;base64," + base64.b64encode(data).decode() for name, data in pictures.items()}
    # A PNG's width in pixels stands at its bytes 16 to 19.
    widths = {name: round(int.from_bytes(data[16:20], "big") / SHARPNESS) for name, data in pictures.items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page, sources=sources, widths=widths)
