"""The command that draws a contact sheet: views of each city of a world beside their label maps."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import yaml
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from streetscenes.view import Scene
from streetscenes.world import LABELS, MOST, World, read_world

_COLOURS = (
    "indianred lightskyblue forestgreen dimgrey yellowgreen lightgrey red burlywood navy saddlebrown gold rebeccapurple "
    "deeppink black"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the contact sheet that the command line asks for."""
    parser = argparse.ArgumentParser("python -m streetscenes", description="Draw a contact sheet of a world's cities.")
    parser.add_argument("world", type=Path, help="world file to read, such as worlds/default.yaml")
    parser.add_argument("sheet", type=Path, help="PNG file to write")
    parser.add_argument("--spots", type=int, default=4, help="number of spots per city (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    parser.add_argument("--without", nargs="+", default=(), metavar="OBJECT", help=f"remove any of {', '.join(MOST)}")
    options = parser.parse_args(arguments)
    if options.spots < 1:
        parser.error(f"--spots must be 1 or more, not {options.spots}")
    try:
        world = read_world(yaml.safe_load(options.world.read_text()))
        contact_sheet(world, options.spots, options.seed, options.without).savefig(options.sheet, format="png")
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(str(error))


def contact_sheet(world: World, spots: int, seed: int, without: Collection[str] = ()) -> Figure:
    """Return a figure with one row per spot, from 0 on, and a column of views and one of label maps per city.

    The headings of the rows are 0, 90, 180 and 270 degrees in turn. The legend names the objects in view.

    Raises ValueError for an object that cannot be removed and a seed outside 0 to 2**32 - 1.
    """
    figure = Figure(figsize=(6.75 * len(world.cities), 2.55 * spots + 0.9), dpi=100, layout="compressed")
    axes = figure.subplots(spots, 2 * len(world.cities), squeeze=False)
    palette, seen = np.zeros((151, 3)), set()
    palette[list(LABELS.values())] = [to_rgb(colour) for colour in _COLOURS.split()]
    for column, city in enumerate(world.cities):
        axes[0, 2 * column].set_title(f"{city}: view")
        axes[0, 2 * column + 1].set_title(f"{city}: label map")
        for spot in range(spots):
            heading = 90 * spot % 360
            scene = Scene(world, city, spot, width=320, height=240, seed=seed)
            picture, labels = scene.view(heading, without)
            seen |= set(np.unique(labels).tolist())
            axes[spot, 2 * column].imshow(picture)
            axes[spot, 2 * column + 1].imshow(palette[labels], interpolation="nearest")
            axes[spot, 0].set_ylabel(f"spot {spot}, heading {heading}°")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    handles = [Patch(color=palette[label], label=name) for name, label in LABELS.items() if label in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=7)
    return figure


if __name__ == "__main__":
    main()
