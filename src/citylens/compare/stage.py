"""compare: compute how far the masks of any two trained networks differ, AR (paper, eq. 2).

Reads data/explain/KEY of all networks. Writes data/compare/residuals.parquet, one row per image and pair, and to reports/compare:
residual.csv (the rows of the paper's table 2, with its values), all_pairs.csv and scores.json. Run alone: `citylens compare`. Costs
2 ms per image with eight networks at 112 px, and grows with the square of their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.compare import residual
from citylens.io import files
from citylens.io.logged import Logged
from citylens.nets import masks, paper
from citylens.nets.names import key, network_title, split_key
from citylens.nets.shards import shards
from citylens.settings.schema import Settings, Study

EXPLAINED, REPORTS = Path("data/explain"), Path("reports/compare")
SHARD = 128  # images
PAIR = ["first", "second"]


def run(settings: Settings) -> None:
    """Compute AR of every two trained networks."""
    study = settings.study
    names = [key(*trained) for trained in study.trained]
    indexes = {name: files.read_table(EXPLAINED / name / "index.csv", ["id", "city", "dead"]) for name in names}
    maps = {name: files.open_array(EXPLAINED / name / "masks.npy") for name in names}

    sums = []
    with files.growing_table("data/compare/residuals.parquet") as append:
        for residuals in _residuals(indexes, maps, settings.prepare.size):
            append(residuals)
            sums.append(_summed(residuals))
    pairs = _means(pd.concat(sums).groupby(PAIR).sum().loc[list(combinations(names, 2))].reset_index())
    table2 = _table2(pairs, study)

    files.write_table(REPORTS / "all_pairs.csv", pairs)
    files.write_table(REPORTS / "residual.csv", table2)
    dead = {name: int(index["dead"].sum()) for name, index in indexes.items()}
    files.write_json(REPORTS / "scores.json", _scores(pairs, table2) | {"dead": dead})


def _residuals(indexes: dict[str, pd.DataFrame], maps: dict[str, np.ndarray], size: int) -> Iterator[pd.DataFrame]:
    """Yield AR of each image and pair of networks, one table per shard."""
    images = next(iter(indexes.values()))[["id", "city"]]
    for part in shards(len(images), SHARD):
        weighted = {name: masks.normalise(values[part], size) for name, values in maps.items()}
        pieces = []
        for first, second in combinations(maps, 2):
            values = residual.residual(weighted[first], weighted[second])
            dead = indexes[first]["dead"][part] | indexes[second]["dead"][part]
            pieces.append(images[part].assign(first=first, second=second, residual=values, dead=dead))
        yield pd.concat(pieces)


def _summed(residuals: pd.DataFrame) -> pd.DataFrame:
    """Return per pair the numbers of images and of those with a dead mask, int64, and the sums of AR, float64."""
    alive = residuals["residual"].where(residuals["dead"] == 0, 0.0)
    sums = residuals.assign(images=1, sum=residuals["residual"], sum_alive=alive)
    return sums.groupby(PAIR, as_index=False)[["images", "dead", "sum", "sum_alive"]].sum()


def _means(sums: pd.DataFrame) -> pd.DataFrame:
    """Return each pair's kind and mean AR, of all images and of those without a dead mask (NaN if none is left)."""
    kinds = [residual.kind(split_key(first), split_key(second)) for first, second in sums[PAIR].to_numpy()]
    means, alive = sums["sum"] / sums["images"], sums["sum_alive"] / (sums["images"] - sums["dead"])
    return sums[PAIR].assign(kind=kinds, residual=means, residual_alive=alive, images=sums["images"], dead=sums["dead"])


def _table2(pairs: pd.DataFrame, study: Study) -> pd.DataFrame:
    values, rows = pairs.set_index(PAIR), []
    for first, second in residual.table2_pairs(study.networks, study.seeds):
        names, architectures = (key(*first), key(*second)), (first[0], second[0])
        title = "-".join(network_title(name) for name in architectures)
        row = {"pair": title + (" retrained" if first[0] == second[0] else ""), "first": names[0], "second": names[1]}
        published = paper.RESIDUALS.get(architectures, paper.RESIDUALS.get(architectures[::-1]))
        rows.append(row | values.loc[names].to_dict() | {"paper": published})
    table = pd.DataFrame(rows, columns=["pair", *pairs.columns, "paper"])
    return table.replace({"kind": {"initialisation": "retrained"}})


def _scores(pairs: pd.DataFrame, table2: pd.DataFrame) -> dict[str, object]:
    scores = {f"between_{kind}s": mean for kind, mean in pairs.groupby("kind")["residual"].mean().items()}
    if "between_architectures" in scores and scores.get("between_initialisations"):
        scores["ratio"] = scores["between_architectures"] / scores["between_initialisations"]
    return scores | {"table2": dict(zip(table2["pair"], table2["residual"], strict=True))}


def logged() -> Logged:
    """Return the mean AR of each row of table 2 and of each kind of pair, and both tables."""
    scores = files.read_json(REPORTS / "scores.json")
    metrics = {name: value for name, value in scores.items() if isinstance(value, float)}
    metrics |= {f"AR {pair}": value for pair, value in scores["table2"].items()}
    networks = {name: {"dead_masks": float(count)} for name, count in scores["dead"].items()}
    tables = (REPORTS / "residual.csv", REPORTS / "all_pairs.csv")
    return Logged(metrics=metrics, networks=networks, tables=tables, splits=("test",))
