"""Figures that set networks side by side: AR (table 2 and all pairs), training curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from citylens.science import figures
from citylens.science.figures import BAND, FAINT, INK, NORMAL, SMALL, WIDTH
from citylens.science.paper import NAMES

GROUPS = {"architecture": "#333333", "retrained": "#E69F00"}
DASHED = (0, (3, 2))


def table2(rows: pd.DataFrame) -> Figure:
    """Table 2 as points: average AR of each pair, and the paper's.

    Args:
        rows: pair, kind (architecture or retrained), residual, residual_alive, dead, paper; NaN where there is none.
    """
    figure = figures.figure(WIDTH * 0.8, 0.34 * len(rows) + 1.3)
    axes = figures.polish(figure.subplots(), x="average AR (0: the same mask; 1: nothing in common)")
    colours = [GROUPS[kind] for kind in rows["kind"]]
    heights = -np.arange(len(rows))
    axes.hlines(heights, rows["paper"], rows["residual"], color="#bbbbbb", linewidth=1.2, zorder=1)
    axes.scatter(rows["paper"], heights, marker="D", s=36, facecolor="white", edgecolor=FAINT, zorder=2)
    some = rows["dead"] > 0
    axes.scatter(rows["residual_alive"][some], heights[some], marker="|", s=90, c=np.array(colours)[some], zorder=3)
    axes.scatter(rows["residual"], heights, s=52, c=colours, zorder=4)
    for kind, colour in GROUPS.items():
        axes.axvline(
            rows.loc[rows["kind"] == kind, "residual"].mean(), color=colour, linestyle=":", linewidth=1.2, zorder=0
        )
    axes.set_yticks(heights, [figures.plain(pair) for pair in rows["pair"]])
    axes.tick_params(axis="y", length=0, labelsize=NORMAL)
    highest = np.nanmax(rows[["residual", "residual_alive", "paper"]].to_numpy(dtype=float), initial=0.1)
    axes.set_xlim(0, min(1.0, float(highest) * 1.08))
    axes.grid(axis="x", color=BAND)
    axes.set_axisbelow(True)
    _pair_legend(figure, set(rows["kind"]), bool(some.any()))
    return figure


def _pair_legend(figure: Figure, kinds: set[str], some_dead: bool) -> None:
    texts = {"architecture": "two architectures", "retrained": "one architecture, trained twice"}
    marks = [
        Line2D([], [], marker="o", linestyle=":", color=GROUPS[kind], label=f"{texts[kind]} (dotted: mean)")
        for kind in GROUPS
        if kind in kinds
    ]
    if some_dead:
        marks.append(Line2D([], [], marker="|", linestyle="", markersize=9, color=INK, label="without dead masks"))
    marks.append(
        Line2D(
            [],
            [],
            marker="D",
            linestyle="",
            markerfacecolor="white",
            markeredgecolor=FAINT,
            label="the paper, Tokyo and Pittsburgh",
        )
    )
    figure.legend(handles=marks, loc="outside upper left", ncols=2, fontsize=SMALL, frameon=False)


def all_pairs(table: pd.DataFrame, keys: Sequence[str]) -> Figure:
    """Average AR of every two runs as a matrix.

    Args:
        table: first, second (runs' keys), residual; each unordered pair once.
    """
    grid = pd.DataFrame(np.nan, index=list(keys), columns=list(keys))
    for first, second, value in zip(table["first"], table["second"], table["residual"], strict=True):
        grid.loc[first, second] = grid.loc[second, first] = value
    side = min(WIDTH * 0.8, 0.72 * len(keys) + 2.2)
    figure = figures.figure(side, side * 0.9)
    axes = figures.polish(figure.subplots())
    top = float(np.nanmax(grid.to_numpy(), initial=0.0)) or 1.0
    image = axes.imshow(grid.to_numpy(), cmap="cividis_r", vmin=0, vmax=top)
    font = NORMAL if len(keys) <= 10 else max(4.0, NORMAL * 10 / len(keys))
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        if np.isfinite(value):
            axes.text(
                column,
                row,
                f"{value:.3f}"[1:],
                ha="center",
                va="center",
                fontsize=font,
                color="white" if value > 0.55 * top else INK,
            )
    names = [figures.run_name(key) for key in keys]
    axes.set_xticks(range(len(keys)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(keys)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    ends = np.cumsum([len(seeds) for seeds in figures.seeds_by_network(keys).values()])[:-1] - 0.5
    axes.hlines(ends, -0.5, len(keys) - 0.5, color="white", linewidth=4)
    axes.vlines(ends, -0.5, len(keys) - 0.5, color="white", linewidth=4)
    figure.colorbar(image, ax=axes, shrink=0.6, label="average AR").outline.set_visible(False)
    return figure


def curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss and accuracy over the epochs: a column a network, training dashed, validation solid.

    Args:
        histories: run's key -> epoch, training_loss, validation_loss, training_accuracy, validation_accuracy.
    """
    seeds = figures.seeds_by_network(list(histories))
    figure = figures.figure(WIDTH, 4.6)
    panels = figure.subplots(2, len(seeds), squeeze=False, sharex=True, sharey="row")
    for column, (network, numbers) in enumerate(seeds.items()):
        for row, measure in enumerate(("loss", "accuracy")):
            axes = figures.polish(panels[row, column], NAMES[network] if row == 0 else "", y="" if column else measure)
            for place, seed in enumerate(numbers):
                colour = figures.run_colour(network, place, len(numbers))
                _history(axes, histories[f"{network}-{seed}"], measure, colour, f"seed {seed}")
            axes.grid(color=BAND)
            axes.set_axisbelow(True)
        panels[0, column].legend(fontsize=SMALL - 1, frameon=False, handlelength=1.2)
        panels[1, column].set_xlabel("epoch", fontsize=SMALL)
    kinds = [
        Line2D([], [], color=FAINT, label="validation"),
        Line2D([], [], color=FAINT, linestyle=DASHED, label="training"),
    ]
    figure.legend(handles=kinds, fontsize=SMALL - 1, frameon=False, loc="outside upper right", ncols=2)
    panels[0, 0].set_ylim(bottom=0)
    panels[1, 0].set_ylim(top=1.02)
    panels[1, 0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _history(axes: Axes, table: pd.DataFrame, measure: str, colour: tuple[float, float, float], name: str) -> None:
    mark = "o" if len(table) < 12 else None
    axes.plot(table["epoch"], table[f"training_{measure}"], color=colour, linestyle=DASHED, linewidth=1.3)
    axes.plot(
        table["epoch"],
        table[f"validation_{measure}"],
        color=colour,
        linewidth=1.8,
        marker=mark,
        markersize=3.5,
        label=name,
    )


def confusion(tables: Mapping[str, pd.DataFrame], cities: Sequence[str]) -> Figure:
    """Confusion matrices of the test images: a column a network, a row a seed; shade: share of the row.

    Args:
        tables: run's key -> actual, predicted, images.
    """
    seeds = figures.seeds_by_network(list(tables))
    rows = max(len(numbers) for numbers in seeds.values())
    side = min(WIDTH / len(seeds), 1.7 + 0.35 * len(cities))
    figure = figures.figure(side * len(seeds), side * rows)
    panels = figure.subplots(rows, len(seeds), squeeze=False)
    for column, (network, numbers) in enumerate(seeds.items()):
        for row in range(rows):
            if row < len(numbers):
                key = f"{network}-{numbers[row]}"
                _matrix(
                    panels[row, column],
                    tables[key],
                    cities,
                    figures.run_name(key),
                    first=column == 0,
                    last=row == rows - 1,
                )
            else:
                panels[row, column].set_axis_off()
    return figure


def _matrix(axes: Axes, table: pd.DataFrame, cities: Sequence[str], title: str, *, first: bool, last: bool) -> None:
    counts = table.pivot_table(index="actual", columns="predicted", values="images", aggfunc="sum", fill_value=0)
    grid = counts.reindex(index=list(cities), columns=list(cities), fill_value=0).to_numpy()
    shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)
    figures.bare(axes, title).imshow(shares, cmap="Greys", vmin=-0.03, vmax=1.2)
    for (row, column), count in np.ndenumerate(grid):
        axes.text(
            column,
            row,
            f"{count:,}",
            ha="center",
            va="center",
            fontsize=NORMAL,
            color="white" if shares[row, column] > 0.6 else INK,
        )
    names, places = [figures.plain(city) for city in cities], range(len(cities))
    if first:
        axes.set_yticks(places, names, rotation=90 if len(cities) < 4 else 0, va="center", fontsize=SMALL)
        axes.set_ylabel("actual", fontsize=SMALL, color=FAINT)
    if last:
        axes.set_xticks(
            places,
            names,
            rotation=0 if len(cities) < 4 else 40,
            ha="center" if len(cities) < 4 else "right",
            fontsize=SMALL,
        )
        axes.set_xlabel("predicted", fontsize=SMALL, color=FAINT)
    axes.tick_params(length=0)
