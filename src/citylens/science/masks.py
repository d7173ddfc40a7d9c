"""Weighted masks: Grad-CAM maps at the images' size, between 0 and 1 (paper, section 2.1)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def dead(maps: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(N,) whether the ReLU leaves nothing of a map, or the same everywhere: no region stands out and min-max has no meaning.

    Args:
        maps: (N, h, w) Grad-CAM maps before the ReLU.
    """
    positive = np.maximum(maps, 0)
    return positive.max(axis=(1, 2)) <= positive.min(axis=(1, 2))


def normalise(maps: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    r"""The weighted masks :math:`\mathrm{mask\_norm}`: ReLU, bilinear to the images' size, min-max to [0, 1].

    Args:
        maps: (N, h, w) Grad-CAM maps before the ReLU.
        size: side of the images, in pixels.

    Returns:
        (N, size, size) float32 in [0, 1]; all zero for a dead mask.

    Raises:
        ValueError: not three axes, or a value is not finite.
    """
    if maps.ndim != 3:
        raise ValueError(f"maps have shape {maps.shape}; allowed: (images, height, width)")
    if not np.isfinite(maps).all():
        raise ValueError("maps hold NaN or infinite values; allowed: finite numbers")
    masks = np.zeros((len(maps), size, size), np.float32)
    for mask, values, is_dead in zip(masks, maps, dead(maps), strict=True):
        if not is_dead:
            mask[:] = _stretched(upsample(np.maximum(values, 0), size))
    return masks


def upsample(values: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """(h, w) to (size, size) float32, bilinear with half-pixel centres (torch's `align_corners=False`)."""
    return np.asarray(cv2.resize(values.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR))


def _stretched(mask: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = mask.min(), mask.max()
    # A single cell's contrast can vanish between the sampled points; then nothing stands out in the image either.
    return (mask - low) / (high - low) if high > low else np.zeros_like(mask)
