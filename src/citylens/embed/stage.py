"""embed: place each network's masks in the plane by t-SNE, dead masks left out.

Reads data/explain/KEY of all networks. Writes data/embed/KEY/embedding.csv, one row per test image, and how well neighbours agree to
reports/embed/scores.json. Run alone: `citylens embed`. Costs about 1 s per network with 200 masks.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.embed import embedding
from citylens.io import files
from citylens.io.logged import Logged
from citylens.nets.names import key
from citylens.settings.schema import Embed, Settings

EXPLAINED, SCORES = Path("data/explain"), Path("reports/embed/scores.json")


def run(settings: Settings) -> None:
    """Place the masks of each trained network in the plane."""
    scores = {}
    with files.whole_folder("data/embed") as folder:
        for trained in settings.study.trained:
            name = key(*trained)
            index = files.read_table(EXPLAINED / name / "index.csv", ["id", "city", "dead"])
            maps = files.open_array(EXPLAINED / name / "masks.npy")
            table, scores[name] = _embed(index, maps, settings.embed, settings.prepare.size)
            files.write_table(folder / name / "embedding.csv", table)
    files.write_json(SCORES, scores)


def _embed(index: pd.DataFrame, maps: np.ndarray, plan: Embed, size: int) -> tuple[pd.DataFrame, dict[str, float]]:
    alive = np.flatnonzero(index["dead"] == 0)
    points = embedding.embed(embedding.descriptors(maps[alive], size), **asdict(plan))
    table = index[["id", "city"]].assign(x=np.nan, y=np.nan, dead=index["dead"])
    table.loc[alive, ["x", "y"]] = points
    agreement, chance = embedding.neighbour_agreement(points, index["city"].to_numpy()[alive])
    scores = {"neighbour_agreement": agreement, "chance": chance} if len(alive) > 1 else {}
    return table, scores | {"masks": len(alive)}


def logged() -> Logged:
    """Return how well neighbours agree, for each network."""
    return Logged(networks=files.read_json(SCORES), splits=("test",))
