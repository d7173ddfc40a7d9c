"""Swaps: give each image the mask of another image of its city, to see what masks say that know the city but not the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def swapper(
    cities: ArrayLike, spots: ArrayLike, headings: ArrayLike
) -> Callable[[np.random.Generator], NDArray[np.int64]]:
    """Return a function that draws a swap: for each image the row of the image whose mask it gets, (N,) int64.

    Each city's spots are permuted at random. Whole spots are, because the views of one spot are not independent. Within the other
    spot, the image with the same heading is taken; where it has none, or no heading is known, one of its images by chance. A spot
    that the permutation leaves in its place keeps its own masks.

    Args:
        cities, spots: (N,) names; two cities may have spots of one name.
        headings: (N,) degrees, NaN where unknown.
    """
    city, turned = np.unique(np.asarray(cities), return_inverse=True)[1], np.asarray(headings, float)
    spot = np.unique(
        np.stack([city, np.unique(np.asarray(spots), return_inverse=True)[1]]), axis=1, return_inverse=True
    )[1]
    by_spot = np.argsort(spot, kind="stable")
    starts = np.searchsorted(spot[by_spot], np.arange(spot.max(initial=-1) + 2))
    of_city = [np.unique(spot[city == one]) for one in range(city.max(initial=-1) + 1)]
    angles, angle = np.unique(np.where(np.isnan(turned), -1.0, turned), return_inverse=True)
    facing = spot * len(angles) + angle
    by_facing = np.argsort(facing, kind="stable")
    ordered = facing[by_facing]

    def draw(generator: np.random.Generator) -> NDArray[np.int64]:
        there = np.empty(len(starts) - 1, np.int64)
        for own in of_city:
            there[own] = generator.permutation(own)
        other = there[spot]
        sizes = starts[other + 1] - starts[other]
        any_other = by_spot[starts[other] + (generator.random(len(spot)) * sizes).astype(np.int64)]
        wanted = other * len(angles) + angle
        first = np.searchsorted(ordered, wanted).clip(max=len(ordered) - 1)  # the end, where all are smaller
        same = ~np.isnan(turned) & (ordered[first] == wanted)
        return np.where(same, by_facing[first], any_other).astype(np.int64)

    return draw
