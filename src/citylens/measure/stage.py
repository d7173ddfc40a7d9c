"""measure: compute how much of each object the explanations cover, R (paper, eq. 1), and what chance would give.

Reads data/explain/KEY (KEY: NETWORK-SEED, such as vgg11-0) of all networks, data/segment and data/prepare. Writes
data/measure/pixels.parquet, one row per image, network, seed and object in the image, and to reports/measure: object_ratio.csv,
thresholds.csv (R at other thresholds), reference.csv (R of regions that need no network) and scores.json. Run alone:
`citylens measure`. Costs 8 ms per image and network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from citylens.engine import map_shards
from citylens.io import files, progress
from citylens.io.logged import Logged
from citylens.measure import chance, object_ratio, reference_masks, tables
from citylens.nets import masks
from citylens.nets.names import key, split_key
from citylens.nets.shards import shards
from citylens.settings.schema import Measure, Settings
from citylens.stats.swaps import swapper

SEGMENTED, EXPLAINED, PREPARED = Path("data/segment"), Path("data/explain"), Path("data/prepare")
REPORTS = Path("reports/measure")
SHARD = 128  # images
EQUAL_AREA = 0.2
"""Share of each image in its masks of equal area."""


@dataclass(frozen=True)
class Inputs:
    """What a worker reads. `pixels` are all images, `rows` those of the test images among them; `answers` and maps are by network."""

    images: pd.DataFrame
    answers: dict[str, pd.DataFrame]
    maps: dict[str, np.ndarray]
    untrained: dict[str, np.ndarray]
    labels: np.ndarray
    pixels: np.ndarray
    rows: np.ndarray


def run(settings: Settings) -> None:
    """Compute R of every trained network."""
    names, (images, answers) = _names(), _indexes(settings)
    size, swaps = files.open_array(SEGMENTED / "labels.npy").shape[1], settings.measure.swaps
    found = tables.Found.empty(images, answers, size, swaps, files.scratch_array)
    with files.growing_table("data/measure/pixels.parquet") as append:
        for part in _mapped("measure", _counting, (settings,), len(images), settings):
            found.add(part)
            append(part.counted.assign(object=part.counted["label"].map(names)).drop(columns="image"))
    swapped = _swapped(images, swaps)
    for sums in _mapped("measure: chance", _swapping, (found.cover, swapped), len(images), settings):
        found.add_swaps(sums)
    table = tables.ratios(found, names, settings.measure)

    files.write_table(REPORTS / "object_ratio.csv", table)
    files.write_table(REPORTS / "thresholds.csv", tables.over_thresholds(found, names))
    files.write_table(REPORTS / "reference.csv", tables.references(found, names))
    files.write_json(REPORTS / "scores.json", tables.scores(found, table))


def _mapped(
    title: str, start: Callable[..., Any], given: tuple[Any, ...], images: int, settings: Settings
) -> Iterator[Any]:
    parts = shards(images, SHARD)
    with progress.bar(title, images) as advance:
        for part, found in zip(parts, map_shards(start, given, parts, settings.engine), strict=True):
            yield found
            advance(part.stop - part.start)


def _indexes(settings: Settings) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return id, city, spot and heading of the test images; per network, whether masks are dead and answers right, as 0 or 1."""
    columns, answers = ["id", "city", "spot", "heading"], {}
    for name in [key(*trained) for trained in settings.study.trained]:
        index = files.read_table(EXPLAINED / name / "index.csv", [*columns, "predicted", "dead"])
        answers[name] = index[["dead"]].assign(right=(index["predicted"] == index["city"]).astype(int))
    return index[columns], answers


def _inputs(settings: Settings) -> Inputs:
    images, answers = _indexes(settings)
    split = files.read_table(PREPARED / "index.csv", ["split"])["split"]
    return Inputs(
        images,
        answers,
        {name: files.open_array(EXPLAINED / name / "masks.npy") for name in answers},
        {name: files.open_array(EXPLAINED / name / "untrained.npy") for name in answers},
        files.open_array(SEGMENTED / "labels.npy"),
        files.open_array(PREPARED / "images.npy"),
        np.flatnonzero(split == "test"),
    )


def _names() -> dict[int, str]:
    objects = files.read_table(SEGMENTED / "objects.csv", ["label", "name"])
    return dict(zip(objects["label"], objects["name"], strict=True)) | {0: "unlabelled"}


def _counting(settings: Settings) -> Callable[[slice], tables.Part]:
    """Return a function that counts the pixels of a shard."""
    given = _inputs(settings)
    size = given.labels.shape[1]
    centre = reference_masks.ranks(reference_masks.nearness(size)[None])

    def count(part: slice) -> tables.Part:
        labels, cities = given.labels[part], given.images["city"][part].to_numpy()
        edges = reference_masks.ranks(reference_masks.edges(given.pixels[given.rows[part]]))
        cover, thresholds, rows = {}, {}, []
        for name, answers in given.answers.items():
            weighted = masks.normalise(given.maps[name][part], size, settings.explain.normalise)
            plain = masks.normalise(given.untrained[name][part], size, settings.explain.normalise)
            regions = _regions(weighted, plain, edges, centre, settings.measure)
            cover[name] = masks.cells(regions["inside"])
            for city in np.unique(cities):
                own = cities == city
                thresholds[city, name] = object_ratio.count_thresholds(
                    labels[own], weighted[own], settings.measure.explained
                )
            rows.append(_rows(name, given.images[part].join(answers), labels, regions, weighted))
        return tables.Part(part, cover, thresholds, pd.concat(rows, ignore_index=True))

    return count


def _swapping(cover: dict[str, np.ndarray], swapped: tables.Swapped) -> Callable[[slice], tables.SwapSums]:
    """Return a function that sums, over a shard, what the explanations of other images cover of its objects."""
    labels = files.open_array(SEGMENTED / "labels.npy")
    expected = {name: files.scratch_array(own.shape, "float32") for name, own in cover.items()}
    for name, own in cover.items():
        chance.expected_cells(own, swapped.cities, swapped.spots, swapped.headings, expected[name])

    def swap(part: slice) -> tables.SwapSums:
        return tables.swap_sums(chance.objects(labels[part], part.start), cover, expected, swapped)

    return swap


def _regions(
    weighted: np.ndarray, untrained: np.ndarray, edges: np.ndarray, centre: np.ndarray, plan: Measure
) -> dict[str, np.ndarray]:
    """Return the regions whose pixels are counted, each (N, H, W) of booleans, by the name of their column."""
    inside = masks.inside(weighted, plan.threshold, plan.explained)
    shares = inside.mean(axis=(1, 2))
    return {
        "inside": inside,
        "equal_area": reference_masks.strongest(weighted, np.full(len(weighted), EQUAL_AREA)),
        "untrained": masks.inside(untrained, plan.threshold, plan.explained),
        "edges": reference_masks.first(edges, shares),
        "centre": reference_masks.first(centre, shares),
    }


def _rows(
    name: str, images: pd.DataFrame, labels: np.ndarray, regions: dict[str, np.ndarray], weighted: np.ndarray
) -> pd.DataFrame:
    """Return one row per image and object in it, with the object's pixels in the image and in each region."""
    counts = object_ratio.count_regions(labels, regions)
    image, label = np.nonzero(counts["total"])
    rows = images.iloc[image][["id", "city", "dead", "right"]]
    table = rows.reset_index(names="image").assign(
        label=label,
        soft=object_ratio.sum_weights(labels, weighted)[image, label],
        by_chance=counts["total"][image, label] * regions["inside"].mean(axis=(1, 2))[image],
    )
    network, seed = split_key(name)
    columns = {column: values[image, label] for column, values in counts.items()}
    return table.assign(**columns, network=network, seed=seed)


def _swapped(images: pd.DataFrame, swaps: int) -> tables.Swapped:
    generator = np.random.default_rng(0)
    columns = images["city"].to_numpy(), images["spot"].astype(str).to_numpy(), images["heading"].to_numpy(float)
    draw = swapper(*columns)
    rows = files.scratch_array((swaps, len(images)), "int32")
    for row in rows:
        row[:] = draw(generator)
    return tables.Swapped(*columns, rows)


def logged() -> Logged:
    """Return the explained area of each network, R and its lift of each city's objects (means over the networks), and the tables."""
    scores = files.read_json(REPORTS / "scores.json")
    metrics: dict[str, float] = {}
    for measure, name in (("R", "object_ratio"), ("lift", "lift")):
        means = {city: pd.DataFrame(values).mean(axis=1) for city, values in scores[name].items()}
        metrics |= {f"{measure} {city} {thing}": value for city, own in means.items() for thing, value in own.items()}
    networks = {name: {"explained_area": value} for name, value in scores["explained_area"].items()}
    written = tuple(REPORTS / f"{name}.csv" for name in ("object_ratio", "thresholds", "reference"))
    return Logged(metrics=metrics, networks=networks, tables=written, splits=("test",))
