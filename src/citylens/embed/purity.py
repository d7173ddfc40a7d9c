"""Do masks of one city lie together? The share of a mask's nearest neighbours that show its city, beside chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 999


def purity(
    vectors: NDArray[np.floating], cities: NDArray[np.str_], spots: NDArray[np.str_], neighbours: int = 10
) -> dict[str, float]:
    """Return how pure the neighbourhoods of points are, and whether that is more than chance.

    Neighbours of the same spot do not count, because views of one spot are nearly the same image.

    Args:
        vectors: (N, D) points; Euclidean distances.
        cities, spots: (N,) of each point.
        neighbours: at most as many as other spots have points.

    Returns:
        `purity`, the mean share of neighbours of the same city; `chance`, its mean after the cities were permuted over whole spots;
        `p`, the share of permutations, the given one among them, whose purity is at least as high. Empty where a city has one spot.
    """
    names, place, sizes = np.unique(spots, return_inverse=True, return_counts=True)
    count = min(neighbours, len(vectors) - int(sizes.max(initial=0)))
    codes = np.unique(cities, return_inverse=True)[1]
    of_spot = np.zeros(len(names), np.int64)
    of_spot[place] = codes
    if count < 1 or np.bincount(of_spot).min() < 2:
        return {}
    nearest = _others(vectors, place, count, int(sizes.max()))
    generator = np.random.default_rng(0)
    drawn = [_agreement(generator.permutation(of_spot)[place], nearest) for _ in range(PERMUTATIONS)]
    found = _agreement(codes, nearest)
    p = (1 + sum(value >= found - 1e-12 for value in drawn)) / (1 + PERMUTATIONS)
    return {"purity": found, "chance": float(np.mean(drawn)), "p": p}


def _others(vectors: NDArray[np.floating], place: NDArray[np.int64], count: int, largest: int) -> NDArray[np.int64]:
    """Return the nearest points of other spots, (N, count)."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(count + largest, len(vectors)), algorithm="brute").fit(vectors)
    found = near.kneighbors(vectors, return_distance=False)
    # A stable sort by "of the same spot" moves these to the end and keeps the order of the others.
    order = np.argsort(place[found] == place[:, None], axis=1, kind="stable")[:, :count]
    return np.take_along_axis(found, order, axis=1)


def _agreement(codes: NDArray[np.int64], nearest: NDArray[np.int64]) -> float:
    return float((codes[nearest] == codes[:, None]).mean())
