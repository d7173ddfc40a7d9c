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


def kind(first: tuple[str, int], second: tuple[str, int]) -> str:
    """Return whether two trained networks differ by "architecture", or by "initialisation" alone."""
    return "architecture" if first[0] != second[0] else "initialisation"


def table2_pairs(networks: Sequence[str], seeds: Sequence[int]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of the paper's table 2: any two networks at the first seed, then each network at the first two seeds."""
    architectures = [((first, seeds[0]), (second, seeds[0])) for first, second in combinations(networks, 2)]
    retrained = [((network, seeds[0]), (network, seeds[1])) for network in networks] if len(seeds) > 1 else []
    return architectures + retrained
