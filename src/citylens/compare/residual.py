"""How far the masks of two networks differ (paper, eq. 2), and which pairs of networks are compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def residual(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Return the mean absolute difference of two networks' masks of each image, :math:`AR_{m_1,m_2}` (paper, eq. 2).

    Args:
        first, second: (N, H, W) weighted masks in [0, 1], of the same images.

    Returns:
        (N,) float64 in [0, 1]; 0 for equal masks.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"masks have shapes {first.shape} and {second.shape}; allowed: the same")
    return np.abs(first - second).mean(axis=(1, 2), dtype=np.float64)


def values(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    first_inside: NDArray[np.bool_],
    second_inside: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """Return what is computed of two networks' masks of each image, (N,) float64 each.

    Args:
        first, second: (N, H, W) weighted masks in [0, 1], of the same images.
        first_inside, second_inside: (N, H, W), the pixels inside the explanations.

    Returns:
        `residual`, AR; `least` and `most`, the smallest and the largest AR of two masks with these mean values; `iou`, the
        intersection of the explanations over their union, NaN if both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    one, other = (mask.mean(axis=(1, 2), dtype=np.float64) for mask in (first, second))
    inside = (first_inside & second_inside, first_inside | second_inside)
    both, either = (part.sum(axis=(1, 2)) for part in inside)
    return {
        "residual": residual(first, second),
        "least": np.abs(one - other),
        "most": np.minimum(one + other, 2 - one - other),
        "iou": np.divide(both, either, out=np.full(len(first), np.nan), where=either > 0),
    }


def kind(first: tuple[str, int], second: tuple[str, int]) -> str:
    """Return whether two trained networks differ by "architecture", or by "initialisation" alone."""
    return "architecture" if first[0] != second[0] else "initialisation"


def table2_pairs(networks: Sequence[str], seeds: Sequence[int]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of the paper's table 2: any two networks at the first seed, then each network at the first two seeds."""
    architectures = [((first, seeds[0]), (second, seeds[0])) for first, second in combinations(networks, 2)]
    retrained = [((network, seeds[0]), (network, seeds[1])) for network in networks] if len(seeds) > 1 else []
    return architectures + retrained
