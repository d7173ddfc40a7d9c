"""Resizing of images, label maps and masks between their own size and the square working size."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", np.uint8, np.float32)


def resize_image(image: NDArray[np.uint8], size: int, how: str) -> NDArray[np.uint8]:
    """Return an (H, W, 3) uint8 image as (size, size, 3): averaged over areas if it shrinks, bilinear if it grows.

    Args:
        how: "stretch" resizes the whole image; "crop" cuts out the middle square first.
    """
    image = _middle(image, how)
    shrinks = min(image.shape[:2]) >= size
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def resize_labels(labels: NDArray[np.uint8], size: int, how: str) -> NDArray[np.uint8]:
    """Return an (H, W) uint8 label map as (size, size), by the nearest neighbour of each pixel's centre."""
    return np.asarray(cv2.resize(_middle(labels, how), (size, size), interpolation=cv2.INTER_NEAREST_EXACT))


def spread(mask: NDArray[np.float32], height: int, width: int, how: str) -> NDArray[np.float32]:
    """Return a (size, size) mask resized to its (height, width) image, bilinearly; 0 where "crop" cut the image off."""
    spread_out = np.zeros((height, width), np.float32)
    part = _middle(spread_out, how)
    part[:] = cv2.resize(mask, part.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return spread_out


def _middle(image: NDArray[Pixel], how: str) -> NDArray[Pixel]:
    if how == "stretch":
        return image
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]
