"""How much memory a file from a stranger may cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citylens.settings import InputError

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
