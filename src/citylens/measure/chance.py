"""Chance levels of R: the R that an image's explanation has if it is that of another image of the same city.

Such masks know the city and the usual places of its objects, but not the image. All is computed on a grid of 16 x 16 cells: the
share of a cell inside an explanation, times the share of the object's pixels there. On masks as smooth as upsampled maps this gives
R to .005 (tests/test_chance.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from citylens.nets.masks import GRID, cells
from citylens.nets.shards import shards

COLUMNS = 16  # cells at a time: sums of all images in float64 take much memory
SAME = 1e-6  # R of equal regions differs by less, as it is summed in another order


@dataclass(frozen=True)
class Objects:
    """Where the objects of all images are: one row per image and object in it.

    Args:
        image: (M,) int64, rising.
        label: (M,) int64.
        pixels: (M, 256) float32, the object's pixels in each cell, as a number of cells' areas.
    """

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    pixels: NDArray[np.float32]


def objects(labels: NDArray[np.uint8], first: int = 0) -> Objects:
    """Return where objects are in (N, H, W) label maps of the images `first`, `first` + 1, ...; unlabelled pixels are left out."""
    found = [(place, label) for place, image in enumerate(labels) for label in np.unique(image) if label > 0]
    image, label = np.array(found, np.int64).reshape(-1, 2).T
    pixels = [cells((labels[place] == value)[None]) for place, value in found]
    return Objects(image + first, label, np.concatenate([*pixels, np.empty((0, GRID * GRID), np.float32)]))


def expected_cells(
    cover: NDArray[np.float32],
    cities: ArrayLike,
    spots: ArrayLike,
    headings: ArrayLike,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the mean cover of the images that could stand in for each image, (N, 256): of its city, but of another spot.

    They have the same heading, if headings are known and another spot has it. NaN where a city has one spot.

    Args:
        cover: (N, 256) from `masks.cells`.
        cities, spots: (N,) names.
        headings: (N,) degrees, NaN where unknown.
        out: (N, 256), where the result is written, if given.
    """
    out = np.empty_like(cover) if out is None else out
    turned = np.nan_to_num(np.asarray(headings, float), nan=-1.0)
    known = np.isfinite(np.asarray(headings, float))[:, None]
    anywhere = _groups(cities), _groups(cities, spots)
    alike = _groups(cities, turned), _groups(cities, spots, turned)
    for part in shards(cover.shape[1], COLUMNS):
        means, facing = (_mean_of_others(cover[:, part], *of) for of in (anywhere, alike))
        out[:, part] = np.where(known & np.isfinite(facing), facing, means)
    return out


def _groups(*columns: ArrayLike) -> NDArray[np.int64]:
    """Return a number for each row, the same for rows with equal values in all columns."""
    codes = [np.unique(np.asarray(column), return_inverse=True)[1] for column in columns]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()


def _mean_of_others(
    values: NDArray[np.float32], group: NDArray[np.int64], own: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return for each row the mean over its group without its own part of the group; NaN if nothing is left."""

    def sums(code: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        total = np.zeros((code.max(initial=0) + 1, values.shape[1]))
        np.add.at(total, code, values)
        return total[code], np.bincount(code)[code]

    (all_sum, all_count), (own_sum, own_count) = sums(group), sums(own)
    others = (all_count - own_count)[:, None]
    return np.divide(all_sum - own_sum, others, out=np.full(values.shape, np.nan), where=others > 0).astype(np.float32)


def inside(cover: NDArray[np.float32], where: Objects) -> NDArray[np.float64]:
    """Return for each image and object how many cells' areas of it a cover has, (M,); `cover` is (N, 256)."""
    return np.einsum("mc,mc->m", where.pixels, cover[where.image], dtype=np.float64)


def swapped_inside(
    cover: NDArray[np.float32], rows: NDArray[np.integer], where: Objects, codes: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    """Return the covered area of each group of objects after each swap, (swaps, groups), in cells' areas.

    Args:
        cover: (N, 256) from `masks.cells`.
        rows: (swaps, N): the image whose cover each image gets.
        where: the objects of some images.
        codes: (M,) the group of each row of `where`, such as its city and label, from 0.
        groups: their number.
    """
    sums = np.zeros((groups, len(rows)))
    images, starts = np.unique(where.image, return_index=True)
    for image, start, end in zip(images, starts, [*starts[1:], len(where.image)], strict=True):
        # One product of matrices per image: its objects with the covers that it gets in all swaps.
        sums[codes[start:end]] += where.pixels[start:end] @ cover[rows[:, image]].T
    return sums.T


def tail(observed: NDArray[np.float64], drawn: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return z and two-sided p of (P,) observed values under (draws, P) values of a null hypothesis.

    p is the share of draws, the observed value among them, that are at least as far from the draws' mean (Phipson and Smyth,
    2010), so never 0. Both are NaN where a value is NaN, or the draws do not differ.
    """
    mean, deviation = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    far = np.abs(drawn - mean) >= np.abs(observed - mean) - SAME
    p = (1 + far.sum(axis=0)) / (1 + len(drawn))
    z = np.divide(observed - mean, deviation, out=np.full(observed.shape, np.nan), where=deviation > SAME)
    return z, np.where(np.isfinite(z), p, np.nan)
