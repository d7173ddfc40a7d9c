"""Permutation tests of whether networks of one architecture are alike: all ways to put the networks into groups of such sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray

MOST, DRAWN = 20_000, 9_999


def count(sizes: Sequence[int]) -> int:
    """Return in how many ways items can be put into unnamed groups of these sizes: 105 for four pairs."""
    ways, left = 1, sum(sizes)
    for size in sizes:
        ways, left = ways * comb(left, size), left - size
    for size in set(sizes):
        ways //= factorial(list(sizes).count(size))
    return ways


def groupings(groups: Sequence[int], seed: int = 0) -> NDArray[np.int64]:
    """Return the ways to put items into groups of the given sizes, one per row; the given one comes first.

    Args:
        groups: (n,) the group of each item, from 0.
        seed: of the random ways; only used if there are more than 20,000, of which 9,999 are drawn.

    Returns:
        (ways, n) int64.
    """
    given = np.asarray(groups)
    sizes = np.bincount(given).tolist()
    if count(sizes) > MOST:
        generator = np.random.default_rng(seed)
        return np.stack([given, *(generator.permutation(given) for _ in range(DRAWN))])
    ways = (_labels(way, len(given)) for way in _ways(tuple(range(len(given))), tuple(sizes)))
    same = _signature(given)
    return np.stack([given, *(labels for labels in ways if _signature(labels) != same)])


def _signature(labels: NDArray[np.int64]) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(np.flatnonzero(labels == group).tolist()) for group in np.unique(labels))


def _labels(way: Sequence[Sequence[int]], items: int) -> NDArray[np.int64]:
    labels = np.empty(items, np.int64)
    for group, members in enumerate(way):
        labels[list(members)] = group
    return labels


def _ways(items: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield each way once: the first item left goes into a group of each size, with each choice of others."""
    if not items:
        yield ()
        return
    first, rest = items[0], items[1:]
    for size in sorted(set(sizes)):
        left = list(sizes)
        left.remove(size)
        for others in combinations(rest, size - 1):
            remaining = tuple(item for item in rest if item not in others)
            for way in _ways(remaining, tuple(left)):
                yield ((first, *others), *way)


def gap(distances: NDArray[np.float64], ways: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each way the mean distance between groups less that within groups, (ways,), of (n, n) distances."""
    first, second = np.triu_indices(len(distances), 1)
    values, same = distances[first, second], ways[:, first] == ways[:, second]
    within = (same * values).sum(axis=1) / same.sum(axis=1)
    return (~same * values).sum(axis=1) / (~same).sum(axis=1) - within


def permanova(distances: NDArray[np.float64], ways: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Return the pseudo-F of each way, (ways,), and the share of the squared distances that the first way's groups explain.

    Source: Anderson, "A new method for non-parametric multivariate analysis of variance" (2001).
    """
    items = len(distances)
    squares = distances**2
    total = squares.sum() / 2 / items
    within = np.zeros(len(ways))
    for group in range(ways.max() + 1):
        member = (ways == group).astype(float)
        pairs = np.einsum("wi,ij,wj->w", member, squares, member) / 2
        within += np.divide(pairs, member.sum(axis=1), out=np.zeros(len(ways)), where=member.sum(axis=1) > 0)
    groups = ways.max() + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        f = ((total - within) / (groups - 1)) / (within / (items - groups))
    return f, float(1 - within[0] / total) if total > 0 else float("nan")


def p_value(statistics: NDArray[np.float64]) -> float:
    """Return the share of ways whose statistic is at least that of the first one, which counts too; ties within 1e-12 count."""
    return float((statistics >= statistics[0] - 1e-12).mean())
