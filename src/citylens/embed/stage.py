"""embed: place each network's masks in the plane by t-SNE, without dead masks, and of more than `embed.most` masks a random sample.

Reads data/explain/KEY of all networks and data/prepare. Writes data/embed/KEY/embedding.csv, one row per test image, and to
reports/embed how well neighbours agree (scores.json), and whether that is more than chance (purity.csv). Run alone: `citylens
embed`. Costs about 1 s per network with 200 masks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from citylens.embed import embedding, purity
from citylens.io import files
from citylens.io.logged import Logged
from citylens.nets.names import key
from citylens.nets.shards import shards
from citylens.settings.schema import Settings

EXPLAINED, PREPARED = Path("data/explain"), Path("data/prepare")
SCORES, PURITY = Path("reports/embed/scores.json"), Path("reports/embed/purity.csv")
SHARD = 1024  # images


def run(settings: Settings) -> None:
    """Place the masks of each trained network in the plane."""
    scores, purities = {}, []
    with files.whole_folder("data/embed") as folder:
        for trained in settings.study.trained:
            name = key(*trained)
            index = files.read_table(EXPLAINED / name / "index.csv", ["id", "city", "spot", "dead", "dead_untrained"])
            maps, untrained = (files.open_array(EXPLAINED / name / f"{kind}.npy") for kind in ("masks", "untrained"))
            table, scores[name] = _embed(index, maps, settings)
            files.write_table(folder / name / "embedding.csv", table)
            purities += _purities(name, index, maps, untrained, settings)
    every = _some(index["dead"] >= 0, settings)
    purities.append({"network": "", "of": "mean colour", **_purity(_colours()[every], index.iloc[every])})
    files.write_json(SCORES, scores)
    files.write_table(PURITY, pd.DataFrame(purities, columns=["network", "of", "purity", "chance", "p"]))


def _embed(index: pd.DataFrame, maps: np.ndarray, settings: Settings) -> tuple[pd.DataFrame, dict[str, float]]:
    alive = _some(index["dead"] == 0, settings)
    vectors = embedding.descriptors(maps[alive], settings.prepare.size, settings.explain.normalise)
    plan = settings.embed
    points = embedding.embed(
        vectors,
        components=plan.components,
        perplexity=plan.perplexity,
        iterations=plan.iterations,
        start=plan.start,
        seed=plan.seed,
    )
    table = index[["id", "city"]].assign(x=np.nan, y=np.nan, dead=index["dead"])
    table.loc[alive, ["x", "y"]] = points
    agreement, chance = embedding.neighbour_agreement(points, index["city"].to_numpy()[alive])
    scores = {"neighbour_agreement": agreement, "chance": chance} if len(alive) > 1 else {}
    return table, scores | {"masks": len(alive)}


def _some(wanted: pd.Series, settings: Settings) -> np.ndarray:
    """Return the rows that are wanted, or so many of them as `embed.most` allows, drawn by chance, in order."""
    rows, generator = np.flatnonzero(wanted), np.random.default_rng(settings.embed.seed)
    return np.sort(generator.choice(rows, min(len(rows), settings.embed.most), replace=False))


def _purities(
    name: str, index: pd.DataFrame, maps: np.ndarray, untrained: np.ndarray, settings: Settings
) -> list[dict[str, Any]]:
    """Return the purity of a network's masks, of their areas alone, and of the masks before training."""
    rows: list[dict[str, Any]] = []
    for of, values, dead in (("masks", maps, index["dead"]), ("untrained masks", untrained, index["dead_untrained"])):
        alive = _some(dead == 0, settings)
        vectors = embedding.descriptors(values[alive], settings.prepare.size, settings.explain.normalise)
        rows.append({"network": name, "of": of, **_purity(vectors, index.iloc[alive])})
        if of == "masks":
            area = vectors.mean(axis=1, keepdims=True)
            rows.append({"network": name, "of": "mask area", **_purity(area, index.iloc[alive])})
    return rows


def _purity(vectors: np.ndarray, index: pd.DataFrame) -> dict[str, Any]:
    spots = index["city"] + "/" + index["spot"].astype(str)
    return purity.purity(vectors, index["city"].to_numpy(str), spots.to_numpy(str))


def _colours() -> np.ndarray:
    """Return the mean red, green and blue of each test image, (N, 3)."""
    pixels = files.open_array(PREPARED / "images.npy")
    rows = np.flatnonzero(files.read_table(PREPARED / "index.csv", ["split"])["split"] == "test")
    return np.concatenate([pixels[rows[part]].mean(axis=(1, 2)) for part in shards(len(rows), SHARD)])


def logged() -> Logged:
    """Return how well neighbours agree and how pure their neighbourhoods are, for each network, and the table of purities."""
    table = files.read_table(PURITY).query("of == 'masks'").set_index("network")["purity"].dropna()
    scores = {
        name: own | ({"purity": table[name]} if name in table else {}) for name, own in files.read_json(SCORES).items()
    }
    return Logged(networks=scores, tables=(PURITY,), splits=("test",))
