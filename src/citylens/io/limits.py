"""A limit on the memory that reading a file may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citylens.errors import InputError

_STATE = Path("/proc/self/statm")


@contextmanager
def memory(path: Path | str, most: int) -> Iterator[None]:
    """Let the process take at most `most` bytes more while the block runs; without effect on other systems than Linux.

    A few bytes of a packed or damaged file can ask for any amount of memory. Without a limit, Linux would kill a process.

    Raises:
        InputError: reading takes more; names the file.
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
        raise InputError(f"{path}: takes more than {most / 2**30:.2g} GB of memory to read; allowed: less") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
