"""What every figure of the report shares: colours, names and axes. The figures are in `charts` and `plates`.

Figures are made without pyplot, so nothing global is touched; fonts are those that come with matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from citylens.science.paper import NAMES

DPI = 150
WIDTH = 11.0
"""Inches; at the report's 1100 px a point is a little more than a pixel."""
INK, FAINT, BAND = "#222222", "#777777", "#eeeeee"
SMALL, NORMAL, LARGE = 8.5, 9.5, 11.0
"""Font sizes in points."""

_CITIES = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
)  # Okabe and Ito's, yellow and black left out
_NETWORKS = {"vgg11": "#332288", "resnet18": "#44AA99", "simple": "#DDAA33", "simpler": "#BB5566"}  # Paul Tol's


def city_colours(cities: Sequence[str]) -> dict[str, str]:
    """A colour for each city, distinct also to the colour-blind; from the seventh on they repeat."""
    return {city: _CITIES[place % len(_CITIES)] for place, city in enumerate(cities)}


def run_colour(network: str, place: int, places: int) -> tuple[float, float, float]:
    """RGB in [0, 1] of a network's `place`-th seed of `places`: its colour, the later the lighter."""
    red, green, blue = matplotlib.colors.to_rgb(_NETWORKS[network])
    light = 0.55 * place / max(places - 1, 1)
    return (red + (1 - red) * light, green + (1 - green) * light, blue + (1 - blue) * light)


def split_key(key: str) -> tuple[str, int]:
    """Network and seed of a run's key, such as vgg11-0."""
    network, _, seed = key.rpartition("-")
    return network, int(seed)


def run_name(key: str) -> str:
    """A run's key as the report writes it, such as `VGG11, seed 0`."""
    network, seed = split_key(key)
    return f"{NAMES[network]}, seed {seed}"


def seeds_by_network(keys: Sequence[str]) -> dict[str, list[int]]:
    """The seeds of each network, both in the order of the keys."""
    seeds: dict[str, list[int]] = {}
    for key in keys:
        network, seed = split_key(key)
        seeds.setdefault(network, []).append(seed)
    return seeds


def legend_names(seeds: Mapping[str, Sequence[int]]) -> list[str]:
    """The runs' keys, one network after the other."""
    return [f"{network}-{seed}" for network, numbers in seeds.items() for seed in numbers]


def object_name(name: str) -> str:
    """The first of an object's synonyms, which ADE20K parts by semicolons."""
    return str(name).split(";")[0].strip()


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return str(text).replace("$", r"\$")


def figure(width: float, height: float) -> Figure:
    """An empty figure in inches that finds room for its labels by itself."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def polish(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Axes without a box, with a title at the left and labels in one size."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=SMALL, color=FAINT, labelcolor=INK)
    axes.set_title(plain(title), fontsize=NORMAL, loc="left", color=INK)
    axes.set_xlabel(plain(x), fontsize=SMALL, color=INK)
    axes.set_ylabel(plain(y), fontsize=SMALL, color=INK)
    return axes


def bare(axes: Axes, title: str = "") -> Axes:
    """Axes that only hold a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(plain(title), fontsize=NORMAL, color=INK)
    return axes
