"""Weighted masks: Grad-CAM maps at the images' size, between 0 and 1 (paper, section 2.1)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 16  # cells per side, the same for networks whose maps differ in size


def dead(maps: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether each of N maps, (N, h, w) before the ReLU, is constant after it: no region stands out, min-max has no meaning."""
    positive = np.maximum(maps, 0)
    return positive.max(axis=(1, 2)) <= positive.min(axis=(1, 2))


def normalise(maps: NDArray[np.floating], size: int, how: str = "minmax") -> NDArray[np.float32]:
    r"""Return the weighted masks :math:`\mathrm{mask\_norm}` (paper, section 2.1): ReLU, bilinear upsampling, normalising.

    Normalising comes last, so that each mask reaches 1: upsampling flattens peaks narrower than a cell.

    Args:
        maps: (N, h, w) Grad-CAM maps before the ReLU.
        size: side of the images, in pixels.
        how: "minmax" subtracts each mask's minimum and divides by its range; "max" divides by its maximum. The paper says
            "normalizing" alone.

    Returns:
        (N, size, size) float32 in [0, 1]; all zero for a dead mask.

    Raises:
        ValueError: `maps` has not three axes, or a value is not finite.
    """
    if maps.ndim != 3:
        raise ValueError(f"maps have shape {maps.shape}; allowed: (images, height, width)")
    if not np.isfinite(maps).all():
        raise ValueError("maps hold NaN or infinite values; allowed: finite numbers")
    masks = np.zeros((len(maps), size, size), np.float32)
    for mask, values, is_dead in zip(masks, maps, dead(maps), strict=True):
        if not is_dead:
            large = upsample(np.maximum(values, 0), size)
            low, high = large.min() if how == "minmax" else 0, large.max()
            # A single cell's contrast can vanish between the sampled points; then nothing stands out in the image either.
            mask[:] = (large - low) / (high - low) if high > low else 0
    return masks


def inside(masks: NDArray[np.floating], threshold: float, how: str = "at least") -> NDArray[np.bool_]:
    """Return which pixels are inside the explanation: those whose mask is "at least" or "above" the threshold (paper, eq. 1)."""
    return masks >= threshold if how == "at least" else masks > threshold


def upsample(values: NDArray[np.floating], size: int) -> NDArray[np.float32]:
    """Return (h, w) values as (size, size) float32, bilinear with half-pixel centres (torch's `align_corners=False`)."""
    return np.asarray(cv2.resize(values.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR))


def cells(masks: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the mean of (N, H, W) masks, or the share of regions of zeros and ones, in each cell of the grid: (N, 256)."""
    shrunk = [cv2.resize(mask.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) for mask in masks]
    return np.reshape(shrunk, (len(masks), GRID * GRID)).astype(np.float32)


def ranks(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the ranks of N maps' values, (N, ...) as (N, cells), with mean 0 and length 1; 0 for a constant map.

    The product of two maps' ranks is Spearman's correlation.
    """
    from scipy.stats import rankdata  # here, because it takes a second to load, and most stages rank nothing

    ranked = np.asarray(rankdata(maps.reshape(len(maps), -1), axis=1), np.float64)
    ranked -= ranked.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranked, axis=1, keepdims=True)
    return np.divide(ranked, length, out=np.zeros(ranked.shape), where=length > 0)
