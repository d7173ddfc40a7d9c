"""Batches that shrink when memory runs out, on a GPU or beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Result = TypeVar("Result")


class OutOfMemory(ValueError):
    """Half of the batch asked for is still too large."""


def in_batches(compute: Callable[[slice], Result], images: int, size: int) -> Iterator[Result]:
    """Yield `compute(batch)` for consecutive batches of `size` images, of half the size once memory has run out.

    Raises:
        OutOfMemory: half a batch is still too large.
    """
    start, at_once = 0, size
    while start < images:
        batch = slice(start, min(start + at_once, images))
        try:
            result = compute(batch)
        except Exception as error:
            at_once = halved(error, at_once, size)
        else:
            yield result
            start = batch.stop


def halved(error: Exception, size: int, asked: int) -> int:
    """Return the batch size to go on with after an error: half of the one asked for, once.

    Raises:
        OutOfMemory: the batch was halved already, or holds one image.
        Exception: the error itself, if it is not about memory.
    """
    # For a GPU's memory torch has a class of its own; for the computer's it raises a plain RuntimeError.
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
        raise error
    if size < asked or asked == 1:
        raise OutOfMemory(f"out of memory with {size} image(s) at once; asked for: {asked}") from None
    return -(-asked // 2)
