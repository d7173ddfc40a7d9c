"""Intervals of a score over spots, because the views of one spot are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL, RESAMPLES = 0.95, 2000


def accuracy_interval(correct: NDArray[np.bool_], spots: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentiles) of the share of correct images, with whole spots drawn with replacement.

    Source: Field and Welsh, "Bootstrapping clustered data" (2007), the cluster bootstrap.

    Args:
        correct: (N,) whether each image is predicted right.
        spots: (N,) the spot of each image.

    Returns:
        Lower and upper end, in [0, 1]; both NaN without images; 0 and 1 for one spot, which says nothing about others.

    Raises:
        ValueError: not as many spots as images.
    """
    if len(correct) != len(spots):
        raise ValueError(f"{len(correct)} images but {len(spots)} spots")
    if not len(correct):
        return float("nan"), float("nan")
    groups = np.unique(np.asarray(spots), return_inverse=True)[1]
    images, hits = np.bincount(groups), np.bincount(groups, weights=correct)
    if len(images) == 1:
        return 0.0, 1.0
    generator = np.random.default_rng(0)
    drawn = (generator.integers(len(images), size=len(images)) for _ in range(RESAMPLES))
    shares = [hits[spots].sum() / images[spots].sum() for spots in drawn]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
