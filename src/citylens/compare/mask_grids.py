"""Masks on the grid of `nets.masks.cells`: AR, AR after swaps, and what their variance goes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from citylens.nets.shards import shards

SHARD = 1024  # images


def residual(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return AR of each image on the grid, (N,), of two networks' (N, 256)."""
    return np.abs(first - second).mean(axis=1, dtype=np.float64)


def swapped_residual(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    swaps: Sequence[NDArray[np.int64]],
    places: NDArray[np.int64],
    part: slice = slice(None),
) -> NDArray[np.float64]:
    """Return AR of each image after the second network's masks were swapped between images, the mean over swaps, (n,).

    Args:
        first, second: (N, 256).
        swaps: each (N,), the image whose mask each image gets.
        places: (N,) the spot of each image; a mask of the same spot does not count.
        part: the n images; by default all.

    Returns:
        NaN for an image that got masks of its own spot alone.
    """
    own = first[part]
    sums, counts = np.zeros(len(own)), np.zeros(len(own))
    for swapped in swaps:
        rows = swapped[part]
        other = places[rows] != places[part]
        sums += np.where(other, residual(own, second[rows]), 0)
        counts += other
    return np.divide(sums, counts, out=np.full(len(own), np.nan), where=counts > 0)


def variance_shares(grids: Mapping[tuple[str, int], NDArray[np.float32]]) -> dict[str, float]:
    """Return the variance components of masks, as shares of their sum: image (and place in it), architecture, seed, both, rest.

    From the mean squares of an analysis of variance, all effects random, seeds within architectures; a component below 0 counts as
    0. Every architecture needs the same number of seeds. `rest` is seed x image, with all else. NaN with one architecture or one
    seed, or if all masks are equal.
    Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 4.

    Args:
        grids: (N, 256) by network and seed.
    """
    architectures = list(dict.fromkeys(network for network, _ in grids))
    values = [[own for (name, _), own in grids.items() if name == one] for one in architectures]
    networks, seeds, images = len(values), len(values[0]), len(values[0][0])
    units = images * values[0][0].shape[1]
    of_seed, image, both, total = np.zeros((networks, seeds)), 0.0, 0.0, 0.0
    for part in shards(images, SHARD):
        whole = np.array([[own[part].ravel() for own in of_one] for of_one in values], np.float64)
        of_seed += whole.sum(axis=2)
        of_both = whole.sum(axis=1)
        image += (of_both.sum(axis=0) ** 2).sum() / (networks * seeds)
        both += (of_both**2).sum() / seeds
        total += (whole**2).sum()
    common = of_seed.sum() ** 2 / (networks * seeds * units)
    architecture = (of_seed.sum(axis=1) ** 2).sum() / (seeds * units)
    seed = (of_seed**2).sum() / units
    with np.errstate(divide="ignore", invalid="ignore"):
        of_image = np.float64(image - common) / (units - 1)
        of_architecture = np.float64(architecture - common) / (networks - 1)
        of_seed_within = np.float64(seed - architecture) / (networks * (seeds - 1))
        of_both_effects = np.float64(both - image - architecture + common) / ((networks - 1) * (units - 1))
        rest = np.float64(total - both - seed + architecture) / (networks * (seeds - 1) * (units - 1))
        parts = {
            "image": (of_image - of_both_effects) / (networks * seeds),
            "architecture": (of_architecture - of_both_effects - of_seed_within + rest) / (seeds * units),
            "seed": (of_seed_within - rest) / units,
            "architecture x image": (of_both_effects - rest) / seeds,
            "rest": rest,
        }
        # `maximum` keeps NaN.
        components = {name: float(np.maximum(part, 0)) for name, part in parts.items()}
        return {name: float(np.float64(part) / sum(components.values())) for name, part in components.items()}
