"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from citylens.errors import InputError
from citylens.io import limits

PATIENCE = 600  # seconds for reading a file


@contextmanager
def pool() -> Iterator[Executor]:
    """Yield a pool of up to one process per core; they are killed if the block fails, and end if this process is killed."""
    others, context = set(active_children()), get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=_end_with_parent) as executor:
        try:
            yield executor
        except BaseException:
            for process in set(active_children()) - others:
                process.kill()
            raise


def apart(read: Callable[[Path], Any], path: Path, most: int, needs: str) -> Any:
    """Return `read(path)`, computed in a process of its own, which a damaged file may crash.

    Args:
        read: a function of a module.
        path: of the file.
        most: bytes of memory that reading may take.
        needs: module that `read` imports; it is imported once for all files.

    Raises:
        InputError: `read` raises it; or it crashes, takes more than `most` bytes, or longer than `PATIENCE`.
    """
    get_context("forkserver").set_forkserver_preload([read.__module__, needs])
    with pool() as executor:
        try:
            return executor.submit(_limited, read, path, most).result(PATIENCE)
        except BrokenProcessPool:
            raise InputError(f"{path}: damaged, such that its reader crashes; allowed: a whole file") from None
        except TimeoutError:
            raise InputError(f"{path}: not read in {PATIENCE} seconds; allowed: less") from None


def _limited(read: Callable[[Path], Any], path: Path, most: int) -> Any:
    with limits.memory(path, most):
        return read(path)


def _end_with_parent() -> None:
    def wait_and_end() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=wait_and_end, daemon=True).start()
