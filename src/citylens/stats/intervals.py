"""Intervals over spots: the views of one spot are not independent, so a spot counts as one observation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95


def ratio_interval(
    above: NDArray[np.floating], below: NDArray[np.floating], strata: ArrayLike, level: float = LEVEL
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the t interval of sum(above) / sum(below) by the jackknife that leaves out one spot at a time.

    Source: Wolter, "Introduction to Variance Estimation" (2007), section 4.5, the stratified jackknife.

    Args:
        above, below: (spots, P) sums per spot.
        strata: (spots,) the city of each spot, for a ratio over several cities.

    Returns:
        Lower and upper ends, (P,); NaN where a city has one spot, or nothing is below.
    """
    strata = np.asarray(strata)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = above.sum(axis=0) / below.sum(axis=0)
        without = (above.sum(axis=0) - above) / (below.sum(axis=0) - below)
        variance = np.zeros(ratio.shape)
        for city in np.unique(strata):
            own, count = without[strata == city], int((strata == city).sum())
            variance += (count - 1) / count * ((own - own.mean(axis=0)) ** 2).sum(axis=0) if count > 1 else np.nan
    freedom = len(strata) - len(np.unique(strata))
    width = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance) if freedom > 0 else np.full(ratio.shape, np.nan)
    return ratio - width, ratio + width


def mean_interval(values: ArrayLike, cities: ArrayLike, spots: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the t interval of the mean of (N,) values over images, with spots as units, stratified by city."""
    sums = _by_spot(np.asarray(values, float), cities, spots)
    low, high = ratio_interval(sums[["sum"]].to_numpy(), sums[["size"]].to_numpy(), sums["city"].to_numpy(), level)
    return float(low[0]), float(high[0])


def share_interval(right: ArrayLike, cities: ArrayLike, spots: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a share of images, such as an accuracy; never of width 0, even if all images are right.

    The interval is that of Clopper and Pearson for as many independent images as would have the variance that the spots show
    (Korn and Graubard, 1998): n / design effect, with the t distribution's correction for few spots.

    Args:
        right: (N,) booleans.
        cities, spots: (N,) names.

    Returns:
        Lower and upper end in [0, 1]; NaN without images; 0 and 1 where a city has one spot.
    """
    right = np.asarray(right, float)
    if not len(right):
        return float("nan"), float("nan")
    sums = _by_spot(right, cities, spots)
    counts = sums.groupby("city")["size"].size()
    freedom = int(counts.sum() - len(counts))
    if counts.min() < 2:
        return 0.0, 1.0
    share = float(right.mean())
    images = _effective_images(sums, share, len(right))
    images *= (stats.norm.ppf((1 + level) / 2) / stats.t.ppf((1 + level) / 2, freedom)) ** 2
    hits, tail = share * images, (1 - level) / 2
    low = stats.beta.ppf(tail, hits, images - hits + 1) if hits > 0 else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, images - hits) if hits < images else 1.0
    return float(low), float(high)


def _effective_images(sums: pd.DataFrame, share: float, images: int) -> float:
    """Return how many independent images would give the variance that the spots show; at most the images, at least the spots."""
    variance = 0.0
    for _, own in sums.groupby("city"):
        rest = (own["sum"] - own["size"] * own["sum"].sum() / own["size"].sum()).to_numpy()
        variance += len(own) / (len(own) - 1) * float((rest**2).sum())
    variance /= images**2
    spread = share * (1 - share)
    if variance <= 0 or spread <= 0:
        return float(len(sums))
    return float(np.clip(spread / variance, min(len(sums), images), images))


def _by_spot(values: NDArray[np.float64], cities: ArrayLike, spots: ArrayLike) -> pd.DataFrame:
    table = pd.DataFrame({"city": np.asarray(cities), "spot": np.asarray(spots), "value": values})
    return table.groupby(["city", "spot"], as_index=False)["value"].agg(["sum", "size"]).reset_index()
