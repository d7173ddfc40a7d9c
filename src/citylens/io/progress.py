"""Progress bars on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(title: str, total: int, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """Show a progress bar of `total` images, unless told not to; yield the function that advances it by a number of images."""
    with tqdm(
        total=total, desc=title, unit="image", disable=not shown or not sys.stderr.isatty(), mininterval=0.5
    ) as line:
        yield line.update
