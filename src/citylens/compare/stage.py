"""compare: compute how far the masks of any two trained networks differ, AR (paper, eq. 2), and what chance would give.

Reads data/explain/KEY of all networks. Writes data/compare/residuals.parquet, one row per image and pair, and to reports/compare:
residual.csv (the rows of the paper's table 2, with its values), all_pairs.csv, tests.json (is the architecture what matters?) and
scores.json. Run alone: `citylens compare`. Costs 4 ms per image with eight networks at 97 px, and grows with the square of their
number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from citylens.compare import mask_grids, pairs, residual
from citylens.engine import map_shards
from citylens.io import files, progress
from citylens.io.logged import Logged
from citylens.nets import masks, paper
from citylens.nets.names import key, network_title
from citylens.nets.shards import shards
from citylens.settings.schema import Settings, Study
from citylens.stats.swaps import swapper

EXPLAINED, REPORTS = Path("data/explain"), Path("reports/compare")
SHARD = 128  # images
IMAGE = ["id", "city", "spot", "heading"]
KINDS = tuple(pairs.ON_GRID)
Grids = dict[str, dict[str, np.ndarray]]
Values = dict[tuple[str, str], dict[str, np.ndarray]]


def run(settings: Settings) -> None:
    """Compute AR of every two trained networks."""
    names = [key(*trained) for trained in settings.study.trained]
    images = files.read_table(EXPLAINED / names[0] / "index.csv", IMAGE)[IMAGE]
    dead = {name: files.read_table(EXPLAINED / name / "index.csv", ["dead"])["dead"].to_numpy() for name in names}
    values, grids = _values(names, len(images), settings)
    on_grid = _on_grid(grids, *_swaps(images, settings.compare.swaps), settings)
    for pair, own in values.items():
        own["swapped"] = on_grid[pair]["swapped"]
    table = pairs.means(images, dead, values, on_grid)
    with files.growing_table("data/compare/residuals.parquet") as append:
        for (first, second), own in values.items():
            pair = images[["id", "city", "spot"]].assign(first=first, second=second, **own)
            append(pair.assign(dead=dead[first] | dead[second]))
    table2 = _table2(table, settings.study)

    files.write_table(REPORTS / "all_pairs.csv", table)
    files.write_table(REPORTS / "residual.csv", table2)
    files.write_json(REPORTS / "tests.json", pairs.tests(table, grids, settings.study.trained))
    counts = {name: int(own.sum()) for name, own in dead.items()}
    files.write_json(REPORTS / "scores.json", _scores(table, table2) | {"dead": counts})


def _values(names: list[str], images: int, settings: Settings) -> tuple[Values, Grids]:
    """Return what is computed of each pair's masks at full size, each (N,), by pair; and all masks on the grid."""
    values: Values = {}
    grids = {kind: {name: files.scratch_array((images, masks.GRID**2), "float32") for name in names} for kind in KINDS}
    for part, (own, cells) in _mapped("compare", _comparing, (names, settings), images, settings):
        _fill(values, own, part, images)
        for kind, name in product(KINDS, names):
            grids[kind][name][part] = cells[kind][name]
    return values, grids


def _on_grid(grids: Grids, swaps: list[np.ndarray], places: np.ndarray, settings: Settings) -> Values:
    """Return AR of each pair's masks on the grid and after swaps, before and after training, each (N,), by pair."""
    values: Values = {}
    for part, own in _mapped("compare: chance", _swapping, (grids, swaps, places), len(places), settings):
        _fill(values, own, part, len(places))
    return values


def _mapped(
    title: str, start: Callable[..., Any], given: tuple[Any, ...], images: int, settings: Settings
) -> Iterator[tuple[slice, Any]]:
    parts = shards(images, SHARD)
    with progress.bar(title, images) as advance:
        for part, found in zip(parts, map_shards(start, given, parts, settings.engine), strict=True):
            yield part, found
            advance(part.stop - part.start)


def _fill(values: Values, own: Values, part: slice, images: int) -> None:
    """Put a shard's values of each pair into the arrays of all images."""
    for pair, measures in own.items():
        if pair not in values:
            of_all = files.scratch_array((len(measures), images), "float64")
            values[pair] = dict(zip(measures, of_all, strict=True))
        for name, found in measures.items():
            values[pair][name][part] = found


def _comparing(names: list[str], settings: Settings) -> Callable[[slice], tuple[Any, Any]]:
    """Return a function from a shard to its values of each pair and its masks on the grid, as `_values` returns them."""
    size, how, plan = settings.prepare.size, settings.explain.normalise, settings.measure
    maps, untrained = ({name: files.open_array(EXPLAINED / name / f"{kind}.npy") for name in names} for kind in KINDS)

    def compared(part: slice) -> tuple[Any, Any]:
        weighted = {name: masks.normalise(own[part], size, how) for name, own in maps.items()}
        inside = {name: masks.inside(own, plan.threshold, plan.explained) for name, own in weighted.items()}
        cells = {name: masks.cells(own) for name, own in weighted.items()}
        ranks = {name: masks.ranks(own) for name, own in cells.items()}
        values = {
            (first, second): residual.values(weighted[first], weighted[second], inside[first], inside[second])
            | {"rank_correlation": (ranks[first] * ranks[second]).sum(axis=1)}
            for first, second in combinations(names, 2)
        }
        plain = {name: masks.cells(masks.normalise(own[part], size, how)) for name, own in untrained.items()}
        return values, {"masks": cells, "untrained": plain}

    return compared


def _swapping(grids: Grids, swaps: list[np.ndarray], places: np.ndarray) -> Callable[[slice], Values]:
    """Return a function from a shard to what `_on_grid` returns of it."""

    def swapped(part: slice) -> Values:
        found: Values = {}
        for first, second in combinations(grids["masks"], 2):
            own: dict[str, np.ndarray] = {}
            for kind, (alone, exchanged) in pairs.ON_GRID.items():
                one, other = grids[kind][first], grids[kind][second]
                own[alone] = mask_grids.residual(one[part], other[part])
                own[exchanged] = mask_grids.swapped_residual(one, other, swaps, places, part)
            found[first, second] = own
        return found

    return swapped


def _swaps(images: pd.DataFrame, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the swaps of masks between images, and a number for each image's spot."""
    generator, spots = np.random.default_rng(0), images["spot"].astype(str)
    draw = swapper(images["city"], spots, images["heading"].to_numpy(float))
    return [draw(generator) for _ in range(count)], images.assign(spot=spots).groupby(
        ["city", "spot"]
    ).ngroup().to_numpy()


def _table2(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    values, rows = table.set_index(pairs.PAIR), []
    for first, second in residual.table2_pairs(study.networks, study.seeds):
        names, architectures = (key(*first), key(*second)), (first[0], second[0])
        title = "-".join(network_title(name) for name in architectures)
        row = {"pair": title + (" retrained" if first[0] == second[0] else ""), "first": names[0], "second": names[1]}
        published = paper.RESIDUALS.get(architectures, paper.RESIDUALS.get(architectures[::-1]))
        rows.append(row | values.loc[names].to_dict() | {"paper": published})
    table2 = pd.DataFrame(rows, columns=["pair", *table.columns, "paper"])
    return table2.replace({"kind": {"initialisation": "retrained"}})


def _scores(table: pd.DataFrame, table2: pd.DataFrame) -> dict[str, Any]:
    scores = {f"between_{kind}s": mean for kind, mean in table.groupby("kind")["residual"].mean().items()}
    if "between_architectures" in scores and scores.get("between_initialisations"):
        scores["ratio"] = scores["between_architectures"] / scores["between_initialisations"]
    scores |= {f"kappa_{kind}s": mean for kind, mean in table.groupby("kind")["kappa"].mean().dropna().items()}
    return scores | {"table2": dict(zip(table2["pair"], table2["residual"], strict=True))}


def logged() -> Logged:
    """Return the mean AR of each row of table 2 and of each kind of pair, how far that is from chance, and both tables."""
    scores, tests = files.read_json(REPORTS / "scores.json"), files.read_json(REPORTS / "tests.json")
    metrics = {name: value for name, value in scores.items() if isinstance(value, float)}
    metrics |= {f"AR {pair}": value for pair, value in scores["table2"].items()}
    metrics |= {f"p {name}": found["p"] for name, found in tests["trained"].items() if "p" in found}
    networks = {name: {"dead_masks": float(count)} for name, count in scores["dead"].items()}
    tables = (REPORTS / "residual.csv", REPORTS / "all_pairs.csv")
    return Logged(metrics=metrics, networks=networks, tables=tables, splits=("test",))
