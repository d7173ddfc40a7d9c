"""How much of each object the networks use: R (paper, eq. 1), by counts that add up over batches and images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LABELS = 151  # ADE20K's 150 objects and 0, unlabelled


def count_pixels(
    labels: NDArray[np.uint8], masks: NDArray[np.floating], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels of each object inside the visual explanation, and in all.

    Args:
        labels: (N, H, W) uint8 in 0..150, 0 = unlabelled.
        masks: (N, H, W) weighted masks in [0, 1].
        threshold: a pixel is explained where the mask is at least this.

    Returns:
        inside, total: (N, 151) int64, a column a label.

    Raises:
        ValueError: the shapes differ, or a label is above 150.
    """
    if labels.shape != masks.shape:
        raise ValueError(f"labels have shape {labels.shape}, masks {masks.shape}; allowed: the same")
    if labels.size and labels.max() >= LABELS:
        raise ValueError(f"label {labels.max()} found; allowed: 0 to {LABELS - 1}")
    images = np.arange(len(labels))[:, None, None] * LABELS
    cells = labels.astype(np.int64) + images
    shape = (len(labels), LABELS)
    total = np.bincount(cells.ravel(), minlength=len(labels) * LABELS)
    inside = np.bincount(cells[masks >= threshold], minlength=len(labels) * LABELS)
    return inside.reshape(shape), total.reshape(shape)


def object_ratio(inside: NDArray[np.integer], total: NDArray[np.integer]) -> NDArray[np.float64]:
    r"""Share of each object's pixels that the explanation covers, :math:`R^c_p` (paper, eq. 1).

    Args:
        inside: (N, P) pixels of object p inside image i's explanation.
        total: (N, P) pixels of object p in image i; `inside <= total`.

    Returns:
        (P,) in [0, 1]; NaN for an object that no image shows.

    Raises:
        ValueError: the shapes differ, or some inside exceeds its total.
    """
    if inside.shape != total.shape:
        raise ValueError(f"inside has shape {inside.shape}, total {total.shape}; allowed: the same")
    if (inside > total).any():
        raise ValueError("an object has more pixels inside the explanation than in the image")
    covered, shown = inside.sum(axis=0), total.sum(axis=0)
    return np.divide(covered, shown, out=np.full(shown.shape, np.nan), where=shown > 0)


def is_kept(
    labels: NDArray[np.integer], mean_pixels: NDArray[np.floating], min_pixels: float, size: int
) -> NDArray[np.bool_]:
    """Whether objects' mean pixels an image exceed the criterion (paper, section 3.4: 100, at 224 x 224).

    Args:
        labels: (P,) of the objects; 0, the unlabelled, is never kept.
        mean_pixels: (P,) of the city's images, where they are `size` x `size`.
        min_pixels: at 224 x 224, scaled by area.
    """
    return (labels > 0) & (mean_pixels > min_pixels * (size / 224) ** 2)
