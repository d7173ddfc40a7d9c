"""Processes that work for this one, and end with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from citylens.adapters import limits
from citylens.settings import InputError

PATIENCE = 600  # seconds that a file may take to read


@contextmanager
def pool() -> Iterator[Executor]:
    """One process a core. They end at once where the block fails or this process is killed; by themselves they would work on."""
    others = set(active_children())
    with ProcessPoolExecutor(
        os.cpu_count(), mp_context=get_context("forkserver"), initializer=_end_with_parent
    ) as executor:
        try:
            yield executor
        except BaseException:
            for process in set(active_children()) - others:
                process.kill()
            raise


def apart(read: Callable[[Path], Any], path: Path, most: int, needs: str) -> Any:
    """What `read` gives for a file, read by a process of its own.

    Args:
        read: a function of a module.
        path: of the file.
        most: bytes of memory.
        needs: the module that `read` imports, once for all that this process has read so.

    Raises:
        InputError: what `read` raises; or it crashes, takes more than `most` bytes of memory, or longer than `PATIENCE`.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([read.__module__, needs])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, read, path, most), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE):
            raise InputError(f"{path}: not read in {PATIENCE} seconds; allowed: less")
        answer = ours.recv()
    except EOFError:
        raise InputError(f"{path}: damaged, such that its reader crashes; allowed: a whole file") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if isinstance(answer, InputError):
        raise answer
    return answer


def _answer(pipe: Connection, read: Callable[[Path], Any], path: Path, most: int) -> None:
    _end_with_parent()
    try:
        with limits.memory(path, most):
            answer = read(path)
    except InputError as error:
        answer = error
    pipe.send(answer)


def _end_with_parent() -> None:
    Thread(target=_end, daemon=True).start()


def _end() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
