"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from citylens.errors import InputError
from citylens.io import limits

PATIENCE = 600  # seconds for reading a file
LONGEST_FOLDER = 60  # bytes


@contextmanager
def pool(
    workers: int | None = None, begin: Callable[..., object] | None = None, given: tuple[Any, ...] = ()
) -> Iterator[Executor]:
    """Yield a pool of processes; they are killed if the block fails, and end if this process is killed.

    Each calls `begin(*given)` first, which may raise nothing. There are up to `workers`, or one per core. Where the system has no
    semaphores (a container without /dev/shm), the pool has threads instead.
    """
    others, context = set(active_children()), _context()
    try:
        context.Lock()
    except OSError:
        if begin:
            begin(*given)
        executor: Executor = ThreadPoolExecutor(workers or os.cpu_count())
    else:
        arguments = (begin, given)
        executor = ProcessPoolExecutor(workers or os.cpu_count(), context, initializer=_begin, initargs=arguments)
    with executor:
        try:
            yield executor
        except BaseException:
            for process in set(active_children()) - others:
                process.kill()
            executor.shutdown(cancel_futures=True)
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
    context = _context()
    context.set_forkserver_preload([read.__module__, needs])
    answer, answered = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(answered, read, path, most))
    process.start()
    answered.close()
    try:
        if not answer.poll(PATIENCE):
            raise InputError(f"{path}: not read in {PATIENCE} seconds; allowed: less")
        value = answer.recv()
    except EOFError:
        raise InputError(f"{path}: damaged, such that its reader crashes; allowed: a whole file") from None
    finally:
        process.kill()
        process.join()
    if isinstance(value, Exception):
        raise value
    return value


def streamed(work: Callable[..., Iterator[Any]], given: tuple[Any, ...]) -> Iterator[Any]:
    """Yield what `work(*given)` yields, from a process of its own, which a library that `work` calls may end.

    Args:
        work: a function of a module.

    Raises:
        EOFError: the process ended before it was done; or what `work` raises.
    """
    context = get_context("spawn")  # with the present environment variables
    message, messages = context.Pipe(duplex=False)
    process = context.Process(target=_stream, args=(messages, work, given))
    process.start()
    messages.close()
    try:
        while found := message.recv():
            value, error = found
            if error:
                raise error
            yield value
    finally:
        process.kill()
        process.join()


def _stream(messages: Connection, work: Callable[..., Iterator[Any]], given: tuple[Any, ...]) -> None:
    _end_with_parent()
    try:
        for value in work(*given):
            messages.send((value, None))
    except Exception as error:
        messages.send((None, error))
    else:
        messages.send(None)


def _context() -> Any:
    """Return how processes start. The fork server listens on a socket below TMPDIR, whose path may have some 100 bytes."""
    long = len(os.fsencode(tempfile.gettempdir())) > LONGEST_FOLDER
    return get_context("spawn" if long else "forkserver")


def _answer(answered: Connection, read: Callable[[Path], Any], path: Path, most: int) -> None:
    _end_with_parent()
    try:
        with limits.memory(path, most):
            value = read(path)
    except Exception as error:
        value = error
    answered.send(value)


def _begin(begin: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    _end_with_parent()
    if begin:
        begin(*given)


def _end_with_parent() -> None:
    def wait_and_end() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=wait_and_end, daemon=True).start()
