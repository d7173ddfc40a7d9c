"""Figures of tables about masks and objects: the scatter (fig. 3) and R (fig. 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from citylens.science import figures
from citylens.science.figures import BAND, FAINT, INK, NORMAL, SMALL, WIDTH


def scatter(embeddings: Mapping[str, pd.DataFrame], cities: Sequence[str]) -> Figure:
    """Figure 3: every mask a point in its city's colour, one panel a run.

    Args:
        embeddings: run's key -> table with city, x, y (any unit) and dead (0 or 1).
    """
    columns = min(4, len(embeddings))
    rows = -(-len(embeddings) // columns)
    side = WIDTH / max(columns, 2)
    figure = figures.figure(side * columns, side * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (key, table) in zip(panels, embeddings.items(), strict=False):
        _points(axes, table, cities)
        figures.bare(axes, figures.run_name(key))
        axes.set_box_aspect(1)
        axes.spines[:].set(visible=True, color=BAND)
    for axes in panels[len(embeddings) :]:
        axes.set_axis_off()
    _city_legend(figure, cities)
    return figure


def _points(axes: Axes, table: pd.DataFrame, cities: Sequence[str]) -> None:
    alive = table[(table["dead"] == 0) & table["x"].notna()]
    # In a fixed random order, so that no city lies on top.
    alive = alive.iloc[np.random.default_rng(0).permutation(len(alive))]
    colours = figures.city_colours(cities)
    size = float(np.clip(9000 / max(len(alive), 1), 1.5, 22))
    axes.scatter(alive["x"], alive["y"], s=size, c=[colours[city] for city in alive["city"]], alpha=0.75, linewidths=0)
    gone = len(table) - len(alive)
    if gone:
        axes.text(
            0.98, 0.02, f"{gone} dead, not shown", transform=axes.transAxes, ha="right", fontsize=SMALL - 1, color=FAINT
        )


def _city_legend(figure: Figure, cities: Sequence[str]) -> None:
    marks = [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=colour, label=figures.plain(city))
        for city, colour in figures.city_colours(cities).items()
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=len(cities), fontsize=NORMAL, frameon=False)


def object_ratio(table: pd.DataFrame, cities: Sequence[str], keys: Sequence[str]) -> Figure:
    """Figure 5: R of the kept objects, one panel a city, one bar a run, objects by falling frequency.

    A line across a run's bar is the share of all labelled pixels of the city that its explanations cover: R of every object
    if the explanations took no notice of objects.

    Args:
        table: city, network, seed, object, ratio, inside, total, mean_pixels, kept; a row a city, run and object.
    """
    objects = kept_objects(table)
    figure = figures.figure(WIDTH, 2.5 * len(cities) + 1.2)
    panels = figure.subplots(len(cities), 1, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, city in zip(panels, cities, strict=True):
        _bars(axes, table[table["city"] == city], objects, keys)
        figures.polish(axes, city, y="R")
    _mark_exclusive(panels, table, cities, objects)
    slanted = len(objects) > 9
    panels[-1].set_xticks(range(len(objects)), [figures.plain(figures.object_name(name)) for name in objects])
    for axes in panels:
        axes.tick_params(axis="x", length=0, labelsize=NORMAL, rotation=35 if slanted else 0)
    if slanted:
        for label in panels[-1].get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    panels[-1].set_xlim(-0.5, max(len(objects), 1) - 0.5)
    panels[-1].set_ylim(0, _ceiling(table))
    _run_legend(figure, keys)
    return figure


def kept_objects(table: pd.DataFrame) -> list[str]:
    """The objects that some city keeps, by falling mean pixels an image over all cities."""
    kept = table.loc[table["kept"] == 1, "object"].unique()
    frequency = table[table["object"].isin(kept)].groupby("object")["mean_pixels"].mean()
    return [str(name) for name in frequency.sort_values(ascending=False, kind="stable").index]


def explained_share(table: pd.DataFrame) -> float:
    """Share of a table's labelled pixels inside the explanations; NaN where none is labelled."""
    total = table["total"].sum()
    return float(table["inside"].sum() / total) if total else float("nan")


def _bars(axes: Axes, table: pd.DataFrame, objects: Sequence[str], keys: Sequence[str]) -> None:
    width = 0.86 / len(keys)
    kept = table[table["kept"] == 1]
    seeds = figures.seeds_by_network(keys)
    for place, key in enumerate(figures.legend_names(seeds)):
        network, seed = figures.split_key(key)
        own = (kept["network"] == network) & (kept["seed"] == seed)
        ratios = kept[own].set_index("object")["ratio"].reindex(objects)
        left = np.arange(len(objects)) - 0.43 + place * width
        colour = figures.run_colour(network, seeds[network].index(seed), len(seeds[network]))
        axes.bar(left, ratios.to_numpy(), width, align="edge", color=colour, edgecolor="white", linewidth=0.3)
        share = explained_share(table[(table["network"] == network) & (table["seed"] == seed)])
        shown = left[ratios.notna().to_numpy()]
        axes.hlines(np.full(len(shown), share), shown, shown + width, color=INK, linewidth=1.1)


def _mark_exclusive(panels: Iterable[Axes], table: pd.DataFrame, cities: Sequence[str], objects: Sequence[str]) -> None:
    kept = table[table["kept"] == 1].groupby("object")["city"].unique()
    for axes, city in zip(panels, cities, strict=True):
        style: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "fontsize": SMALL - 1}
        for place, name in enumerate(objects):
            if city not in kept[name]:
                axes.axvspan(place - 0.46, place + 0.46, color=BAND, linewidth=0)
                axes.text(place, 0.5, "too rare", rotation=90, va="center", color=FAINT, **style)
            elif len(kept[name]) == 1 < len(cities):
                axes.text(place, 1.0, "only\nhere", va="bottom", color=INK, **style)
                axes.set_title(axes.get_title("left"), fontsize=NORMAL, loc="left", pad=24)


def _ceiling(table: pd.DataFrame) -> float:
    highest = table.loc[table["kept"] == 1, "ratio"].max()
    return float(min(1.0, np.ceil((highest + 0.02) * 10) / 10)) if highest > 0 else 1.0


def _run_legend(figure: Figure, keys: Sequence[str]) -> None:
    seeds = figures.seeds_by_network(keys)
    marks = []
    for network, numbers in seeds.items():
        for place, seed in enumerate(numbers):
            colour = figures.run_colour(network, place, len(numbers))
            marks.append(
                Line2D(
                    [],
                    [],
                    marker="s",
                    linestyle="",
                    markersize=8,
                    color=colour,
                    label=figures.run_name(f"{network}-{seed}"),
                )
            )
    marks.append(Line2D([], [], color=INK, linewidth=1.4, label="share of all labelled pixels"))
    # Columns are filled from the left; with blanks in the last, each network has its own.
    marks += [Line2D([], [], linestyle="", label=" ")] * (max(map(len, seeds.values())) - 1)
    figure.legend(handles=marks, loc="outside upper left", ncols=len(seeds) + 1, fontsize=SMALL, frameon=False)
