"""Swaps: give each image the mask of another image of its city, to see what masks say that know the city but not the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def swapped_rows(
    cities: ArrayLike, spots: ArrayLike, headings: ArrayLike, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return for each image the row of the image whose mask it gets, after a random permutation of each city's spots.

    Whole spots are permuted, because the views of one spot are not independent. Within the other spot, the image with the same
    heading is taken; where it has none, or no heading is known, one of its images by chance.

    Args:
        cities, spots: (N,) names; a spot belongs to one city.
        headings: (N,) degrees, NaN where unknown.

    Returns:
        (N,) int64 rows. A spot that the permutation leaves in its place keeps its own masks.
    """
    cities, spots, headings = np.asarray(cities), np.asarray(spots), np.asarray(headings, float)
    rows = np.empty(len(cities), np.int64)
    for city in np.unique(cities):
        own = np.flatnonzero(cities == city)
        names, members = np.unique(spots[own], return_inverse=True)
        images = [own[members == spot] for spot in range(len(names))]
        for here, there in enumerate(generator.permutation(len(names))):
            rows[images[here]] = _stand_ins(images[here], images[there], headings, generator)
    return rows


def _stand_ins(
    here: NDArray[np.int64], there: NDArray[np.int64], headings: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return a row of `there` for each row of `here`."""
    by_heading = dict(zip(headings[there].tolist(), there.tolist(), strict=True))
    chosen = generator.choice(there, len(here))
    same = [
        by_heading.get(heading, any_other) for heading, any_other in zip(headings[here].tolist(), chosen, strict=True)
    ]
    return np.asarray(same, np.int64)
