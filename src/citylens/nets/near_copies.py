"""Images that show almost the same, found by perceptual hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FURTHEST = 4
"""Bits of 64 in which near-copies differ at most.

Measured at 96 px. The same photograph after JPEG of quality 30 or 60, a 3 % resize, blur, or noise of 5 grey levels differs by 0 to 4
bits, but for one of 3,000. Of 2,400 photographs of two cities, 4 pairs differ by 4 bits or less, all taken within 30 m in one direction;
of the 5 pairs at 6 bits, 2 show places kilometres apart. Different rendered images differ by 12 bits or more. A crop of 2 % per side is
found in half of the cases only.
"""
FLAT = 4.0
_SIDE, _LOW = 32, slice(1, 9)
_BITS = 64
_BANDS = tuple(np.uint64(sum(1 << int(bit) for bit in band)) for band in np.array_split(np.arange(_BITS), FURTHEST + 1))
_BLOCK = 1 << 20  # pairs that are compared at a time
_NONE = np.iinfo(np.int64).max


def hashed(table: pd.DataFrame, pixels: NDArray[np.uint8]) -> tuple[pd.DataFrame, NDArray[np.uint64]]:
    """Return the rows whose image has a perceptual hash, and the hashes.

    Args:
        table: `row` is the image's place in `pixels`, or missing.
        pixels: (N, size, size, 3) uint8, size >= 32; read one by one. Arrays of any other kind have no hashes.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        return table.iloc[:0], np.zeros(0, np.uint64)
    known = table[table["row"] < len(pixels)]
    codes, flat = hashes(pixels[row] for row in known["row"].astype(int))
    return known[~flat], codes[~flat]


def described(table: pd.DataFrame, codes: NDArray[np.uint64], place: str) -> pd.Series:
    """Return a text for each image that has a near-copy in another place; it names both places and the nearest copy's file.

    Two images with the same file do not count, because the contract has an expectation of its own for them.

    Args:
        table: columns `place`, manifest_path, manifest_sha256.
        codes: (N,) from `hashed`.
        place: the column that says where an image is, such as its split or its city; missing for images that do not count.

    Returns:
        One text per row of the table, missing where there is no near-copy.
    """
    texts = pd.Series(None, index=table.index, dtype=object)
    counted = table[[place, "manifest_path", "manifest_sha256"]].notna().all(axis=1).to_numpy()
    table, codes = table[counted], codes[counted]
    places, files = (pd.factorize(table[name])[0] for name in (place, "manifest_sha256"))
    counts, nearest, bits = neighbours(codes, places, files)
    names, total = table[place].to_numpy(), counts.sum() // 2
    others = ("in " + table[place] + ": " + table["manifest_path"]).to_numpy()
    for row in np.flatnonzero(counts):
        other = f"{others[nearest[row]]} ({bits[row]} of {_BITS} bits differ)"
        texts[table.index[row]] = f"here in {names[row]}; {other}; such pairs in all: {total}"
    return texts


def hashes(images: Iterable[NDArray[np.uint8]]) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Return the perceptual hash of each image, and whether the image is too flat to have one.

    An image is made grey and 32 x 32 pixels. Of its orthonormal cosine transform, the coefficients of the frequencies 1 to 8 of both
    axes count; each gives a bit: whether it is above their median (Zauner, "Implementation and benchmarking of perceptual image hash
    functions", 2010, section 3.2.1). A gradient along one axis has none of these frequencies.

    An image is flat if half of its coefficients are below 4 in size, that is, waves of less than .25 grey levels. The bits of such an
    image are noise. Of 543 + 2,400 photographs of streets, the flattest has a median of 10.

    Args:
        images: (size, size, 3) uint8 each, size >= 32.

    Returns:
        (N,) uint64 and (N,) bool.
    """
    found = [_coefficients(image) for image in images]
    coefficients = np.stack(found) if found else np.empty((0, _BITS), np.float32)
    bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
    flat = np.median(np.abs(coefficients), axis=1) < FLAT
    return np.packbits(bits, axis=1).view(np.uint64).reshape(-1), flat


def _coefficients(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.dct(small)[_LOW, _LOW], np.float32).ravel()


def neighbours(
    codes: NDArray[np.uint64], splits: NDArray[np.integer], files: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return for each image how many others of another split and another file have a hash within `FURTHEST` bits, and the nearest.

    The bits are cut into one band more than the hashes may differ in, so near hashes agree in at least one whole band. Only images
    that agree in a band are compared; memory does not grow with the number of pairs.

    Args:
        codes: (N,) hashes.
        splits, files: (N,) number of each image's split and file.

    Returns:
        (N,) number of near-copies; (N,) row of the nearest, the first of equals; (N,) bits that differ. The last two have no
        meaning where the number is 0.
    """
    counts, best = np.zeros(len(codes), np.int64), np.full(len(codes), _NONE)
    for first, second, bits in _pairs(codes):
        wanted = (splits[first] != splits[second]) & (files[first] != files[second])
        np.add.at(counts, first[wanted], 1)
        np.minimum.at(best, first[wanted], bits[wanted] * len(codes) + second[wanted])
    return counts, best % max(len(codes), 1), best // max(len(codes), 1)


def copies(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Return (N,) numbers, the same for images that are near-copies of each other, directly or by others between them.

    A flat image has a number of its own. Images as in `hashes`.
    """
    codes, flat = hashes(images)
    different, of_image = np.unique(codes[~flat], return_inverse=True)
    near = [(first, second) for first, second, _ in _pairs(different)]
    first, second = np.concatenate(near, axis=1) if near else np.empty((2, 0), np.int64)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(different),) * 2)
    numbers = np.arange(len(codes)) + len(different)
    numbers[~flat] = connected_components(graph, directed=False)[1][of_image]
    return numbers


def _pairs(codes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of rows within `FURTHEST` bits, each in both orders, and their bits that differ; a row is its own pair too."""
    for band, mask in enumerate(_BANDS):
        for here, there in _buckets(codes & mask):
            different = codes[here][:, None] ^ codes[there]
            first, second = np.nonzero(np.bitwise_count(different) <= FURTHEST)
            different = different[first, second]
            new = np.ones(len(first), bool)
            for earlier in _BANDS[:band]:  # in which the pair was found already
                new &= (different & earlier) != 0
            yield here[first[new]], there[second[new]], np.bitwise_count(different[new]).astype(np.int64)


def _buckets(values: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all rows of equal value with some of them, so that each row comes once as one of the some."""
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order])) + 1
    for rows in np.split(order, ends):
        if len(rows) > 1:
            step = max(1, _BLOCK // len(rows))
            for start in range(0, len(rows), step):
                yield rows[start : start + step], rows
