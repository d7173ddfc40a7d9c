"""How much of each object the explanations cover (paper, eq. 1), by pixel counts that add up over images and shards."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from citylens.nets.label_maps import OBJECTS
from citylens.nets.masks import inside as is_inside

THRESHOLDS = np.arange(1, 10) / 10
"""Thresholds of the table of R over thresholds."""


def count_regions(labels: NDArray[np.uint8], regions: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.int64]]:
    """Return the pixels of each object in up to eight regions, and as `total` in the whole image, each (N, 151).

    Each pixel is read once: a bit of its code says which regions it is in.

    Args:
        labels: (N, H, W) in 0..150, 0 for unlabelled.
        regions: (N, H, W) by name, such as the visual explanations (`masks.inside`).

    Raises:
        ValueError: the shapes differ, or a label is above 150.
    """
    for name, region in regions.items():
        if region.shape != labels.shape:
            raise ValueError(f"labels have shape {labels.shape}, {name} {region.shape}; allowed: the same")
    if labels.size and labels.max() > OBJECTS:
        raise ValueError(f"label {labels.max()} found; allowed: 0 to {OBJECTS}")
    kinds = 1 << len(regions)
    counts = np.empty((len(labels), OBJECTS + 1, kinds), np.int64)
    for image, (found, own) in enumerate(zip(counts, labels, strict=True)):
        codes = np.zeros(own.shape, np.uint8)
        for bit, region in enumerate(regions.values()):
            codes |= region[image].view(np.uint8) << bit
        cells = own.ravel().astype(np.intp) * kinds + codes.ravel()
        found[:] = np.bincount(cells, minlength=(OBJECTS + 1) * kinds).reshape(found.shape)
    held = np.arange(kinds)[:, None] >> np.arange(len(regions)) & 1
    inside = counts @ held
    return {name: inside[..., bit] for bit, name in enumerate(regions)} | {"total": counts.sum(axis=2)}


def sum_weights(labels: NDArray[np.uint8], masks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sum of the mask over the pixels of each object, (N, 151); labels and masks are (N, H, W)."""
    pairs = zip(labels, masks, strict=True)
    sums = [np.bincount(own.ravel(), mask.ravel(), OBJECTS + 1) for own, mask in pairs]
    return np.reshape(sums, (len(labels), OBJECTS + 1)).astype(np.float64)


def count_thresholds(
    labels: NDArray[np.uint8], masks: NDArray[np.floating], how: str = "at least"
) -> NDArray[np.int64]:
    """Return the pixels of each object, and those whose mask is "at least" or "above" .1, ... .9, all images together, (151, 10) int64."""
    steps = len(THRESHOLDS) + 1
    counts = np.zeros((OBJECTS + 1) * steps, np.int64)
    for own, mask in zip(labels, masks, strict=True):
        reached = np.zeros(mask.shape, np.uint8)
        for threshold in THRESHOLDS:
            reached += is_inside(mask, threshold, how)
        counts += np.bincount(own.ravel().astype(np.intp) * steps + reached.ravel(), minlength=len(counts))
    return counts.reshape(OBJECTS + 1, steps)[:, ::-1].cumsum(axis=1)[:, ::-1]


def object_ratio(inside: NDArray[np.number], total: NDArray[np.number]) -> NDArray[np.float64]:
    r"""Return the share of each object's pixels that the explanations cover, :math:`R^c_p` (paper, eq. 1).

    Args:
        inside: (P,) pixels of object p inside the explanations, all images of city c together.
        total: (P,) pixels of object p in these images; `inside <= total`.

    Returns:
        (P,) float64 in [0, 1]; NaN for an object that no image shows.

    Raises:
        ValueError: the shapes differ, or some inside exceeds its total.
    """
    if inside.shape != total.shape:
        raise ValueError(f"inside has shape {inside.shape}, total {total.shape}; allowed: the same")
    if (inside > total).any():
        raise ValueError("an object has more pixels inside the explanations than in the images")
    return np.divide(inside, total, out=np.full(total.shape, np.nan), where=total > 0)


def is_kept(
    labels: NDArray[np.integer], mean_pixels: NDArray[np.floating], min_pixels: float, size: int
) -> NDArray[np.bool_]:
    """Return whether each object is large enough to be shown (paper, section 3.4: over 100 pixels per image at 224 x 224).

    Args:
        labels: (P,) label of each object; 0, unlabelled, is never kept.
        mean_pixels: (P,) mean pixels per image.
        min_pixels: the criterion at 224 x 224, scaled here by area to images of `size` x `size` pixels.
    """
    return (labels > 0) & (mean_pixels > min_pixels * (size / 224) ** 2)
