"""How much memory and time a file from a stranger may cost, and that a reader which crashes takes nothing with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from citylens.settings import InputError

PATIENCE = 600  # seconds
_STATE = Path("/proc/self/statm")


@contextmanager
def memory(path: Path | str, most: int) -> Iterator[None]:
    """In the block, the process may take so many bytes more than it has; where there is no Linux, as many as there are.

    A few bytes of a packed or damaged file can ask for any amount. Without a limit, Linux would end this process or another.

    Raises:
        InputError: names the file that takes more.
    """
    if not _STATE.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    taken = int(_STATE.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([taken + most, *known]), hard))
    try:
        yield
    except MemoryError:
        raise InputError(
            f"{path}: takes more than {most / (1 << 30):.2g} GB of memory to read; allowed: less"
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def apart(read: Callable[[Path], Any], path: Path, most: int, needs: str) -> Any:
    """What `read` gives for a file, read by a process of its own.

    Args:
        read: a function of a module.
        path: of the file.
        most: bytes of memory.
        needs: the module that `read` imports, once for all such processes.

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
    try:
        with memory(path, most):
            answer = read(path)
    except InputError as error:
        answer = error
    pipe.send(answer)
