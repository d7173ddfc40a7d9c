"""Progress on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(title: str, total: int, unit: str = "image") -> Iterator[Callable[[int], object]]:
    """A bar that the function it gives moves on by so many units."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, disable=not sys.stderr.isatty(), mininterval=0.5) as shown:
        yield shown.update
