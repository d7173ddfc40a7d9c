"""The interface that every kind of scene parser offers, and the likeliest labels from its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


@dataclass(frozen=True)
class Parser:
    """A network that gives a probability to each class at each pixel (scene parsing, or semantic segmentation).

    Args:
        labels: (classes,) uint8 label of each class; 0 means no object.
        names: the object's name for each label above 0.
        parse: takes N images of one size, each (H, W, 3) uint8 RGB; returns (N, classes, h, w) probabilities in [0, 1]. Where they
            are smaller than the images, `ranked` enlarges them by nearest neighbour.
    """

    labels: NDArray[np.uint8]
    names: dict[int, str]
    parse: Callable[[list[NDArray[np.uint8]]], torch.Tensor]


def upsampled(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return (N, C, h, w) features, such as logits, resized bilinearly to (N, C, *size)."""
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def ranked(
    probabilities: torch.Tensor, labels: NDArray[np.uint8], top: int, size: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the `top` likeliest labels of each pixel, the likeliest first, and their probabilities, 255 = 1, both (top, H, W).

    Args:
        probabilities: (classes, h, w) in [0, 1]. The probabilities of classes with the same label are added first.
        labels: (classes,) label of each class, 0 for none.
        top: number of labels per pixel; missing ones are 0.
        size: H and W. Smaller maps are enlarged by the nearest neighbour of each pixel's centre.

    Raises:
        ValueError: the numbers of classes and labels differ, or a probability is NaN or infinite.
    """
    if len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} classes, but {len(labels)} labels")
    present, place = np.unique(labels, return_inverse=True)
    sums = probabilities.new_zeros((len(present), *probabilities.shape[1:]))
    sums.index_add_(0, torch.from_numpy(place).to(probabilities.device), probabilities)
    # The likeliest of NaN would be the first label, everywhere.
    if not torch.isfinite(sums.sum(dim=0)).all():
        raise ValueError("the network gives NaN or infinity; allowed: finite numbers")
    values, order = sums.topk(min(top, len(present)), dim=0)
    found = torch.from_numpy(present[order.cpu().numpy()].astype(np.uint8))
    shares = (values.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    missing = ((0, top - len(found)), (0, 0), (0, 0))
    enlarged = (functional.interpolate(maps[None], tuple(size), mode="nearest-exact")[0] for maps in (found, shares))
    likeliest, shown = (np.pad(maps.numpy(), missing) for maps in enlarged)
    return likeliest, shown
