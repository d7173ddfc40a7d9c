"""Label maps: images whose pixels hold the label of an object of ADE20K-150, 1 to 150, or 0 (unlabelled)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OBJECTS = 150


def coverage(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the (N,) share of each image's pixels that have a label, in [0, 1], of (N, H, W) label maps."""
    return (labels > 0).mean(axis=(1, 2))
