"""The split into training, validation and test images, by image or by spot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from citylens.settings.schema import LEFT_OUT, SPLITS


def split(cities: Sequence[str], spots: Sequence[str] | None, shares: Sequence[float], seed: int) -> NDArray[np.str_]:
    """Return the split of each image, (N,) names in `SPLITS`. All cities are divided alike; the views of one spot stay together.

    Spots are shuffled, sorted by size, and dealt one by one to the split that lacks most images.

    Args:
        cities: (N,) city of each image.
        spots: (N,) spot of each image within its city; None splits by single images, as the paper does.
        shares: of the training, validation and test images, with sum 1.

    Raises:
        ValueError: a city has fewer than three spots (images, if `spots` is None), so that a split would be empty.
    """
    names = np.asarray(cities)
    groups = np.arange(len(names)).astype(str) if spots is None else np.asarray(spots)
    result = np.empty(len(names), dtype="<U10")
    for city in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == city)
        generator = np.random.default_rng([seed, *city.encode()])
        result[rows] = _split_city(city, groups[rows], np.asarray(shares), generator)
    return result


def blocks(places: NDArray[np.float64], side: float) -> NDArray[np.str_]:
    """Return the square of a grid in which each of (N, 2) places lies, (N,) names; places and side in metres."""
    cells = np.floor(places / side).astype(np.int64)
    return np.array([f"{east} {north}" for east, north in cells.tolist()])


def without_border(split: NDArray[np.str_], places: NDArray[np.float64], buffer: float) -> NDArray[np.str_]:
    """Return the splits, with `LEFT_OUT` before those of training images within `buffer` metres of a test or validation image, and
    of validation images so near to a test image.

    Args:
        split: (N,) names in `SPLITS`.
        places: (N, 2) metres, of one city.
        buffer: metres.
    """
    result = split.astype("<U24")
    for own, others in (("validation", ["test"]), ("training", ["test", "validation"])):
        rows, near = np.flatnonzero(split == own), places[np.isin(split, others)]
        if len(near) and len(rows):
            distances, _ = cKDTree(near).query(places[rows])
            result[rows[distances < buffer]] = LEFT_OUT + own
    return result


def joined(spots: pd.Series, copies: pd.Series) -> pd.Series:
    """Return a spot for each image, the same for spots that near-copies connect: the name of the first of them.

    Args:
        spots: (N,) names.
        copies: (N,) texts, the same for near-copies.
    """
    images = np.arange(len(spots))
    nodes = [pd.factorize(names)[0] for names in (spots, copies)]
    # Images are connected with their spot and with their group of near-copies.
    ends = np.concatenate([len(images) + nodes[0], 2 * len(images) + nodes[1]])
    graph = coo_array((np.ones(len(ends), bool), (np.tile(images, 2), ends)), shape=(3 * len(images),) * 2)
    connected = connected_components(graph, directed=False)[1][: len(images)]
    return spots.groupby(connected).transform("min")


def _split_city(
    city: str, groups: NDArray[np.str_], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.str_]:
    spots, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(spots) < len(SPLITS):
        allowed = f"{len(SPLITS)} or more, one for each of {', '.join(SPLITS)}"
        raise ValueError(f"city {city} has {len(spots)} spots; allowed: {allowed}")
    order = generator.permutation(len(spots))
    order = order[np.argsort(-sizes[order], kind="stable")]
    target, have = shares * len(groups), np.zeros(len(SPLITS))
    chosen = np.empty(len(spots), dtype=int)
    for place, spot in enumerate(order):
        lacking, empty = target - have, have == 0
        if len(order) - place <= empty.sum():
            lacking = np.where(empty, lacking, -np.inf)
        chosen[spot] = int(np.argmax(lacking))
        have[chosen[spot]] += sizes[spot]
    return np.asarray(SPLITS)[chosen[members]]
