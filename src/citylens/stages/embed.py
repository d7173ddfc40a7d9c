"""embed: the masks of one trained network in the plane, by PCA and t-SNE.

Reads data/explain/KEY; writes data/embed/KEY/embedding.csv, a row a test image (a dead mask has no place), and reports/embed/KEY:
scores.json. Alone: `citylens embed vgg11 0`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from citylens.adapters import files
from citylens.adapters.tracker import Run
from citylens.science import embedding
from citylens.settings import Settings, key


def run(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    folder, plan = Path("data/explain") / key(network, seed), settings.embed
    index = files.read_table(folder / "index.csv", ["id", "city", "dead"])
    alive = np.flatnonzero(index["dead"] == 0)
    vectors = embedding.descriptors(files.open_array(folder / "masks.npy")[alive], settings.prepare.size)
    places = embedding.embed(
        vectors, components=plan.components, perplexity=plan.perplexity, iterations=plan.iterations, seed=plan.seed
    )
    table = index[["id", "city"]].assign(x=np.nan, y=np.nan, dead=index["dead"])
    table.loc[alive, ["x", "y"]] = places
    agreement, chance = embedding.neighbour_agreement(places, index["city"].to_numpy()[alive])
    files.write_table(Path("data/embed") / key(network, seed) / "embedding.csv", table)
    scores = {"neighbour_agreement": agreement, "chance": chance} if len(alive) > 1 else {}
    files.write_json(Path("reports/embed") / key(network, seed) / "scores.json", scores | {"masks": len(alive)})


def track(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    tracker.metrics(files.read_json(Path("reports/embed") / key(network, seed) / "scores.json"))
    tracker.table(Path("data/embed") / key(network, seed) / "embedding.csv")
