"""How far a score on these test images can be trusted: intervals over spots, because the views of one spot are not independent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def accuracy_interval(
    correct: NDArray[np.bool_], spots: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval (percentiles) of the share of correct images, whole spots drawn with replacement.

    Source: Field and Welsh, "Bootstrapping clustered data" (2007), the cluster bootstrap.

    Args:
        correct: (N,) whether each image is named right.
        spots: (N,) the spot of each image.
        level: share of resamples inside, in (0, 1).
        seed: equal seeds give equal intervals.

    Returns:
        Lower and upper end, in [0, 1]; both NaN for no image. One spot says nothing of others: 0 and 1.

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
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(len(images), size=len(images)) for _ in range(RESAMPLES))
    shares = [hits[spots].sum() / images[spots].sum() for spots in drawn]
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
