"""Colours, fonts, axes and PNG encoding that all figures of the report share.

Figures are made without pyplot, so nothing global changes. The font comes with matplotlib; for characters that it lacks,
others stand in.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence

import matplotlib.colors
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from citylens.nets.names import NETWORKS
from citylens.report.fonts import stand_ins
from citylens.report.labels import keys_by_network

DPI = 150
WIDTH = 11.0
"""Width of a whole figure in inches: at the page's 1100 px, one point is a little more than one pixel."""
INK, FAINT, BAND = "#222222", "#777777", "#eeeeee"
SMALL, NORMAL, LARGE = 8.5, 9.5, 11.0
"""Font sizes in points."""

# The colours of Okabe and Ito without yellow and black, and colours of Paul Tol.
_CITIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_NETWORKS = ("#332288", "#44AA99", "#DDAA33", "#BB5566", "#88CCEE", "#999933")


def city_colours(cities: Iterable[str]) -> dict[str, str]:
    """Return one colour per city, which colour-blind readers can tell apart; after six cities the colours repeat."""
    return {city: _CITIES[place % len(_CITIES)] for place, city in enumerate(cities)}


def network_colours(keys: Iterable[str]) -> dict[str, str]:
    """Return the colour of each trained network: its architecture's colour, lighter for later seeds."""
    colours = {}
    for network, own in keys_by_network(keys).items():
        full = np.array(matplotlib.colors.to_rgb(_NETWORKS[NETWORKS.index(network) % len(_NETWORKS)]))
        for key, light in zip(own, np.linspace(0, 0.55, len(own)), strict=True):
            colours[key] = matplotlib.colors.to_hex(full + (1 - full) * light)
    return colours


def plain(text: object) -> str:
    """Return the text with dollar signs escaped, so that matplotlib does not read it as mathematics."""
    return str(text).replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sized in inches, that makes room for its labels by itself."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def polish(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Return the axes without a box, with a title at the left and labels of one size."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=SMALL, color=FAINT, labelcolor=INK)
    axes.set_title(plain(title), fontsize=NORMAL, loc="left", color=INK)
    axes.set_xlabel(plain(x), fontsize=SMALL, color=INK)
    axes.set_ylabel(plain(y), fontsize=SMALL, color=INK)
    return axes


def bare(axes: Axes, title: str = "") -> Axes:
    """Return the axes without ticks and box, for a picture."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(plain(title), fontsize=NORMAL, color=INK)
    return axes


def add_legend(figure: Figure, marks: Sequence[Artist], columns: int, size: float) -> None:
    """Add a legend without a frame above the panels, at the left."""
    figure.legend(handles=marks, loc="outside upper left", ncols=columns, fontsize=size, frameon=False)


def png(figure: Figure, *, palette: bool = False) -> bytes:
    """Return the figure as PNG without date and program name, so that equal figures have equal bytes.

    Args:
        figure: the figure to draw.
        palette: reduce it to 256 colours, dithered, which halves the bytes of a figure full of photographs.
    """
    canvas, texts = FigureCanvasAgg(figure), figure.findobj(Text)
    if families := stand_ins(frozenset("".join(text.get_text() for text in texts))):
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # stand_ins says so.
        canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if palette:
        reduced = image.quantize(256)
        values = np.reshape(reduced.getpalette() or [], (-1, 3))
        values[values.min(axis=1) > 244] = 255  # Almost white would show on the white page.
        reduced.putpalette(values.ravel().tolist())
        image = image.quantize(palette=reduced, dither=Image.Dither.FLOYDSTEINBERG)
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return packed.getvalue()
