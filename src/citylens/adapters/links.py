"""Files under a second path, without a second copy of their bytes."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

_FICLONE = 0x40049409  # Linux: share a file's blocks


def link(source: Path | str, target: Path | str) -> None:
    """The same file under another path, at no cost of space: a clone of its blocks, else another name for it, else a copy.

    A file with two names becomes read-only, so that nobody edits one and changes the other.
    """
    source, target = Path(source).resolve(), Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not _cloned(source, target):
        try:
            os.link(source, target)
            target.chmod(source.stat().st_mode & ~0o222)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, target)


def _cloned(source: Path, target: Path) -> bool:
    try:
        with source.open("rb") as old, target.open("xb") as new:
            fcntl.ioctl(new, _FICLONE, old.fileno())
    except OSError:  # a disk that cannot
        target.unlink(missing_ok=True)
        return False
    return True
