"""Figures that compare the trained networks: R (fig. 5), AR (table 2 and all pairs), training curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from citylens.nets.names import network_title, split_key
from citylens.report import figure_style as style
from citylens.report.figure_style import BAND, FAINT, INK, NORMAL, SMALL, WIDTH
from citylens.report.labels import keys_by_network, object_name, trained_name

KINDS = {"architecture": ("two architectures", "#333333"), "retrained": ("one architecture, trained twice", "#E69F00")}
"""Name and colour of each kind of pair."""
DASHED = (0, (3, 2))


def object_ratio(table: pd.DataFrame, cities: Sequence[str], keys: Sequence[str]) -> Figure:
    """Draw figure 5: R of the kept objects by falling frequency, one panel per city, one bar per trained network.

    The black line across a bar is chance, the R expected with the explanations of other images of the city; the grey line along it
    is the 95 % interval of R.

    Args:
        table: city, network, seed, object, ratio, low, high, chance, mean_pixels, kept; one row per city, network, seed, object.
        cities: cities in the order of their panels.
        keys: trained networks in the order of their bars.
    """
    kept = table[table["kept"] == 1]
    frequency = table[table["object"].isin(kept["object"])].groupby("object")["mean_pixels"].mean()
    objects = frequency.sort_values(ascending=False, kind="stable").index.tolist()
    figure = style.new_figure(WIDTH, 2.5 * len(cities) + 1.2)
    panels = figure.subplots(len(cities), 1, squeeze=False, sharex=True, sharey=True).ravel()
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(objects) > 9 else {}
    panels[-1].set_xticks(range(len(objects)), [style.plain(object_name(name)) for name in objects], **slanted)
    for axes, city in zip(panels, cities, strict=True):
        style.polish(axes, city, y="R").tick_params(axis="x", length=0, labelsize=NORMAL)
        _bars(axes, table[table["city"] == city], objects, keys)
        _mark_exclusive(axes, city, kept.groupby("object")["city"].unique()[objects], len(cities))
    panels[-1].set_xlim(-0.5, max(len(objects), 1) - 0.5)
    highest = kept[["ratio", "high", "chance"]].max(axis=None)
    panels[-1].set_ylim(0, min(1.0, np.ceil((highest + 0.02) * 10) / 10) if highest > 0 else 1.0)

    square: dict[str, Any] = {"marker": "s", "linestyle": "", "markersize": 8}
    colours, networks = style.network_colours(keys), keys_by_network(keys)
    marks = [Line2D([], [], color=colours[key], label=trained_name(key), **square) for key in keys]
    marks.append(Line2D([], [], color=INK, linewidth=1.4, label="chance"))
    marks.append(Line2D([], [], color=FAINT, linewidth=0.8, label="95 % interval"))
    # The columns fill from the left; blank entries in the last one give each network a column of its own.
    marks += [Line2D([], [], linestyle="", label=" ")] * (max(map(len, networks.values())) - 2)
    style.add_legend(figure, marks, len(networks) + 1, SMALL)
    return figure


def _bars(axes: Axes, table: pd.DataFrame, objects: Sequence[str], keys: Sequence[str]) -> None:
    width, colours = 0.86 / len(keys), style.network_colours(keys)
    for place, key in enumerate(keys):
        network, seed = split_key(key)
        own = table[(table["network"] == network) & (table["seed"] == seed)]
        kept = own[own["kept"] == 1].set_index("object")[["ratio", "low", "high", "chance"]].reindex(objects)
        left = np.arange(len(objects)) - 0.43 + place * width
        axes.bar(left, kept["ratio"], width, align="edge", color=colours[key], edgecolor="white", linewidth=0.3)
        axes.vlines(left + width / 2, kept["low"], kept["high"], color=FAINT, linewidth=0.8)
        axes.hlines(kept["chance"], left, left + width, color=INK, linewidth=1.1)


def _mark_exclusive(axes: Axes, city: str, kept: pd.Series, cities: int) -> None:
    """Mark the objects that only other cities keep, and those that this city alone keeps; `kept` has each object's cities."""
    note: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "fontsize": SMALL - 1}
    for place, own in enumerate(kept):
        if city not in own:
            axes.axvspan(place - 0.46, place + 0.46, color=BAND, linewidth=0)
            axes.text(place, 0.5, "too rare", rotation=90, va="center", color=FAINT, **note)
        elif len(own) == 1 < cities:
            axes.text(place, 1.0, "only\nhere", va="bottom", color=INK, **note)
            axes.set_title(axes.get_title("left"), fontsize=NORMAL, loc="left", pad=24)


def table2(rows: pd.DataFrame) -> Figure:
    """Draw table 2 as points: the average AR of each pair, beside the paper's.

    Args:
        rows: pair, kind (architecture or retrained), residual with its interval low to high, swapped (chance), residual_alive,
            dead, paper; NaN for a missing number.
    """
    figure = style.new_figure(WIDTH * 0.8, 0.34 * len(rows) + 1.3)
    axes = style.polish(figure.subplots(), x="average AR (0: the same mask; 1: nothing in common)")
    colours = np.array([KINDS[kind][1] for kind in rows["kind"]])
    heights, some = -np.arange(len(rows)), (rows["dead"] > 0).to_numpy()
    axes.hlines(heights, rows["paper"], rows["residual"], color="#bbbbbb", linewidth=1.2, zorder=1)
    axes.scatter(rows["paper"], heights, marker="D", s=36, facecolor="white", edgecolor=FAINT, zorder=2)
    axes.hlines(heights, rows["low"], rows["high"], colors=colours.tolist(), linewidth=2, zorder=3)
    axes.scatter(rows["swapped"], heights, marker="x", s=36, color=INK, linewidth=1.2, zorder=3)
    axes.scatter(rows["residual_alive"][some], heights[some], marker="|", s=90, c=colours[some], zorder=3)
    axes.scatter(rows["residual"], heights, s=52, c=colours, zorder=4)
    axes.set_yticks(heights, [style.plain(pair) for pair in rows["pair"]])
    axes.tick_params(axis="y", length=0, labelsize=NORMAL)
    highest = np.nanmax(
        rows[["residual", "high", "swapped", "residual_alive", "paper"]].to_numpy(dtype=float), initial=0.1
    )
    axes.set_xlim(0, min(1.0, float(highest) * 1.08))
    axes.grid(axis="x", color=BAND)
    axes.set_axisbelow(True)
    marks = []
    for kind, own in rows.groupby("kind"):
        name, colour = KINDS[str(kind)]
        axes.axvline(own["residual"].mean(), color=colour, linestyle=":", linewidth=1.2, zorder=0)
        marks.append(Line2D([], [], marker="o", linestyle=":", color=colour, label=f"{name} (dotted: mean)"))
    marks.append(Line2D([], [], marker="x", linestyle="", color=INK, label="chance: masks of other images"))
    if some.any():
        marks.append(Line2D([], [], marker="|", linestyle="", markersize=9, color=INK, label="without dead masks"))
    hollow: dict[str, Any] = {"marker": "D", "linestyle": "", "markerfacecolor": "white", "markeredgecolor": FAINT}
    marks.append(Line2D([], [], label="the paper, Tokyo and Pittsburgh", **hollow))
    style.add_legend(figure, marks, 2, SMALL)
    return figure


def all_pairs(table: pd.DataFrame, keys: Sequence[str]) -> Figure:
    """Draw the average AR of every two trained networks as a matrix.

    Args:
        table: first, second (keys of trained networks), residual; each unordered pair once.
        keys: trained networks in the order of rows and columns.
    """
    grid = pd.DataFrame(np.nan, index=list(keys), columns=list(keys))
    for first, second, value in zip(table["first"], table["second"], table["residual"], strict=True):
        grid.loc[first, second] = grid.loc[second, first] = value
    values, names = grid.to_numpy(), [trained_name(key) for key in keys]
    side = min(WIDTH * 0.8, 0.72 * len(keys) + 2.2)
    figure = style.new_figure(side, side * 0.9)
    axes = style.polish(figure.subplots())
    top = float(np.nanmax(values, initial=0.0)) or 1.0
    image = axes.imshow(values, cmap="cividis_r", vmin=0, vmax=top)
    font = NORMAL if len(keys) <= 10 else max(4.0, NORMAL * 10 / len(keys))
    _write(axes, values, lambda value: f"{value:.3f}"[1:], values > 0.55 * top, font)
    axes.set_xticks(range(len(keys)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(keys)), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    ends = np.cumsum([len(own) for own in keys_by_network(keys).values()])[:-1] - 0.5
    axes.hlines(ends, -0.5, len(keys) - 0.5, color="white", linewidth=4)
    axes.vlines(ends, -0.5, len(keys) - 0.5, color="white", linewidth=4)
    figure.colorbar(image, ax=axes, shrink=0.6, label="average AR").outline.set_visible(False)
    return figure


def _write(axes: Axes, values: NDArray[Any], text: Callable[[float], str], dark: NDArray[Any], size: float) -> None:
    """Write each known value into its cell, white if the cell is dark."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if dark[row, column] else INK
            axes.text(column, row, text(value), fontsize=size, color=colour, ha="center", va="center")


def curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw loss and accuracy over the epochs: one column per network, training dashed, validation solid.

    Args:
        histories: for each trained network's key: epoch, training_loss, validation_loss, training_accuracy, validation_accuracy.
    """
    networks, colours = keys_by_network(histories), style.network_colours(histories)
    figure = style.new_figure(WIDTH, 4.6)
    panels = figure.subplots(2, len(networks), squeeze=False, sharex=True, sharey="row")
    for column, (network, keys) in zip(panels.T, networks.items(), strict=True):
        for axes, measure, title in zip(column, ("loss", "accuracy"), (network_title(network), ""), strict=True):
            style.polish(axes, title, "epoch", measure).label_outer()
            axes.grid(color=BAND)
            for key in keys:
                table, colour, dots = histories[key], colours[key], "o" if len(histories[key]) < 12 else None
                look: dict[str, Any] = {"marker": dots, "markersize": 3.5, "label": f"seed {split_key(key)[1]}"}
                axes.plot(table["epoch"], table[f"training_{measure}"], color=colour, linestyle=DASHED, linewidth=1.3)
                axes.plot(table["epoch"], table[f"validation_{measure}"], color=colour, linewidth=1.8, **look)
        column[0].legend(fontsize=SMALL - 1, frameon=False, handlelength=1.2)
    kinds = [Line2D([], [], color=FAINT, label="validation")]
    kinds.append(Line2D([], [], color=FAINT, linestyle=DASHED, label="training"))
    figure.legend(handles=kinds, fontsize=SMALL - 1, frameon=False, loc="outside upper right", ncols=2)
    panels[0, 0].set_ylim(bottom=0)
    panels[1, 0].set_ylim(top=1.02)
    panels[1, 0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def confusion(tables: Mapping[str, pd.DataFrame], cities: Sequence[str]) -> Figure:
    """Draw the confusion matrices of the test images: one column per network, one row per seed; shade: share of the row.

    Args:
        tables: for each trained network's key: actual, predicted, images. All networks have the same number of seeds.
        cities: cities in the order of rows and columns.
    """
    columns = len(keys_by_network(tables))
    rows = len(tables) // columns
    side = min(WIDTH / columns, 1.7 + 0.35 * len(cities))
    figure = style.new_figure(side * columns, side * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    names, places, few = [style.plain(city) for city in cities], range(len(cities)), len(cities) < 4
    for axes, (key, table) in zip(panels.T.flat, tables.items(), strict=True):
        counts = table.pivot_table(index="actual", columns="predicted", values="images", aggfunc="sum", fill_value=0)
        grid = counts.reindex(index=list(cities), columns=list(cities), fill_value=0).to_numpy()
        shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)
        style.bare(axes, trained_name(key)).imshow(shares, cmap="Greys", vmin=-0.03, vmax=1.2)
        _write(axes, grid, "{:,}".format, shares > 0.6, NORMAL)
        axes.set_yticks(places, names, rotation=90 if few else 0, va="center", fontsize=SMALL)
        axes.set_xticks(places, names, rotation=0 if few else 40, ha="center" if few else "right", fontsize=SMALL)
        axes.set_ylabel("actual", fontsize=SMALL, color=FAINT)
        axes.set_xlabel("predicted", fontsize=SMALL, color=FAINT)
        axes.tick_params(length=0)
        axes.label_outer()
    return figure
