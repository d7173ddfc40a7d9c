"""Shards of images: a loop over images is a map over shards and a sum of their partial results, in the order of the shards."""

from __future__ import annotations


def shards(images: int, size: int) -> list[slice]:
    """Return the slices of `size` images, the last maybe shorter, that cover images 0 to `images` - 1 in order."""
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]
