"""md5s of files and folders, as DVC records them."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

IGNORED_FOLDERS = {".git", ".hg", ".dvc", "__pycache__"}  # DVC's own default, and .dvcignore


def of(path: Path | str) -> str:
    """Return the md5 that DVC records for a path.

    Returns:
        The md5 of a file's bytes; the md5 of a folder's listing, which ends in `.dir`; empty where nothing lies.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(os.path.relpath(file, path) for file in paths_below(path))
        listing = json.dumps([{"md5": of(path / name), "relpath": name} for name in names])
        return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"
    if not path.exists():
        return ""
    state = path.stat()
    return _file_md5(path.resolve(), state.st_ino, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_md5(path: Path, inode: int, size: int, modified: int) -> str:
    """Read a file only once in a process, as long as its inode, size and time stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def paths_below(folder: Path) -> Iterator[str]:
    """Yield the path of every file that DVC counts as the folder's; of a file, its own path.

    The paths are texts, because 150,000 objects of type Path take longer to make than the files to list.
    """
    if not folder.is_dir():
        yield str(folder)
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        for name in names:
            if name != ".gitignore" and not (name.startswith(".") and ".draft" in name):  # as .dvcignore has it
                yield f"{root}/{name}"
