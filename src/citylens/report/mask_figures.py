"""Figures of the masks: of single images (figs. 2 and 6), and of all images in the plane of t-SNE (figs. 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from citylens.nets.names import network_title
from citylens.report import figure_style as style
from citylens.report.figure_style import BAND, DPI, FAINT, INK, LARGE, NORMAL, SMALL, WIDTH
from citylens.report.labels import trained_name

MAP_COLOURS = "turbo"  # like the paper's jet, but with even steps
BLANK = 236
"""Grey level of the pixels outside an explanation."""
WRONG = "#B00020"


@dataclass(frozen=True)
class Explained:
    """What a network predicts for an image, with which probability in [0, 1], and its explanation.

    `map` is the (h, w) Grad-CAM map before the ReLU, `mask` the (S, S) weighted mask in [0, 1].
    """

    map: NDArray[np.floating]
    mask: NDArray[np.floating]
    predicted: str
    probability: float
    dead: bool


@dataclass(frozen=True)
class Example:
    """A test image, (S, S, 3) uint8 RGB, with its city and its explanation by each network."""

    image: NDArray[np.uint8]
    city: str
    networks: Mapping[str, Explained]


def explanation(image: NDArray[np.uint8], mask: NDArray[np.floating], threshold: float) -> NDArray[np.uint8]:
    """Return the visual explanation: the image where the mask is at least `threshold`, grey elsewhere (paper, section 2.1).

    Args:
        image: (S, S, 3) or (N, S, S, 3) uint8 RGB.
        mask: (S, S) or (N, S, S) in [0, 1].
        threshold: in [0, 1].
    """
    return np.where((mask >= threshold)[..., None], image, np.uint8(BLANK))


def pipeline(example: Example, network: str, threshold: float) -> Figure:
    """Draw figure 2: the steps from an image to its visual explanation by one network."""
    found, side = example.networks[network], example.image.shape[0]
    rows, columns = found.map.shape
    inside = found.mask >= threshold
    steps = {
        "image": (example.city, network_title(network)),
        "Grad-CAM": (f"{columns} \N{MULTIPLICATION SIGN} {rows} cells, after the ReLU", "enlarge,\nmin-max"),
        "weighted mask": ("0 to 1", f"≥ {threshold:g}"),
        "threshold": (f"mask ≥ {threshold:g}: {np.mean(inside):.0%} of the image", "cut out"),
        "visual explanation": ("", ""),
    }
    figure = Figure(figsize=(WIDTH, 2.55), dpi=DPI, facecolor="white")
    height, gap = 0.158 * WIDTH / 2.55, 0.0505 / 0.158  # of a panel; the gap as a share of a panel's width
    place = {"left": 0.004, "right": 0.996, "bottom": 0.13, "top": 0.13 + height, "wspace": gap}
    panels = figure.subplots(1, len(steps), gridspec_kw=place)
    arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": INK, "linewidth": 1.2}
    for axes, (title, (below, step)) in zip(panels, steps.items(), strict=True):
        style.bare(axes, title).set_xlabel(style.plain(below), fontsize=SMALL - 0.5, color=FAINT)
        if step:
            ends = (1 + 0.9 * gap, 0.5), (1 + 0.1 * gap, 0.5)
            axes.annotate("", *ends, "axes fraction", arrowprops=arrow, annotation_clip=False)
            above: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": SMALL - 1, "color": INK}
            axes.text(1 + gap / 2, 0.5 + 0.05 / height, step, transform=axes.transAxes, **above)
    panels[0].imshow(example.image, interpolation="bilinear")
    panels[1].imshow(np.maximum(found.map, 0), cmap="gray", vmin=0, extent=(0, side, side, 0))
    panels[2].imshow(found.mask, cmap=MAP_COLOURS, vmin=0, vmax=1)
    panels[3].imshow(inside, cmap="gray", vmin=0, vmax=1)
    panels[4].imshow(explanation(example.image, found.mask, threshold), interpolation="bilinear")
    panels[4].spines[:].set(visible=True, color=FAINT)
    verdict = f"{network_title(network)} says {found.predicted}, probability {found.probability:.2f}"
    figure.text(place["left"], 0.97, style.plain(verdict), fontsize=SMALL, color=INK, va="top")
    return figure


def masks(examples: Sequence[Example], networks: Sequence[str], threshold: float) -> Figure:
    """Draw figure 6: the networks' weighted masks over the same images, one row per image, with the explanations' edges."""
    columns = len(networks) + 1
    side = min((WIDTH - 1.5) / columns, 2.3)
    figure = style.new_figure(side * columns + 1.5, (side + 0.22) * len(examples) + 0.3)
    panels = figure.subplots(len(examples), columns, squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    colours = style.city_colours(sorted({example.city for example in examples}))
    for row, example in zip(panels, examples, strict=True):
        style.bare(row[0]).imshow(example.image, interpolation="bilinear")
        row[0].set_ylabel(style.plain(example.city), fontsize=NORMAL, color=colours[example.city], fontweight="bold")
        for axes, network in zip(row[1:], networks, strict=True):
            _overlay(style.bare(axes), example, example.networks[network], threshold)
    for axes, title in zip(panels[0], ["image", *(network_title(network) for network in networks)], strict=True):
        axes.set_title(title, fontsize=LARGE)
    scale = figure.colorbar(ScalarMappable(cmap=MAP_COLOURS), ax=panels, shrink=min(1.0, 2 / len(examples)), aspect=25)
    scale.outline.set_visible(False)
    scale.set_label("weighted mask", fontsize=SMALL)
    scale.ax.tick_params(labelsize=SMALL)
    return figure


def _overlay(axes: Axes, example: Example, found: Explained, threshold: float) -> None:
    grey = cv2.cvtColor(np.ascontiguousarray(example.image), cv2.COLOR_RGB2GRAY)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    if found.dead:
        note = axes.text(0.5, 0.5, "dead mask", transform=axes.transAxes, ha="center", va="center", fontsize=NORMAL)
        note.set_bbox({"facecolor": "white", "linewidth": 0})
    else:
        axes.imshow(found.mask, cmap=MAP_COLOURS, vmin=0, vmax=1, alpha=0.55, interpolation="bilinear")
        if found.mask.min() < threshold <= found.mask.max():
            axes.contour(found.mask, [threshold], colors="white", linewidths=1.0)
    right = found.predicted == example.city
    text = f"{found.predicted} {found.probability:.2f}" + ("" if right else " ✗")
    axes.set_xlabel(style.plain(text), fontsize=SMALL, color=INK if right else WRONG, labelpad=2)


def scatter(embeddings: Mapping[str, pd.DataFrame], cities: Sequence[str]) -> Figure:
    """Draw figure 3: each mask as a point in its city's colour, one panel per network.

    Args:
        embeddings: for each trained network's key, a table with city, x, y (any unit) and dead (0 or 1).
        cities: all cities, in the order of their colours.
    """
    columns = min(4, len(embeddings))
    rows = -(-len(embeddings) // columns)
    side = WIDTH / max(columns, 2)
    figure = style.new_figure(side * columns, side * rows + 0.4)
    colours = style.city_colours(cities)
    for place, (key, table) in enumerate(embeddings.items(), start=1):
        axes = style.bare(figure.add_subplot(rows, columns, place, box_aspect=1), trained_name(key))
        axes.spines[:].set(visible=True, color=BAND)
        _points(axes, table, colours)
    marks = [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=colour, label=style.plain(city))
        for city, colour in colours.items()
    ]
    style.add_legend(figure, marks, len(cities), NORMAL)
    return figure


def _points(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    alive = table[(table["dead"] == 0) & table["x"].notna()]
    # A fixed random order keeps one city from covering the others.
    alive = alive.iloc[np.random.default_rng(0).permutation(len(alive))]
    size = float(np.clip(9000 / max(len(alive), 1), 1.5, 22))
    axes.scatter(alive["x"], alive["y"], s=size, c=[colours[city] for city in alive["city"]], alpha=0.75, linewidths=0)
    dead = int(table["dead"].sum())
    counts = {"dead, not shown": dead, "not drawn": len(table) - len(alive) - dead}
    axes.set_xlabel(
        "; ".join(f"{count} {what}" for what, count in counts.items() if count), fontsize=SMALL, color=FAINT
    )


def explanations(
    pictures: NDArray[np.uint8], places: NDArray[np.floating], labels: Sequence[str], cities: Sequence[str]
) -> Figure:
    """Draw figure 4: visual explanations where t-SNE puts their masks, framed in their city's colour.

    The grid has half as many cells again as there are explanations, so none covers another. Each explanation takes one cell,
    by the assignment with the least total squared distance to the places of t-SNE (Jonker and Volgenant, 1987).

    Args:
        pictures: (N, S, S, 3) uint8 RGB, the visual explanations.
        places: (N, 2) t-SNE coordinates.
        labels: (N,) the images' cities.
        cities: all cities, in the order of their colours.
    """
    rows, columns = grid_shape(len(pictures))
    cell = int(min(128, WIDTH * DPI // columns))
    edge = 1 + max(2, (cell - 2) // 24)  # One pixel is white, the others have the city's colour.
    inner = cell - 2 * edge
    how = cv2.INTER_AREA if pictures.shape[1] > inner else cv2.INTER_LINEAR
    colours = style.city_colours(cities)
    tiles = np.full((rows, columns, cell, cell, 3), 255, np.uint8)
    for picture, city, (row, column) in zip(pictures, labels, grid_cells(places, rows, columns), strict=True):
        tiles[row, column, 1:-1, 1:-1] = tuple(bytes.fromhex(colours[city][1:]))
        tiles[row, column, edge:-edge, edge:-edge] = cv2.resize(picture, (inner, inner), interpolation=how)

    height, width, head = rows * cell, columns * cell, 0.35 * DPI
    whole = max(width, 4 * DPI)
    figure = Figure(figsize=(whole / DPI, (height + head) / DPI), dpi=DPI, facecolor="white")
    # One pixel of the tiles is one pixel of the PNG.
    axes = style.bare(figure.add_axes((0, 0, width / whole, height / (height + head))))
    axes.imshow(tiles.swapaxes(1, 2).reshape(height, width, 3), interpolation="none", aspect="auto")
    marks = [Patch(color=colour, label=style.plain(city)) for city, colour in colours.items()]
    figure.legend(handles=marks, loc="upper left", ncols=len(marks), fontsize=NORMAL, frameon=False, borderaxespad=0.2)
    return figure


def grid_shape(count: int) -> tuple[int, int]:
    """Return rows and columns of a grid, a third wider than high, with at least half as many cells again as `count`."""
    cells = max(1, int(np.ceil(1.5 * count)))
    columns = int(np.ceil(np.sqrt(cells * 4 / 3)))
    return int(np.ceil(cells / columns)), columns


def grid_cells(places: NDArray[np.floating], rows: int, columns: int) -> NDArray[np.intp]:
    """Return (N, 2) row and column of one cell per place, by the assignment with the least total squared distance.

    Args:
        places: (N, 2) in any unit, N at most rows times columns; they are stretched to fill the grid, y upwards.
        rows: rows of the grid.
        columns: columns of the grid.
    """
    if not len(places):
        return np.empty((0, 2), np.intp)
    low, high = places.min(axis=0), places.max(axis=0)
    spread = (places - low) / np.where(high > low, high - low, 1)
    wanted = np.stack([(1 - spread[:, 1]) * (rows - 1), spread[:, 0] * (columns - 1)], axis=1)
    cells = np.stack(np.unravel_index(np.arange(rows * columns), (rows, columns)), axis=1)
    cost = ((wanted[:, None] - cells[None]) ** 2).sum(axis=2)
    return cells[linear_sum_assignment(cost)[1]]
