"""Running out of memory, on a GPU or beside it: noticed by what torch raises."""

from __future__ import annotations

import torch


class OutOfMemory(ValueError):
    """Half of what was asked for at once is still too much."""


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that memory ran out; torch has a class of its own for a GPU's only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def halved(error: Exception, size: int, asked: int) -> int:
    """The batch to go on with after an error: half of the one asked for, once.

    Raises:
        OutOfMemory: it was halved already, or holds one image.
        Exception: the error itself, where it says nothing of memory.
    """
    if not ran_out(error):
        raise error
    if size < asked or asked == 1:
        raise OutOfMemory(f"out of memory with {size} image(s) at once; asked for: {asked}") from None
    return -(-asked // 2)
