"""Label maps of the ADE20K-150 objects: 1 to 150, 0 = unlabelled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

OBJECTS = 150


def to_labels(logits: NDArray[np.floating], offset: int) -> NDArray[np.uint8]:
    """The ADE20K label of the highest logit.

    Args:
        logits: (N, H, W, classes).
        offset: added to the class to give the label: 0 for networks with an "other" class first, 1 for those without.

    Returns:
        (N, H, W) uint8.

    Raises:
        ValueError: a class would fall outside 0..150.
    """
    classes = logits.shape[-1]
    if offset < 0 or classes - 1 + offset > OBJECTS:
        raise ValueError(
            f"{classes} classes with offset {offset} give labels {offset} to {classes - 1 + offset}; allowed: 0 to {OBJECTS}"
        )
    return (logits.argmax(axis=-1) + offset).astype(np.uint8)


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
