"""Files under a second path, without a second copy of their bytes.

Paths are texts here, because pathlib would take half the time of linking 150,000 files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path

_FICLONE = 0x40049409  # Linux's request to share the blocks of a file
_without_clones: set[tuple[int, int]] = set()  # pairs of disks


def link(source: Path | str, target: Path | str) -> None:
    """Give a file a second path: by a clone of its blocks, else by a hard link, else by a copy.

    A file that gets a hard link becomes read-only, so that an edit of one path cannot change the other. A target that exists is
    left as it is: another row of the manifest names the same file.
    """
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    disks = (os.stat(source).st_dev, os.stat(folder).st_dev)
    for way in (_hard_link,) if disks in _without_clones else (_clone, _hard_link):
        try:
            way(source, target)
            return
        except FileExistsError:
            return
        except OSError:  # another disk, a disk without links, or a file of another user
            _without_clones.add(disks)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
    shutil.copyfile(source, target)


def _clone(source: Path | str, target: Path | str) -> None:
    # DVC's own clone truncates a target that exists, which may be a hard link to somebody's photograph.
    with open(source, "rb") as old, open(target, "xb") as new:
        fcntl.ioctl(new, _FICLONE, old.fileno())


def _hard_link(source: Path | str, target: Path | str) -> None:
    # Linux would link a symbolic link itself, which leads elsewhere from its new folder.
    os.link(os.path.realpath(source) if os.path.islink(source) else source, target)
    mode = os.stat(source).st_mode
    if mode & 0o222:
        os.chmod(source, stat.S_IMODE(mode) & ~0o222)
