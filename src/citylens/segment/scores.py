"""Agreement of a scene parser's labels with the labels that people drew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the (256, 256) numbers of pixels by true label (row) and found label (column), which add up over images.

    Args:
        truth: labels that people drew, of any shape; pixels with 0 (unlabelled) are not counted.
        found: labels that the scene parser found, of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != found.shape:
        raise ValueError(f"label maps of {truth.shape} and {found.shape}")
    cells = truth.astype(np.int64) * 256 + found
    counts = np.bincount(cells.ravel(), minlength=256 * 256).reshape(256, 256)
    counts[0] = 0
    return counts


def pixel_accuracy(counts: NDArray[np.int64]) -> float:
    """Return the share of counted pixels whose found label is the true one, in [0, 1]; NaN if no pixel was counted."""
    return float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Return the mean intersection over union (mIoU) of the labels that occur in the truth, in [0, 1]; NaN if none occurs.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (2010), section 4.1.
    """
    inside = np.diagonal(counts)
    true, found = counts.sum(axis=1), counts.sum(axis=0)
    occurs = true > 0
    return float(np.mean(inside[occurs] / (true + found - inside)[occurs])) if occurs.any() else float("nan")
