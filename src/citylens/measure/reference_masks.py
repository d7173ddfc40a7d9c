"""Regions that need no network: what R would be if an explanation were the image's edges, its centre, or chance."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def strongest(values: NDArray[np.floating], shares: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return the region of each image's highest values that covers its share of the pixels, (N, H, W).

    Args:
        values: (N, H, W); which of equal values count as higher is drawn, the same in each run.
        shares: (N,) in [0, 1].
    """
    flat = values.reshape(len(values), -1)
    regions = np.zeros(flat.shape, bool)
    for region, own, count in zip(regions, flat, _pixels(shares, flat.shape[1]), strict=True):
        if count:
            least = np.partition(own, len(own) - count)[len(own) - count]
            region[:] = own > least
            # The first of equal pixels would all lie at the top of the image, in the sky.
            equal = np.random.default_rng(0).permutation(np.flatnonzero(own == least))
            region[equal[: count - np.count_nonzero(region)]] = True
    return regions.reshape(values.shape)


def ranks(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the place of each pixel in the falling order of its image's values, from 0, (N, H, W); for `first`."""
    flat = values.reshape(len(values), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    places = np.empty(flat.shape, np.int64)
    np.put_along_axis(places, order, np.arange(flat.shape[1])[None], axis=1)
    return places.reshape(values.shape)


def first(places: NDArray[np.int64], shares: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return what `strongest` returns for values of which `ranks` gave the places, where no two are equal, (N, H, W)."""
    size = places.shape[1] * places.shape[2]
    return places < _pixels(shares, size)[:, None, None]


def _pixels(shares: NDArray[np.floating], size: int) -> NDArray[np.int64]:
    return np.rint(np.asarray(shares) * size).astype(np.int64)


def edges(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the strength of edges, (N, H, W): the absolute Laplacian of the blurred grey image, blurred again.

    Args:
        images: (N, H, W, 3) RGB.
    """
    found = np.empty(images.shape[:3], np.float32)
    for place, image in enumerate(images):
        grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
        found[place] = cv2.GaussianBlur(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), (0, 0), 2)
    return found


def nearness(side: int) -> NDArray[np.float32]:
    """Return how near each pixel of a square image is to its centre, (side, side): minus the distance in pixels."""
    place = np.arange(side) - (side - 1) / 2
    return -np.hypot(place[:, None], place[None, :]).astype(np.float32)
