"""Files under a second path, without a second copy of their bytes.

Paths are texts here: pathlib's own would take half the time of a link, of which there may be 150,000.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path

_FICLONE = 0x40049409  # Linux: share a file's blocks
_without: set[tuple[int, int]] = set()  # disks that cannot


def link(source: Path | str, target: Path | str) -> None:
    """The same file under another path, at no cost of space: a clone of its blocks, else another name for it, else a copy.

    A file with two names becomes read-only, so that nobody edits one and changes the other.
    """
    source, target = os.fspath(source), os.fspath(target)
    known, disk = os.stat(source), _disk(os.path.dirname(target))
    try:
        if (known.st_dev, disk) in _without or not _cloned(source, target):
            _without.add((known.st_dev, disk))
            _named(source, target, known.st_mode)
    except (FileExistsError, shutil.SameFileError):  # brought by another row that names it
        pass


def _named(source: str, target: str, mode: int) -> None:
    try:
        # Linux would link a link itself, which leads elsewhere from the new place.
        os.link(os.path.realpath(source) if os.path.islink(source) else source, target)
        if mode & 0o222:
            os.chmod(source, stat.S_IMODE(mode) & ~0o222)
    except FileExistsError:
        raise
    except OSError:  # another disk, one without links, or somebody else's file
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        shutil.copyfile(source, target)


def _disk(folder: str) -> int:
    try:
        return os.stat(folder).st_dev
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        return os.stat(folder).st_dev


def _cloned(source: str, target: str) -> bool:
    try:
        with open(source, "rb") as old, open(target, "xb") as new:
            fcntl.ioctl(new, _FICLONE, old.fileno())
    except FileExistsError:
        raise
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        return False
    return True
