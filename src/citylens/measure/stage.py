"""measure: compute how much of each object each network uses, R (paper, eq. 1).

Reads data/explain/KEY of all networks and data/segment. Writes data/measure/pixels.parquet, one row per image, network, seed and
object in the image, and to reports/measure: object_ratio.csv and scores.json. Run alone: `citylens measure`. Costs 1 ms per image
and network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.io import files
from citylens.io.logged import Logged
from citylens.measure import object_ratio
from citylens.nets import masks
from citylens.nets.names import key
from citylens.nets.shards import shards
from citylens.settings.schema import Measure, Settings

SEGMENTED, REPORTS = Path("data/segment"), Path("reports/measure")
SHARD = 256  # images
TRAINED = ["city", "network", "seed"]
OBJECT = [*TRAINED, "label"]
COLUMNS = ["object", "ratio", "ratio_alive", "inside", "total", "mean_pixels", "kept", "images", "dead"]


def run(settings: Settings) -> None:
    """Compute R of every trained network."""
    labels = files.open_array(SEGMENTED / "labels.npy")
    objects = files.read_table(SEGMENTED / "objects.csv", ["label", "name"])
    names = dict(zip(objects["label"], objects["name"], strict=True)) | {0: "unlabelled"}

    images, pixels = [], []
    with files.growing_table("data/measure/pixels.parquet") as append:
        for network, seed in settings.study.trained:
            folder = Path("data/explain") / key(network, seed)
            index = files.read_table(folder / "index.csv", ["id", "city", "dead"]).assign(network=network, seed=seed)
            images.append(index.groupby(TRAINED, as_index=False)["dead"].agg(images="size", dead="sum"))
            maps = files.open_array(folder / "masks.npy")
            for counted in _counted(index, labels, maps, names, settings.measure.threshold):
                append(counted)
                pixels.append(_summed(counted))
    summed = pd.concat(pixels).groupby(OBJECT, as_index=False).sum()
    table = _ratios(summed.merge(pd.concat(images), on=TRAINED), names, settings.measure, labels.shape[1])

    files.write_table(REPORTS / "object_ratio.csv", table[table["label"] > 0])
    files.write_json(REPORTS / "scores.json", _scores(table))


def _counted(
    index: pd.DataFrame, labels: np.ndarray, maps: np.ndarray, names: dict[int, str], threshold: float
) -> Iterator[pd.DataFrame]:
    """Yield the pixels of each image and object in it, one table per shard."""
    for part in shards(len(index), SHARD):
        weighted = masks.normalise(maps[part], labels.shape[1])
        inside, total = object_ratio.count_pixels(labels[part], weighted, threshold)
        image, label = np.nonzero(total)
        rows = index[part].iloc[image].reset_index(drop=True)
        columns = {
            "label": label,
            "object": [names[number] for number in label.tolist()],
            "inside": inside[image, label],
            "total": total[image, label],
        }
        yield rows[["id", "city", "dead"]].assign(**columns, network=rows["network"], seed=rows["seed"])


def _summed(pixels: pd.DataFrame) -> pd.DataFrame:
    """Return the pixels per city, network, seed and object, int64: of all masks, and of those that are not dead."""
    alive = pixels[["inside", "total"]].where(pixels["dead"] == 0, 0)
    counts = pixels[[*OBJECT, "inside", "total"]].assign(inside_alive=alive["inside"], total_alive=alive["total"])
    return counts.groupby(OBJECT, as_index=False).sum()


def _ratios(table: pd.DataFrame, names: dict[int, str], plan: Measure, size: int) -> pd.DataFrame:
    mean_pixels = table["total"] / table["images"]
    kept = object_ratio.is_kept(table["label"].to_numpy(), mean_pixels.to_numpy(), plan.min_pixels, size)
    table = table.assign(object=table["label"].map(names), mean_pixels=mean_pixels, kept=kept.astype(int))
    for name, end in (("ratio", ""), ("ratio_alive", "_alive")):
        inside, total = (table[[f"{column}{end}"]].to_numpy().T for column in ("inside", "total"))
        table[name] = object_ratio.object_ratio(inside, total)
    return table[[*OBJECT, *COLUMNS]]


def _scores(table: pd.DataFrame) -> dict[str, object]:
    area = table.groupby(["network", "seed"], sort=False)[["inside", "total"]].sum()
    explained = {key(network, seed): row["inside"] / row["total"] for (network, seed), row in area.iterrows()}
    kept = table[table["kept"] == 1]
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for (city, network, name), mean in kept.groupby(["city", "network", "object"], sort=False)["ratio"].mean().items():
        ratios.setdefault(city, {}).setdefault(network, {})[name] = mean
    return {"explained_area": explained, "object_ratio": ratios}


def logged() -> Logged:
    """Return the explained area of each network, R of each city's objects (the mean over the networks), and the table of R."""
    scores = files.read_json(REPORTS / "scores.json")
    means = {city: pd.DataFrame(ratios).mean(axis=1) for city, ratios in scores["object_ratio"].items()}
    metrics = {f"R {city} {name}": value for city, ratios in means.items() for name, value in ratios.items()}
    networks = {name: {"explained_area": value} for name, value in scores["explained_area"].items()}
    return Logged(metrics=metrics, networks=networks, tables=(REPORTS / "object_ratio.csv",), splits=("test",))
