"""From a scene parser's class probabilities to labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def ranked(
    probabilities: torch.Tensor, labels: NDArray[np.uint8], top: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Each pixel's likeliest labels; classes that share a label add up before they are ranked.

    Args:
        probabilities: (classes, H, W), not negative.
        labels: (classes,) label of each class, 0 for none.
        top: how many labels.

    Returns:
        (top, H, W) uint8 labels, the likeliest first, and their probabilities as (top, H, W) uint8, 255 = 1.

    Raises:
        ValueError: as many classes as labels are needed.
    """
    if len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} classes, but {len(labels)} labels")
    present, place = np.unique(labels, return_inverse=True)
    sums = probabilities.new_zeros((len(present), *probabilities.shape[1:]))
    sums.index_add_(0, torch.from_numpy(place).to(probabilities.device), probabilities)
    values, order = sums.topk(min(top, len(present)), dim=0)
    found = present[order.cpu().numpy()].astype(np.uint8)
    shares = (values.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    missing = top - len(found)
    return np.pad(found, ((0, missing), (0, 0), (0, 0))), np.pad(shares, ((0, missing), (0, 0), (0, 0)))
