"""Files under a second path, without a second copy of their bytes."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

_FICLONE = 0x40049409  # Linux: share a file's blocks
_without: set[tuple[int, int]] = set()  # disks that cannot


def link(source: Path | str, target: Path | str) -> None:
    """The same file under another path, at no cost of space: a clone of its blocks, else another name for it, else a copy.

    A file with two names becomes read-only, so that nobody edits one and changes the other.
    """
    source, target = Path(source), Path(target)
    known, disk = source.stat(), _disk(target.parent)
    try:
        if (known.st_dev, disk) in _without or not _cloned(source, target):
            _without.add((known.st_dev, disk))
            _named(source, target, known.st_mode)
    except (FileExistsError, shutil.SameFileError):  # brought by another row that names it
        pass


def _named(source: Path, target: Path, mode: int) -> None:
    try:
        os.link(source.resolve(), target)  # Linux would link a link itself, which leads elsewhere from the new place
        if mode & 0o222:
            source.chmod(mode & ~0o222)
    except FileExistsError:
        raise
    except OSError:  # another disk, one without links, or somebody else's file
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def _disk(folder: Path) -> int:
    try:
        return folder.stat().st_dev
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.stat().st_dev


def _cloned(source: Path, target: Path) -> bool:
    try:
        with source.open("rb") as old, target.open("xb") as new:
            fcntl.ioctl(new, _FICLONE, old.fileno())
    except FileExistsError:
        raise
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True
