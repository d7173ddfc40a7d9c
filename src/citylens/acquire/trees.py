"""Folders of photographs from elsewhere: the files below one, and the check that paths stay inside.

Paths are texts here, because pathlib would take more time than all else for 150,000 files.
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from citylens.errors import InputError
from citylens.io.images import ENDINGS
from citylens.io.texts import printable, shown

DEEPEST = 100
_real_path = functools.cache(os.path.realpath)  # Many files lie in one folder.


def files(top: Path, where: str, endings: tuple[str, ...] = ENDINGS, without: str = "") -> list[str]:
    """Return the files below a folder as paths inside it, sorted by name; without hidden files, hidden folders and links to folders.

    Args:
        where: beginning of an error message.
        endings: endings of the files' names, in lower case.
        without: folders whose names contain this text are left out.

    Raises:
        InputError: a folder cannot be listed, or lies more than `DEEPEST` folders deep; a name is not printable; a file is a
            link out of the folder, or to no file.
    """

    def fail(error: OSError) -> None:
        raise InputError(f"{where}: {error.filename} cannot be listed: {error.strerror}") from None

    found: list[str] = []
    for folder, folders, names in os.walk(top, onerror=fail):
        below = folder.removeprefix(str(top)).lstrip("/")
        if below.count("/") >= DEEPEST:
            raise InputError(f"{where}: {top}: folders within folders, {DEEPEST} deep; allowed: fewer")
        folders[:] = [name for name in folders if name[0] != "." and not (without and without in name.lower())]
        images = [name for name in names if name[0] != "." and name.lower().endswith(endings)]
        for name in (*folders, *images):
            printable(name, f"{where}: {folder}")
        for name in images:
            found.append(f"{below}/{name}" if below else name)
            if os.path.islink(f"{folder}/{name}"):
                check(top, found[-1], where)
    return sorted(found, key=lambda path: path.split("/"))


def check(top: Path, file: str, where: str) -> None:
    """Check that a path is relative, does not leave a folder, not through a link either, and that a file lies there.

    Raises:
        InputError: begins with `where`, and names the path.
    """
    printable(file, where)
    folder, _, name = file.rpartition("/")
    path = f"{_real_path(f'{top}/{folder}')}/{name}"
    if os.path.islink(path):
        path = os.path.realpath(path)
    if file.startswith("/") or ".." in file.split("/") or not path.startswith(os.path.join(_real_path(top), "")):
        raise InputError(f"{where}: {file} leaves the folder {top}; allowed: paths inside it")
    try:
        there = stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as error:
        raise InputError(f"{where}: {shown(file)} is no path: {error.strerror}") from None
    if not there:
        raise InputError(f"{where}: {file}: no such file in {top}")


def stem(path: str) -> str:
    """Return a path without its file's ending."""
    return os.path.splitext(path)[0]
