"""Figures of images: the pipeline strip (fig. 2), the explanations at their t-SNE places (fig. 4), the masks (fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch
from numpy.typing import NDArray

from citylens.science import figures
from citylens.science.figures import DPI, FAINT, INK, LARGE, NORMAL, SMALL, WIDTH
from citylens.science.paper import NAMES

MAP_COLOURS = "turbo"  # the paper's jet, evened out
BLANK = 236
"""Grey level of what an explanation leaves out."""
WRONG = "#B00020"


@dataclass(frozen=True)
class Look:
    """What one network made of one image.

    Args:
        network: its name.
        map: (h, w) Grad-CAM map before the ReLU.
        mask: (S, S) weighted mask in [0, 1].
        predicted: the city it names.
        probability: of that city, in [0, 1].
        dead: whether the ReLU leaves nothing of the map.
    """

    network: str
    map: NDArray[np.floating]
    mask: NDArray[np.floating]
    predicted: str
    probability: float
    dead: bool


@dataclass(frozen=True)
class Example:
    """A test image, (S, S, 3) uint8 RGB, its city, and a look by each network."""

    image: NDArray[np.uint8]
    city: str
    looks: Mapping[str, Look]


def explanation(image: NDArray[np.uint8], mask: NDArray[np.floating], threshold: float) -> NDArray[np.uint8]:
    """The visual explanation: the image where the mask is at least `threshold`, grey elsewhere (paper, section 2.1).

    Args:
        image: (S, S, 3) uint8 RGB.
        mask: (S, S) in [0, 1].
    """
    return np.where((mask >= threshold)[..., None], image, np.uint8(BLANK))


def pipeline(example: Example, network: str, threshold: float) -> Figure:
    """Figure 2: from an image to its visual explanation, by one network."""
    look = example.looks[network]
    side = example.image.shape[0]
    positive = np.maximum(look.map, 0)
    figure = Figure(figsize=(WIDTH, 2.55), dpi=DPI, facecolor="white")
    left, width, gap, height = 0.004, 0.158, 0.0505, 0.158 * WIDTH / 2.55
    panels = [figure.add_axes((left + place * (width + gap), 0.13, width, height)) for place in range(5)]
    _picture(panels[0], "image", example.city).imshow(example.image, interpolation="bilinear")
    rows, columns = look.map.shape
    _picture(panels[1], "Grad-CAM", f"{columns} \N{MULTIPLICATION SIGN} {rows} cells, after the ReLU").imshow(
        positive, cmap="Greys", vmin=0, extent=(0, side, side, 0)
    )
    _picture(panels[2], "weighted mask", "0 to 1").imshow(look.mask, cmap=MAP_COLOURS, vmin=0, vmax=1)
    _picture(
        panels[3], "threshold", f"mask ≥ {threshold:g}: {np.mean(look.mask >= threshold):.0%} of the image"
    ).imshow(look.mask >= threshold, cmap="gray", vmin=0, vmax=1)
    _picture(panels[4], "visual explanation").imshow(
        explanation(example.image, look.mask, threshold), interpolation="bilinear"
    )
    panels[4].spines[:].set(visible=True, color=FAINT)
    steps = (NAMES[network], "enlarge,\nmin-max", f"≥ {threshold:g}", "cut out")
    for place, step in enumerate(steps):
        _arrow(figure, left + place * (width + gap) + width + gap / 2, gap, 0.13 + height / 2, step)
    figure.text(left, 0.97, _verdict(look), fontsize=SMALL, color=INK, va="top")
    return figure


def _picture(axes: Axes, title: str, below: str = "") -> Axes:
    figures.bare(axes, title)
    axes.set_xlabel(figures.plain(below), fontsize=SMALL - 0.5, color=FAINT)
    return axes


def _arrow(figure: Figure, middle: float, gap: float, height: float, text: str) -> None:
    ends = ((middle - gap * 0.4, height), (middle + gap * 0.4, height))
    figure.add_artist(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=12, color=INK, linewidth=1.2))
    figure.text(middle, height + 0.05, text, ha="center", va="bottom", fontsize=SMALL - 1, color=INK)


def _verdict(look: Look) -> str:
    return figures.plain(f"{NAMES[look.network]} says {look.predicted}, probability {look.probability:.2f}")


def masks(examples: Sequence[Example], networks: Sequence[str], threshold: float) -> Figure:
    """Figure 6: the networks' weighted masks over the same images, a row an image; the line is the explanation's edge."""
    columns = len(networks) + 1
    side = min((WIDTH - 1.5) / columns, 2.3)
    figure = figures.figure(side * columns + 1.5, (side + 0.22) * len(examples) + 0.3)
    panels = figure.subplots(len(examples), columns, squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    colours = figures.city_colours(sorted({example.city for example in examples}))
    for row, example in zip(panels, examples, strict=True):
        figures.bare(row[0]).imshow(example.image, interpolation="bilinear")
        row[0].set_ylabel(figures.plain(example.city), fontsize=NORMAL, color=colours[example.city], fontweight="bold")
        for axes, network in zip(row[1:], networks, strict=True):
            _overlay(axes, example, example.looks[network], threshold)
    for axes, title in zip(panels[0], ["image", *(NAMES[network] for network in networks)], strict=True):
        axes.set_title(title, fontsize=LARGE)
    scale = figure.colorbar(
        ScalarMappable(cmap=MAP_COLOURS), ax=panels, location="right", shrink=min(1.0, 2 / len(examples)), aspect=25
    )
    scale.outline.set_visible(False)
    scale.set_label("weighted mask", fontsize=SMALL)
    scale.ax.tick_params(labelsize=SMALL)
    return figure


def _overlay(axes: Axes, example: Example, look: Look, threshold: float) -> None:
    figures.bare(axes)
    grey = cv2.cvtColor(np.ascontiguousarray(example.image), cv2.COLOR_RGB2GRAY)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    if look.dead:
        axes.text(
            0.5,
            0.5,
            "dead mask",
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=NORMAL,
            bbox={"facecolor": "white", "linewidth": 0},
        )
    else:
        axes.imshow(look.mask, cmap=MAP_COLOURS, vmin=0, vmax=1, alpha=0.55, interpolation="bilinear")
        if look.mask.min() < threshold <= look.mask.max():
            axes.contour(look.mask, [threshold], colors="white", linewidths=1.0)
    right = look.predicted == example.city
    text = f"{look.predicted} {look.probability:.2f}" + ("" if right else " ✗")
    axes.set_xlabel(figures.plain(text), fontsize=SMALL, color=INK if right else WRONG, labelpad=2)


def explanations(
    images: NDArray[np.uint8],
    masks: NDArray[np.floating],
    places: NDArray[np.floating],
    labels: Sequence[str],
    cities: Sequence[str],
    threshold: float,
) -> Figure:
    """Figure 4: visual explanations where t-SNE puts their masks, framed in their city's colour.

    So that none covers another, each goes to a cell of a grid half as large again as their number; the assignment has the
    least total squared distance to the t-SNE places (Jonker and Volgenant).

    Args:
        images: (N, S, S, 3) uint8 RGB.
        masks: (N, S, S) in [0, 1].
        places: (N, 2) t-SNE coordinates.
        labels: (N) the images' cities.
        cities: all cities, in the order of their colours.
    """
    rows, columns = grid_shape(len(images))
    cell = int(min(128, WIDTH * DPI // columns))
    canvas = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    colours = figures.city_colours(cities)
    for image, mask, city, (row, column) in zip(images, masks, labels, grid_cells(places, rows, columns), strict=True):
        tile = _tile(explanation(image, mask, threshold), cell - 2, colours[city])
        canvas[row * cell + 1 : (row + 1) * cell - 1, column * cell + 1 : (column + 1) * cell - 1] = tile
    return _canvas_figure(canvas, colours)


def _canvas_figure(canvas: NDArray[np.uint8], colours: Mapping[str, str]) -> Figure:
    height, width = canvas.shape[:2]
    head = 0.35 * DPI
    figure = Figure(figsize=(max(width, 4 * DPI) / DPI, (height + head) / DPI), dpi=DPI, facecolor="white")
    # One canvas pixel is one pixel of the PNG.
    axes = figure.add_axes((0, 0, width / max(width, 4 * DPI), height / (height + head)))
    figures.bare(axes).imshow(canvas, interpolation="none", aspect="auto")
    marks = [Patch(color=colour, label=figures.plain(city)) for city, colour in colours.items()]
    figure.legend(handles=marks, loc="upper left", ncols=len(marks), fontsize=NORMAL, frameon=False, borderaxespad=0.2)
    return figure


def _tile(picture: NDArray[np.uint8], side: int, colour: str) -> NDArray[np.uint8]:
    frame = max(2, side // 24)
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    tile = np.empty((side, side, 3), np.uint8)
    tile[:] = (red, green, blue)
    inner = side - 2 * frame
    shrinks = picture.shape[0] > inner
    tile[frame:-frame, frame:-frame] = cv2.resize(
        picture, (inner, inner), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return tile


def grid_shape(count: int) -> tuple[int, int]:
    """Rows and columns of a grid, a third wider than high, with room for half as many again as `count`."""
    cells = max(1, int(np.ceil(1.5 * count)))
    columns = int(np.ceil(np.sqrt(cells * 4 / 3)))
    return int(np.ceil(cells / columns)), columns


def grid_cells(places: NDArray[np.floating], rows: int, columns: int) -> NDArray[np.intp]:
    """(N, 2) row and column of each place's own cell: the assignment of least total squared distance.

    Args:
        places: (N, 2), any unit; stretched to fill the grid, y upwards. N <= rows * columns.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(places):
        return np.empty((0, 2), np.intp)
    low, high = places.min(axis=0), places.max(axis=0)
    spread = (places - low) / np.where(high > low, high - low, 1)
    wanted = np.stack([(1 - spread[:, 1]) * (rows - 1), spread[:, 0] * (columns - 1)], axis=1)
    cells = np.stack(np.unravel_index(np.arange(rows * columns), (rows, columns)), axis=1)
    cost = ((wanted[:, None] - cells[None]) ** 2).sum(axis=2)
    return cells[linear_sum_assignment(cost)[1]]
