"""The split into training, validation and test images, by image or by spot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from citylens.settings.schema import SPLITS


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
