"""Label maps of the ADE20K-150 objects: 1 to 150, 0 = unlabelled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

OBJECTS = 150


def class_labels(classes: int, offset: int) -> NDArray[np.uint8]:
    """(classes,) the ADE20K label of each class of a network.

    Args:
        offset: added to the class to give the label: 0 for networks with an "other" class first, 1 for those without.

    Raises:
        ValueError: a class would fall outside 0..150.
    """
    if offset < 0 or classes - 1 + offset > OBJECTS:
        raise ValueError(
            f"{classes} classes with offset {offset} give labels {offset} to {classes - 1 + offset}; allowed: 0 to {OBJECTS}"
        )
    return np.arange(offset, classes + offset, dtype=np.uint8)


def coverage(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,) share of each image's pixels that carry a label."""
    return (labels > 0).mean(axis=(1, 2))


def short_names(names: Mapping[int, str]) -> dict[int, str]:
    """The first synonym of each name that no earlier label has: of "screen;CRT screen" after a "screen", "CRT screen".

    Raises:
        ValueError: a label has no name of its own.
    """
    chosen: dict[int, str] = {}
    for label, synonyms in sorted(names.items()):
        own = [part.strip() for part in synonyms.split(";") if part.strip() and part.strip() not in chosen.values()]
        if not own:
            raise ValueError(
                f"label {label}, {synonyms!r}, has the name of an earlier label; allowed: a name of its own"
            )
        chosen[label] = own[0]
    return chosen


def merged_labels(names: Mapping[int, str], merge: Mapping[str, str]) -> dict[int, int]:
    """Label -> the label it becomes, by the names of both; labels that `merge` does not name stay.

    Raises:
        ValueError: an unknown name, or one that is merged into a name that is itself merged.
    """
    numbers = {name: label for label, name in names.items()}
    unknown = [name for pair in merge.items() for name in pair if name not in numbers]
    if unknown:
        raise ValueError(f"no object is called {unknown[0]!r}; allowed: {', '.join(sorted(numbers))}")
    chained = [name for name in merge.values() if name in merge]
    if chained:
        raise ValueError(f"{chained[0]!r} takes another object in and is merged itself; allowed: one or the other")
    return {label: numbers[merge.get(name, name)] for label, name in names.items()}


def confusion(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256, 256) pixels by true (row) and found (column) label; pixels that people left unlabelled, 0, are left out.

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
    """Share of labelled pixels that are named right, in [0, 1]; NaN without any."""
    return float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Mean over the labels that occur in the truth of intersection over union (mIoU), in [0, 1]; NaN without any.

    Source: Everingham et al., "The PASCAL Visual Object Classes Challenge" (2010), section 4.1.
    """
    inside = np.diagonal(counts)
    true, found = counts.sum(axis=1), counts.sum(axis=0)
    occurs = true > 0
    return float(np.mean(inside[occurs] / (true + found - inside)[occurs])) if occurs.any() else float("nan")
