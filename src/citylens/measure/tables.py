"""Adds up the pixels of shards, and makes the tables of R beside chance from the sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from citylens.measure import chance, object_ratio
from citylens.nets.label_maps import OBJECTS
from citylens.nets.masks import GRID
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
        cover: per trained network (n, 256), the cells' shares inside the explanations.
        thresholds: per city and trained network (151, 10), the pixels of each object above each threshold.
        counted: one row per image, network and object in the image; `image` is the image's row among all.
    """

    images: slice
    cover: dict[str, NDArray[np.float32]]
    thresholds: dict[tuple[str, str], NDArray[np.int64]]
    counted: pd.DataFrame


@dataclass(frozen=True)
class SwapSums:
    """Areas of a shard's objects, in cells, by city (in order of its name) x label.

    Args:
        shown: (C x 151,), the objects' own areas.
        inside: per trained network (2, C x 151), covered by the image's own explanation, and by the one expected by chance.
        drawn: per trained network (swaps, C x 151), covered after each swap.
    """

    shown: NDArray[np.float64]
    inside: dict[str, NDArray[np.float64]]
    drawn: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class SpotSums:
    """Pixels of each object by spot, for the intervals.

    Args:
        of_image: (N,) the number of each image's spot.
        cities: (spots,) the city of each spot.
        shown: (spots, 151), the objects' pixels, the same for all networks.
        inside: per trained network (spots, 151), those inside the explanations.
    """

    of_image: NDArray[np.int64]
    cities: NDArray[np.object_]
    shown: NDArray[np.int64]
    inside: dict[str, NDArray[np.int64]]


@dataclass
class Found:
    """Sums over the shards so far.

    Args:
        images: per city, network and seed: the numbers of images and of dead masks.
        size: side of the images, in pixels.
        cover: per trained network (N, 256), the cells' shares inside the explanations.
        swaps: see `SwapSums`.
        spots: see `SpotSums`.
        thresholds: per city and trained network (151, 10), the pixels of each object above each threshold.
        sums: per city, network, seed and label: all that is counted.
    """

    images: pd.DataFrame
    size: int
    cover: dict[str, NDArray[np.float32]]
    swaps: SwapSums
    spots: SpotSums
    thresholds: dict[tuple[str, str], NDArray[np.int64]] = field(default_factory=dict)
    sums: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def empty(
        cls,
        images: pd.DataFrame,
        answers: Mapping[str, pd.DataFrame],
        size: int,
        swaps: int,
        zeros: Callable[[tuple[int, ...], str], NDArray[Any]],
    ) -> Found:
        """Return no sums yet.

        Args:
            images: city and spot of each test image.
            answers: per trained network, whether each image's mask is dead, 0 or 1.
            size: side of the images, in pixels.
            swaps: their number.
            zeros: makes the arrays that grow with the images, of a shape and dtype.
        """
        counts = []
        for name, own in answers.items():
            network, seed = split_key(name)
            table = pd.DataFrame({"city": images["city"], "network": network, "seed": seed, "dead": own["dead"]})
            counts.append(table.groupby(TRAINED, as_index=False)["dead"].agg(images="size", dead="sum"))
        spots = images.groupby(["city", "spot"])
        cities = spots["city"].first().to_numpy(object)
        shown, *each = (zeros((len(cities), OBJECTS + 1), "int64") for _ in range(1 + len(answers)))
        in_spots = SpotSums(spots.ngroup().to_numpy(), cities, shown, dict(zip(answers, each, strict=True)))
        groups = images["city"].nunique() * (OBJECTS + 1)
        inside, drawn = ({name: np.zeros((rows, groups)) for name in answers} for rows in (2, swaps))
        cover = {name: zeros((len(images), GRID**2), "float32") for name in answers}
        in_swaps = SwapSums(np.zeros(groups), inside, drawn)
        return cls(pd.concat(counts, ignore_index=True), size, cover, in_swaps, in_spots)

    def add(self, part: Part) -> None:
        """Add what was counted in a shard."""
        for name, cover in part.cover.items():
            self.cover[name][part.images] = cover
        for of, counts in part.thresholds.items():
            self.thresholds[of] = self.thresholds.get(of, 0) + counts
        counted = part.counted
        parts = {f"{column}_alive": counted[column].where(counted["dead"] == 0, 0) for column in ("inside", "total")}
        parts |= {f"{column}_right": counted[column].where(counted["right"] == 1, 0) for column in ("inside", "total")}
        table = counted.assign(**parts, images_with=1)
        sums = table.groupby(OBJECT)[SUMMED].sum()
        self.sums = pd.concat([self.sums, sums]).groupby(level=OBJECT).sum() if len(self.sums) else sums
        for (network, seed), own in counted.groupby(TRAINED[1:]):
            _add_at(self.spots.inside[key(network, seed)], self.spots.of_image, own, "inside")
        _add_at(self.spots.shown, self.spots.of_image, counted.drop_duplicates(["image", "label"]), "total")

    def add_swaps(self, sums: SwapSums) -> None:
        """Add a shard's areas after swaps."""
        self.swaps.shown[:] += sums.shown
        for name in sums.inside:
            self.swaps.inside[name][:] += sums.inside[name]
            self.swaps.drawn[name][:] += sums.drawn[name]


def _add_at(sums: NDArray[np.int64], spot_of: NDArray[np.int64], counted: pd.DataFrame, column: str) -> None:
    np.add.at(sums, (spot_of[counted["image"]], counted["label"].to_numpy()), counted[column].to_numpy())


def ratios(found: Found, names: Mapping[int, str], plan: Measure) -> pd.DataFrame:
    """Return R of each city, network, seed and object beside its chance levels; unlabelled pixels are left out.

    Columns: as OBJECT, COLUMNS and CHANCE say. `area` is the share of the city's pixels inside the explanations, `lift` the ratio
    over it. `chance` is the R expected with the explanations of other images of the city (another spot, the same heading where it is
    known); `z` and `p` come from swaps of whole spots; `q` are the p of one city and network's kept objects after Benjamini and
    Hochberg. `soft` weighs pixels by the mask. `untrained` is R of the network before training.
    """
    table = found.sums.reset_index().merge(found.images, on=TRAINED)
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
        table[name] = object_ratio.object_ratio(table[inside].to_numpy(), table[total].to_numpy())
    table["lift"] = table["ratio"] / table["area"].where(table["area"] > 0)
    table = table.merge(_intervals(found), on=OBJECT).merge(_beside_swaps(found), on=OBJECT, how="left")
    table["q"] = table[table["kept"] == 1].groupby(TRAINED)["p"].transform(_adjusted)
    return table[[*OBJECT, *COLUMNS, *CHANCE]]


def _adjusted(p: pd.Series) -> pd.Series:
    known = p.dropna()
    return pd.Series(false_discovery_control(known) if len(known) else [], known.index, dtype=float).reindex(p.index)


def _intervals(found: Found) -> pd.DataFrame:
    tables = []
    for city, (name, inside) in product(np.unique(found.spots.cities), found.spots.inside.items()):
        own = found.spots.cities == city
        shown = found.spots.shown[own]
        labels = np.flatnonzero(shown.any(axis=0))
        low, high = ratio_interval(inside[own][:, labels], shown[:, labels], found.spots.cities[own])
        network, seed = split_key(name)
        columns = {"city": city, "network": network, "seed": seed, "label": labels}
        tables.append(pd.DataFrame(columns | {"low": low.clip(0, 1), "high": high.clip(0, 1)}))
    return pd.concat(tables, ignore_index=True)


def swap_sums(
    where: chance.Objects,
    cover: Mapping[str, NDArray[np.float32]],
    expected: Mapping[str, NDArray[np.float32]],
    swapped: Swapped,
) -> SwapSums:
    """Return the areas of some images' objects, by city and label, that explanations cover.

    Args:
        where: the objects of a shard's images.
        cover: per trained network (N, 256), of all images.
        expected: per trained network (N, 256), see `chance.expected_cells`.
        swapped: of all images.
    """
    cities, code = np.unique(swapped.cities, return_inverse=True)
    groups, codes = len(cities) * (OBJECTS + 1), code[where.image] * (OBJECTS + 1) + where.label

    def added(areas: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(codes, areas, groups).astype(np.float64)

    inside = {
        name: np.stack([added(chance.inside(own, where)), added(chance.inside(expected[name], where))])
        for name, own in cover.items()
    }
    drawn = {name: chance.swapped_inside(own, swapped.rows, where, codes, groups) for name, own in cover.items()}
    return SwapSums(added(where.pixels.sum(axis=1, dtype=np.float64)), inside, drawn)


def _beside_swaps(found: Found) -> pd.DataFrame:
    """Return chance, swap_sd, z and p of each city, network, seed and object."""
    sums, cities, tables = found.swaps, sorted(found.images["city"].unique()), []
    groups = np.flatnonzero(sums.shown)
    shown = sums.shown[groups]
    for name in found.cover:
        network, seed = split_key(name)
        own, expected = sums.inside[name][:, groups] / shown
        drawn = sums.drawn[name][:, groups] / shown
        z, p = chance.tail(own, drawn)
        columns = {"chance": expected, "swap_sd": drawn.std(0, ddof=1), "z": z, "p": p}
        of = {"city": np.array(cities)[groups // (OBJECTS + 1)], "label": groups % (OBJECTS + 1)}
        tables.append(pd.DataFrame(of | columns).assign(network=network, seed=seed))
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
    sums = found.sums[["edges", "centre", "by_chance", "total"]].reset_index()
    sums = sums[sums["label"] > 0].reset_index(drop=True)
    shares = {
        name: sums[column] / sums["total"]
        for name, column in (("edges", "edges"), ("centre", "centre"), ("random", "by_chance"))
    }
    return sums[OBJECT].assign(object=sums["label"].map(names), **shares)


def scores(found: Found, table: pd.DataFrame) -> dict[str, Any]:
    """Return the explained area by trained network, and by city, network and object the means over seeds of R, lift and z."""
    area = found.sums.groupby(["network", "seed"], sort=False)[["inside", "total"]].sum()
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
