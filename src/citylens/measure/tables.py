"""Adds up the pixels of shards, and makes the tables of R beside chance from the sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from citylens.measure import chance, object_ratio
from citylens.nets import masks
from citylens.nets.label_maps import OBJECTS
from citylens.nets.names import key, split_key
from citylens.settings.schema import Measure
from citylens.stats.intervals import ratio_interval

TRAINED = ["city", "network", "seed"]
OBJECT = [*TRAINED, "label"]
COUNTED = ["inside", "equal_area", "untrained", "edges", "centre", "total"]
SUMMED = [*COUNTED, "soft", "by_chance", "inside_alive", "total_alive", "inside_right", "total_right", "images_with"]
COLUMNS = ["object", "ratio", "ratio_alive", "inside", "total", "mean_pixels", "kept", "images", "dead"]
CHANCE = ["low", "high", "area", "lift", "chance", "swap_sd", "z", "p", "q", "ratio_right", "soft", "equal_area"]
CHANCE += ["untrained", "images_with"]


@dataclass(frozen=True)
class Swapped:
    """The swaps of masks between images: city, spot and heading of each image, (N,), and `rows`, (swaps, N), who gets whose."""

    cities: NDArray[np.str_]
    spots: NDArray[np.str_]
    headings: NDArray[np.float64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """What is counted in a shard.

    Args:
        images: the shard.
        objects: where the objects are.
        cover: per trained network (n, 256), the cells' shares inside the explanations.
        thresholds: per city and trained network (151, 10), the pixels of each object above each threshold.
        counted: one row per image, network and object in the image.
    """

    images: slice
    objects: chance.Objects
    cover: dict[str, NDArray[np.float32]]
    thresholds: dict[tuple[str, str], NDArray[np.int64]]
    counted: pd.DataFrame


@dataclass
class Found:
    """Sums over the shards so far.

    Args:
        images: per city, network and seed: the numbers of images and of dead masks.
        size: side of the images, in pixels.
        cover: per trained network (N, 256), the cells' shares inside the explanations.
        thresholds: per city and trained network (151, 10), the pixels of each object above each threshold.
        sums: per city, spot, network, seed and label: all that is counted, one table per shard.
        objects: where the objects are, one per shard.
    """

    images: pd.DataFrame
    size: int
    cover: dict[str, NDArray[np.float32]]
    thresholds: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)
    sums: list[pd.DataFrame] = field(default_factory=list)
    objects: list[chance.Objects] = field(default_factory=list)

    @classmethod
    def empty(cls, indexes: Mapping[str, pd.DataFrame], size: int) -> Found:
        """Return no sums yet, for the test images in each trained network's index."""
        images = []
        for name, index in indexes.items():
            network, seed = split_key(name)
            own = index.assign(network=network, seed=seed).groupby(TRAINED, as_index=False)["dead"]
            images.append(own.agg(images="size", dead="sum"))
        cover = {name: np.zeros((len(index), masks.GRID**2), np.float32) for name, index in indexes.items()}
        return cls(pd.concat(images, ignore_index=True), size, cover)

    def add(self, part: Part) -> None:
        """Add what was counted in a shard."""
        self.objects.append(part.objects)
        for name, cover in part.cover.items():
            self.cover[name][part.images] = cover
        for of, counts in part.thresholds.items():
            self.thresholds[of] = self.thresholds.get(of, 0) + counts
        counted = part.counted
        parts = {f"{column}_alive": counted[column].where(counted["dead"] == 0, 0) for column in ("inside", "total")}
        parts |= {f"{column}_right": counted[column].where(counted["right"] == 1, 0) for column in ("inside", "total")}
        table = counted.assign(**parts, images_with=1)
        self.sums.append(table.groupby([*OBJECT, "spot"], as_index=False)[SUMMED].sum())

    def by_spot(self) -> pd.DataFrame:
        """Return the sums per spot over all shards."""
        return pd.concat(self.sums).groupby([*OBJECT, "spot"], as_index=False).sum()


def ratios(found: Found, swapped: Swapped, names: Mapping[int, str], plan: Measure) -> pd.DataFrame:
    """Return R of each city, network, seed and object beside its chance levels; unlabelled pixels are left out.

    Columns: as OBJECT, COLUMNS and CHANCE say. `area` is the share of the city's pixels inside the explanations, `lift` the ratio
    over it. `chance` is the R expected with the explanations of other images of the city (another spot, the same heading where it is
    known); `z` and `p` come from swaps of whole spots; `q` are the p of one city and network's kept objects after Benjamini and
    Hochberg. `soft` weighs pixels by the mask. `untrained` is R of the network before training.
    """
    by_spot = found.by_spot()
    table = by_spot.drop(columns="spot").groupby(OBJECT, as_index=False).sum().merge(found.images, on=TRAINED)
    area = table.groupby(TRAINED)[["inside", "total"]].transform("sum")
    table["area"] = area["inside"] / area["total"]
    table = table[table["label"] > 0].reset_index(drop=True)
    mean_pixels = table["total"] / table["images"]
    counted = mean_pixels if plan.mean_over == "all images" else table["total"] / table["images_with"]
    kept = object_ratio.is_kept(table["label"].to_numpy(), counted.to_numpy(), plan.min_pixels, found.size)
    table = table.assign(object=table["label"].map(names), mean_pixels=mean_pixels, kept=kept.astype(int))
    for name, inside, total in (
        ("ratio", "inside", "total"),
        ("ratio_alive", "inside_alive", "total_alive"),
        ("ratio_right", "inside_right", "total_right"),
        *((name, name, "total") for name in ("soft", "equal_area", "untrained")),
    ):
        table[name] = table[inside] / table[total].where(table[total] > 0)
    table["lift"] = table["ratio"] / table["area"].where(table["area"] > 0)
    table = table.merge(_intervals(by_spot), on=OBJECT).merge(_beside_swaps(found, swapped), on=OBJECT, how="left")
    table["q"] = table[table["kept"] == 1].groupby(TRAINED)["p"].transform(_adjusted)
    return table[[*OBJECT, *COLUMNS, *CHANCE]]


def _adjusted(p: pd.Series) -> pd.Series:
    known = p.dropna()
    return pd.Series(false_discovery_control(known) if len(known) else [], known.index, dtype=float).reindex(p.index)


def _intervals(by_spot: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for trained, own in by_spot.groupby(TRAINED):
        wide = own.pivot(index="spot", columns="label", values=["inside", "total"]).fillna(0)
        low, high = ratio_interval(wide["inside"].to_numpy(), wide["total"].to_numpy(), [trained[0]] * len(wide))
        labels = wide["inside"].columns
        rows.append(
            pd.DataFrame({"label": labels, "low": low.clip(0, 1), "high": high.clip(0, 1)}).assign(
                **dict(zip(TRAINED, trained, strict=True))
            )
        )
    return pd.concat(rows, ignore_index=True)


def _beside_swaps(found: Found, swapped: Swapped) -> pd.DataFrame:
    """Return chance, swap_sd, z and p of each city, network, seed and object."""
    where = chance.joined(found.objects)
    cities, code = np.unique(swapped.cities, return_inverse=True)
    groups, codes = np.unique(code[where.image] * (OBJECTS + 1) + where.label, return_inverse=True)
    shown = np.bincount(codes, where.pixels.sum(axis=1))
    tables = []
    for name, cover in found.cover.items():
        network, seed = split_key(name)
        expected = chance.expected_cells(cover, swapped.cities, swapped.spots, swapped.headings)
        drawn = chance.swapped_inside(cover, swapped.rows, where, codes) / shown
        z, p = chance.tail(np.bincount(codes, chance.inside(cover, where)) / shown, drawn)
        columns = {
            "chance": np.bincount(codes, chance.inside(expected, where)) / shown,
            "swap_sd": drawn.std(0, ddof=1),
        }
        own = pd.DataFrame({"city": cities[groups // (OBJECTS + 1)], "label": groups % (OBJECTS + 1), **columns})
        tables.append(own.assign(z=z, p=p, network=network, seed=seed))
    return pd.concat(tables, ignore_index=True)


def over_thresholds(found: Found, names: Mapping[int, str]) -> pd.DataFrame:
    """Return R at each of THRESHOLDS. Columns: city, network, seed, label, object, threshold, ratio."""
    rows = []
    for (city, name), counts in found.thresholds.items():
        network, seed = split_key(name)
        for label in np.flatnonzero(counts[1:, 0]) + 1:
            shares = counts[label, 1:] / counts[label, 0]
            row = {"city": city, "network": network, "seed": seed, "label": label, "object": names[int(label)]}
            rows += [row | {"threshold": at, "ratio": r} for at, r in zip(object_ratio.THRESHOLDS, shares, strict=True)]
    return pd.DataFrame(rows)


def references(found: Found, names: Mapping[int, str]) -> pd.DataFrame:
    """Return R of regions as large as each image's explanation: the image's edges, its centre, and pixels drawn by chance."""
    sums = found.by_spot().groupby(OBJECT, as_index=False)[["edges", "centre", "by_chance", "total"]].sum()
    sums = sums[sums["label"] > 0].reset_index(drop=True)
    shares = {
        name: sums[column] / sums["total"]
        for name, column in (("edges", "edges"), ("centre", "centre"), ("random", "by_chance"))
    }
    return sums[OBJECT].assign(object=sums["label"].map(names), **shares)


def scores(found: Found, table: pd.DataFrame) -> dict[str, Any]:
    """Return the explained area by trained network, and by city, network and object the means over seeds of R, lift and z."""
    sums = found.by_spot()
    area = sums.groupby(["network", "seed"], sort=False)[["inside", "total"]].sum()
    explained = {key(network, seed): row["inside"] / row["total"] for (network, seed), row in area.iterrows()}
    kept = table[table["kept"] == 1]
    measures = {"object_ratio": "ratio", "lift": "lift", "z": "z"}
    return {"explained_area": explained} | {name: _nested(kept, column) for name, column in measures.items()}


def _nested(kept: pd.DataFrame, column: str) -> dict[str, dict[str, dict[str, float]]]:
    nested: dict[str, dict[str, dict[str, float]]] = {}
    means: Iterable[tuple[tuple[str, str, str], float]] = (
        kept.groupby(["city", "network", "object"], sort=False)[column].mean().dropna().items()
    )
    for (city, network, name), mean in means:
        nested.setdefault(city, {}).setdefault(network, {})[name] = mean
    return nested
