"""Folders of photographs from elsewhere: the files below one, and the check that paths stay inside.

Paths are texts here, because pathlib would take more time than all else for 150,000 files.
"""

from __future__ import annotations

import functools
import os
import stat
import sys
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath

from citylens.errors import InputError
from citylens.io.images import ENDINGS
from citylens.io.texts import printable, shown

DEEPEST = 100
UNREAD = (
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".psd"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
"""Endings of pictures that are not read, unless they are in `ENDINGS`."""
# Folders that disk stations, macOS, Windows and Linux make, with thumbnails and deleted files.
_SYSTEM = (
    "@eadir",
    "@recycle",
    "#recycle",
    "#snapshot",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_real_path = functools.cache(os.path.realpath)  # Many files lie in one folder.


def files(
    top: Path,
    where: str,
    endings: tuple[str, ...] = ENDINGS,
    without: tuple[str, ...] = (),
    left_out: Counter[str] | None = None,
) -> list[str]:
    """Return the files below a folder as paths inside it, sorted by name; without what is hidden or made by a disk station or system.

    Args:
        where: beginning of an error message.
        endings: endings of the files' names, in lower case.
        without: folders whose names contain one of these texts are left out, and links to folders inside `top`.
        left_out: counts what was left out, by reason; see `tell`.

    Raises:
        InputError: a folder cannot be listed, or lies more than `DEEPEST` folders deep; a name is not printable; a folder is a
            link; a file is a link out of the folder, or to no file.
    """
    left = Counter() if left_out is None else left_out

    def fail(error: OSError) -> None:
        raise InputError(f"{where}: {error.filename} cannot be listed: {error.strerror}") from None

    found: list[str] = []
    for folder, folders, names in os.walk(top, onerror=fail):
        below = folder.removeprefix(str(top)).lstrip("/")
        if below.count("/") >= DEEPEST:
            raise InputError(f"{where}: {top}: folders within folders, {DEEPEST} deep; allowed: fewer")
        found_folders, folders[:] = folders[:], []
        for name in found_folders:
            if name[0] == "." or any(text in name.lower() for text in without):
                continue
            if name.lower() in _SYSTEM:
                left[f"folder(s) {name}"] += 1
            elif os.path.islink(f"{folder}/{name}"):
                _check_linked(top, f"{below}/{name}".lstrip("/"), where, allowed=bool(without))
                left["linked folder(s)"] += 1
            else:
                folders.append(name)
        images = []
        for name in names:
            if name[0] != "." and name.lower().endswith(endings):
                images.append(name)
            elif reason := _why_left_out(name):
                left[reason] += 1
        for name in (*folders, *images):
            printable(name, f"{where}: {folder}")
        for name in images:
            found.append(f"{below}/{name}" if below else name)
            if os.path.islink(f"{folder}/{name}"):
                check(top, found[-1], where)
    return sorted(found, key=lambda path: path.split("/"))


def _why_left_out(name: str) -> str:
    """Return why a file is left out; nothing for hidden files and those that systems make for themselves."""
    if name[0] == "." or name.lower() in _SYSTEM_FILES:
        return ""
    ending = os.path.splitext(name)[1].lower()
    return (
        f"{ending} ({'convert these to JPEG' if ending in UNREAD else 'no photographs'})"
        if ending
        else "without an ending"
    )


def _check_linked(top: Path, folder: str, where: str, *, allowed: bool) -> None:
    """Check that a link to a folder, if it is allowed, leads to a folder inside `top`, whose files are listed there."""
    printable(folder, where)
    inside = os.path.realpath(f"{top}/{folder}").startswith(os.path.join(_real_path(top), ""))
    if not (allowed and inside):
        raise InputError(
            f"{where}: {top}/{folder} is a link to a folder, which is not followed; allowed: the folder itself, moved or mounted there"
        )


def tell(left_out: Counter[str], top: Path) -> None:
    """Print one line that says what was left out, if anything was."""
    if not left_out:
        return
    named = [f"{count} {name if name.isprintable() else ascii(name)}" for name, count in left_out.most_common()]
    more = f" and {len(named) - 10} more kinds" if len(named) > 10 else ""
    said = f"left out of {top}: {', '.join(named[:10])}{more}; read are {', '.join(ENDINGS)}"
    print(f"citylens acquire: {said}", file=sys.stderr)


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
        raise InputError(f"{where}: {file}: no such file in {top}; allowed: a path inside it")


def stem(path: str) -> str:
    """Return a path without its file's ending."""
    return os.path.splitext(path)[0]


def located(file: str, top: Path) -> str:
    r"""Return the path inside a folder of a file in it that another system may have named; unchanged if there is none.

    The text may be an absolute path, begin with `~`, have \ for /, or be in another of Unicode's forms than names on the disk.
    """
    if not file.isascii() or "\\" in file or file[0] in "/~":
        for text in (file, file.replace("\\", "/")):
            for root in (os.path.abspath(top), os.path.realpath(top)):
                inside = _on_disk(os.path.expanduser(text).removeprefix(f"{root}/"), top)
                if inside[:1] != "/" and os.path.isfile(f"{top}/{inside}"):
                    return inside
    return PurePosixPath(file).as_posix()  # a//b.jpg and ./a/b.jpg are one file.


def _on_disk(file: str, top: Path) -> str:
    """Return a path with each part in the first of Unicode's forms in which the disk has it."""
    found = PurePosixPath()
    for part in PurePosixPath(file).parts:
        forms = [found / form for form in (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))]
        found = next((form for form in forms if os.path.lexists(top / form)), forms[0])
    return found.as_posix()
