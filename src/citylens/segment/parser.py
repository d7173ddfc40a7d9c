"""The interface that every kind of scene parser offers, and the likeliest labels from its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional


def unchanged(scores: torch.Tensor) -> torch.Tensor:
    """Return scores that are probabilities already."""
    return scores


@dataclass(frozen=True)
class Parser:
    """A network that gives a score to each class at each pixel (scene parsing, or semantic segmentation).

    Args:
        labels: (classes,) uint8 label of each class; 0 means no object.
        names: the object's name for each label above 0.
        parse: takes N images of one size, each (H, W, 3) uint8 RGB; yields the scores of each image, (classes, h, w), the higher the
            likelier. Where they are smaller than the images, `ranked` enlarges the labels by nearest neighbour.
        probabilities: takes the scores of one image; returns probabilities in [0, 1] of the same shape.
    """

    labels: NDArray[np.uint8]
    names: dict[int, str]
    parse: Callable[[list[NDArray[np.uint8]]], Iterable[torch.Tensor]]
    probabilities: Callable[[torch.Tensor], torch.Tensor] = unchanged


def upsampled(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return (N, C, h, w) features, such as logits, resized bilinearly to (N, C, *size)."""
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def ranked(
    scores: torch.Tensor,
    labels: NDArray[np.uint8],
    top: int,
    size: Sequence[int],
    probabilities: Callable[[torch.Tensor], torch.Tensor] = unchanged,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Return the `top` likeliest labels of each pixel, the likeliest first, and their probabilities, 255 = 1, both (top, H, W).

    Args:
        scores: (classes, h, w), see `Parser`.
        labels: (classes,) label of each class, 0 for none. The probabilities of classes with the same label are added first.
        top: number of labels per pixel; missing ones are 0. With 1, no probabilities are returned.
        size: H and W. Smaller maps are enlarged by the nearest neighbour of each pixel's centre.
        probabilities: see `Parser`.

    Raises:
        ValueError: the numbers of classes and labels differ, or a score is NaN or infinite.
    """
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} classes, but {len(labels)} labels")
    present, place = np.unique(labels, return_inverse=True)
    if top == 1 and len(present) == len(labels):
        # The highest score has the highest probability; computing 150 probabilities per pixel takes as long as a small network.
        present, sums = labels, scores.cpu()
        order = sums.numpy().argmax(axis=0)[None]
        values = sums.gather(0, torch.from_numpy(order))
    else:
        own = probabilities(scores).cpu()
        sums = own.new_zeros((len(present), *own.shape[1:]))
        sums.index_add_(0, torch.from_numpy(place), own)
        values, places = sums.topk(min(top, len(present)), dim=0)
        order = places.numpy()
    # The likeliest of NaN would be the first label, everywhere.
    if not torch.isfinite(values).all():
        raise ValueError("the network gives NaN or infinity; allowed: finite numbers")
    missing = ((0, top - len(order)), (0, 0), (0, 0))

    def enlarged(maps: torch.Tensor) -> NDArray[np.uint8]:
        return np.pad(functional.interpolate(maps[None], tuple(size), mode="nearest-exact")[0].numpy(), missing)

    likeliest = enlarged(torch.from_numpy(present[order].astype(np.uint8)))
    return likeliest, enlarged((values.float() * 255).round().clamp(0, 255).to(torch.uint8)) if top > 1 else None
