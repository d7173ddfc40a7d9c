"""Folders of photographs, as somebody laid them out: the images below one, and the paths that stay inside.

Paths are texts here: of 150,000 files, pathlib's own would cost more than all else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from citylens.adapters.images import ENDINGS
from citylens.settings import InputError, printable, shown

DEEPEST = 100


class Tree:
    """A folder, and what is below it; paths are relative to it, with slashes."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._real = os.path.join(os.path.realpath(top), "")
        self._folders: dict[str, str] = {}  # where those lie of which a file was checked

    def images(self, where: str, enters: Callable[[str], bool] = lambda name: True) -> Iterator[str]:
        """Paths of the images in the names' order; hidden files, hidden folders and links to folders left out.

        Args:
            where: what an error begins with.
            enters: whether to look into a folder of this name.

        Raises:
            InputError: a folder cannot be listed, or has too many others around it; a name is not printable; an image is a link
                out of the tree, or to no file.
        """
        return self._images(where, enters, "")

    def _images(self, where: str, enters: Callable[[str], bool], below: str) -> Iterator[str]:
        if below.count("/") > DEEPEST:
            raise InputError(f"{where}: {self.top}: folders within folders, {DEEPEST} deep; allowed: fewer")
        try:
            with os.scandir(f"{self.top}/{below}") as entries:
                listed = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{where}: {self.top / below} cannot be listed: {error.strerror}") from None
        for entry in listed:
            folder = entry.is_dir(follow_symlinks=False)
            if not (enters(entry.name) if folder else entry.name.lower().endswith(ENDINGS)):
                continue
            printable(entry.name, f"{where}: {self.top / below}")
            if folder:
                yield from self._images(where, enters, f"{below}{entry.name}/")
            else:
                if entry.is_symlink():
                    self.check(below + entry.name, where)
                yield below + entry.name

    def check(self, file: str, where: str) -> None:
        """Refuses a path that is absolute, climbs out of the tree or leads out of it through a link, or where no file lies.

        Raises:
            InputError: names the place and the path.
        """
        printable(file, where)
        folder, _, name = file.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(f"{self.top}/{folder}")
        path = f"{self._folders[folder]}/{name}"
        if os.path.islink(path):
            path = os.path.realpath(path)
        if file.startswith("/") or ".." in file.split("/") or not path.startswith(self._real):
            raise InputError(f"{where}: {file} leaves the folder {self.top}; allowed: paths inside it")
        try:
            there = stat.S_ISREG(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:
            raise InputError(f"{where}: {shown(file)} is no path: {error.strerror}") from None
        if not there:
            raise InputError(f"{where}: {file}: no such file in {self.top}")
