"""measure: how much of each object each network uses, R (paper, eq. 1).

Reads data/explain/KEY of all networks and data/segment; writes data/measure/pixels.parquet, a row an image, network, seed and object
it shows, and reports/measure: object_ratio.csv and scores.json. Alone: `citylens measure`. Costs 1 ms an image and network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.adapters import files
from citylens.adapters.tracker import Run
from citylens.science import masks, object_ratio
from citylens.settings import Measure, Settings, key

CHUNK = 256
KEYS = ["city", "network", "seed", "label"]


def run(settings: Settings, tracker: Run) -> None:
    labels = files.open_array("data/segment/labels.npy")
    objects = files.read_table("data/segment/objects.csv", ["label", "name"])
    names = dict(zip(objects["label"], objects["name"], strict=True)) | {0: "unlabelled"}
    sums = []
    with files.growing_table("data/measure/pixels.parquet") as append:
        for network, seed in settings.study.trained:
            pieces = []
            for index, inside, total in _counted(labels, network, seed, settings.measure.threshold):
                append(_per_image(index, inside, total, names).assign(network=network, seed=seed))
                pieces.append(_summed(index, inside, total).assign(network=network, seed=seed))
            sums.append(pd.concat(pieces).groupby(KEYS, as_index=False).sum())
    table = _ratios(pd.concat(sums), names, settings.measure, labels.shape[1])
    files.write_table("reports/measure/object_ratio.csv", table[table["label"] > 0])
    files.write_json("reports/measure/scores.json", _scores(table))


def _counted(
    labels: np.ndarray, network: str, seed: int, threshold: float
) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    folder = Path("data/explain") / key(network, seed)
    index, maps = files.read_table(folder / "index.csv", ["id", "city", "dead"]), files.open_array(folder / "masks.npy")
    for start in range(0, len(index), CHUNK):
        part = slice(start, start + CHUNK)
        weighted = masks.normalise(maps[part], labels.shape[1])
        yield index[part], *object_ratio.count_pixels(labels[part], weighted, threshold)


def _per_image(index: pd.DataFrame, inside: np.ndarray, total: np.ndarray, names: dict[int, str]) -> pd.DataFrame:
    image, label = np.nonzero(total)
    table = index.iloc[image][["id", "city", "dead"]].reset_index(drop=True)
    return table.assign(
        label=label,
        object=[names[number] for number in label.tolist()],
        inside=inside[image, label],
        total=total[image, label],
    )


def _summed(index: pd.DataFrame, inside: np.ndarray, total: np.ndarray) -> pd.DataFrame:
    """Pixels a city and label, of all masks and of those that are not dead."""
    alive = index["dead"].to_numpy() == 0
    pieces = []
    for city, rows in index.reset_index(drop=True).groupby("city").groups.items():
        chosen = rows.to_numpy()
        living = chosen[alive[chosen]]
        columns = {"inside": inside[chosen], "total": total[chosen]}
        columns |= {"inside_alive": inside[living], "total_alive": total[living]}
        counts = {name: values.sum(axis=0) for name, values in columns.items()}
        pieces.append(
            pd.DataFrame(counts | {"label": np.arange(object_ratio.LABELS)}).assign(
                city=city, images=len(chosen), dead=len(chosen) - len(living)
            )
        )
    return pd.concat(pieces)


def _ratios(sums: pd.DataFrame, names: dict[int, str], plan: Measure, size: int) -> pd.DataFrame:
    table = sums.sort_values(KEYS)
    table = table[table["total"] > 0].reset_index(drop=True)
    table["object"] = table["label"].map(names)
    for name, end in (("ratio", ""), ("ratio_alive", "_alive")):
        counts = (table[[f"{column}{end}"]].to_numpy().T for column in ("inside", "total"))
        table[name] = object_ratio.object_ratio(*counts)
    table["mean_pixels"] = table["total"] / table["images"]
    table["kept"] = object_ratio.is_kept(
        table["label"].to_numpy(), table["mean_pixels"].to_numpy(), plan.min_pixels, size
    ).astype(int)
    order = [
        "city",
        "network",
        "seed",
        "label",
        "object",
        "ratio",
        "ratio_alive",
        "inside",
        "total",
        "mean_pixels",
        "kept",
        "images",
        "dead",
    ]
    return table[order]


def _scores(table: pd.DataFrame) -> dict[str, object]:
    area = table.groupby(["network", "seed"], sort=False)[["inside", "total"]].sum()
    explained = {key(network, seed): row["inside"] / row["total"] for (network, seed), row in area.iterrows()}
    kept = table[table["kept"] == 1]
    ratios: dict[str, dict[str, dict[str, float]]] = {}
    for (city, network, name), mean in kept.groupby(["city", "network", "object"], sort=False)["ratio"].mean().items():
        ratios.setdefault(city, {}).setdefault(network, {})[name] = mean
    return {"explained_area": explained, "object_ratio": ratios}


def track(settings: Settings, tracker: Run) -> None:
    scores = files.read_json("reports/measure/scores.json")
    tracker.metrics({f"explained_area_{name}": value for name, value in scores["explained_area"].items()})
    for city, by_network in scores["object_ratio"].items():
        for network, by_object in by_network.items():
            tracker.metrics({f"R_{city}_{network}_{name}": value for name, value in by_object.items()})
    tracker.table("reports/measure/object_ratio.csv")
