"""Probes for shortcuts: how well traits that say nothing about what a city looks like tell the cities apart.

A probe is a logistic regression on a few numbers per image. A network whose accuracy is no higher than a probe's may use the same trait.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from citylens.errors import InputError
from citylens.stats.intervals import share_interval

_GRID = 12  # cells per side; the outermost ones are a ring of 8 % of the side
_LOW_PASS = 8
_STRENGTH = (
    0.1  # C. With 1 or .01, accuracies on 2,400 photographs of two cities differ by .03 at most, but for one by .05.
)
_STEPS = 200
MOST_VALUES = 50


def file_traits(files: pd.DataFrame) -> NDArray[np.float64]:
    """Return what a file says without its pixels: size, width, height, bytes per pixel, and codec.

    Args:
        files: columns bytes (> 0), width and height (pixels, > 0), codec; one row per image.

    Returns:
        (N, 4 + codecs): logarithms of the first four, then 1 for the file's own codec and 0 for each other codec.
    """
    counts = files[["bytes", "width", "height"]].to_numpy(float)
    sizes = np.column_stack([counts, counts[:, 0] / (counts[:, 1] * counts[:, 2])])
    return np.column_stack([np.log(sizes), pd.get_dummies(files["codec"]).to_numpy(float)])


def column_traits(values: pd.Series) -> NDArray[np.float64]:
    """Return (N, values) which of a column's values each row has: 1 for its own, 0 for all others.

    Raises:
        InputError: there are more than `MOST_VALUES` of them, as many as a network could learn by heart.
    """
    if values.nunique() > MOST_VALUES:
        raise InputError(
            f"acquire.traits: {values.name} has {values.nunique()} values; allowed: {MOST_VALUES} or fewer, such as seasons"
        )
    return np.asarray(pd.get_dummies(values.fillna("").astype(str)).to_numpy(float))


def pixel_traits(images: Iterable[NDArray[np.uint8]]) -> dict[str, NDArray[np.float64]]:
    """Return traits of images that say little about what stands where.

    Args:
        images: (size, size, 3) uint8 each.

    Returns:
        `colour`: (N, 6), mean and standard deviation of each channel; `border`: (N, 132), the means of 12 x 12 cells, of which the
        outermost count; `low_pass`: (N, 192), the image at 8 x 8 pixels. All in grey levels.
    """
    ring = np.ones((_GRID, _GRID), bool)
    ring[1:-1, 1:-1] = False
    found: dict[str, list[NDArray[np.generic]]] = {"colour": [], "border": [], "low_pass": []}
    for image in map(np.ascontiguousarray, images):
        found["colour"].append(np.ravel(cv2.meanStdDev(image)))
        found["border"].append(_shrunk(image, _GRID)[ring].ravel())
        found["low_pass"].append(_shrunk(image, _LOW_PASS).ravel())
    return {name: np.array(rows, float) for name, rows in found.items()}


def _shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))


def probed(index: pd.DataFrame, traits: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return how well each trait tells the cities of the test images, after learning from the training images.

    Args:
        index: columns city, spot, split; one row per image; two or more cities in the training images.
        traits: (N, features) each.

    Returns:
        `images`: number of test images; `largest_city`: the largest share of a city in them; `probes`: for each trait `features`,
        `accuracy`, and `low` and `high`, the ends of its 95 % interval, in which spots count as units (see `share_interval`).
        Six digits.
    """
    training, test = (index["split"].eq(split).to_numpy() for split in ("training", "test"))
    cities = index["city"].to_numpy(str)
    tested = index[test]
    probes = {}
    for name, values in traits.items():
        right = predicted(values[training], cities[training], values[test]) == cities[test]
        low, high = share_interval(right, tested["city"], tested["spot"])
        numbers = {"accuracy": float(right.mean()), "low": low, "high": high}
        probes[name] = {"features": values.shape[1]} | {key: round(value, 6) for key, value in numbers.items()}
    largest = float(tested["city"].value_counts(normalize=True).max())
    return {"images": len(tested), "largest_city": round(largest, 6), "probes": probes}


def predicted(training: NDArray[np.float64], cities: NDArray[np.str_], test: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the city that a standardised logistic regression gives each test image.

    It takes at most 200 steps of L-BFGS on one thread, so results do not depend on the number of threads.

    Args:
        training: (N, features).
        cities: (N,) names.
        test: (M, features).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=_STEPS))
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(model.fit(training, cities).predict(test))
