"""The lists and files of a data set's release: .mat files of NetVLAD's, and folders that tools unpack at different depths."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from citylens.adapters import pools
from citylens.adapters.trees import Tree
from citylens.settings import InputError

SHOWN = 5
MEMORY = 1 << 30  # bytes for a list; Pittsburgh's takes a tenth


@dataclass(frozen=True)
class Listed:
    """A name in a release's list, and its UTM coordinates in metres."""

    name: str
    east: float
    north: float


def by_lists(top: Path, layout: str) -> Iterator[tuple[str, Listed | None]]:
    """Files of the database images that the .mat files of a release list."""
    lists = sorted(path for path in _within(top, 3) if re.fullmatch(rf"{layout}(_train|_val|_test)?\.mat", path.name))
    wanted = {"pitts250k": "pitts250k_train.mat, pitts250k_val.mat and pitts250k_test.mat", "tokyo247": "tokyo247.mat"}
    if len(lists) < (3 if layout == "pitts250k" else 1):
        found = ", ".join(path.name for path in lists) or "none of them"
        raise InputError(
            f"acquire.datasets: {top}: {layout} comes with {wanted[layout]}, here or up to three folders down; found: {found}"
        )
    listed = {entry.name: entry for path in lists for entry in read_list(path)}
    files = _files_by_name(top)
    folder = _image_root(top, list(listed), files, layout)
    missing = []
    for name, entry in listed.items():
        file = files.get(folder + _stem(name))
        if file is None:
            missing.append(name)
        else:
            yield file, entry
    if missing:
        raise InputError(
            f"acquire.datasets: {top}: {len(missing)} of {len(listed)} images of {layout} are missing in "
            f"{top / folder}; first: {', '.join(sorted(missing)[:SHOWN])}"
        )


def read_list(path: Path) -> list[Listed]:
    """The database images of a .mat file of NetVLAD's, with their coordinates.

    Raises:
        InputError: no .mat file, or without the fields dbImage and utmDb of one length.
    """
    names, places = pools.apart(_struct, path, MEMORY, "scipy.io")  # scipy's reader crashes on some damaged files
    if not names or places.shape != (2, len(names)) or not np.isfinite(places).all():
        raise InputError(
            f"{path}: utmDb has shape {places.shape} for {len(names)} images; allowed: (2, {len(names)}), no NaN"
        )
    return [Listed(_inside(name, path), *place) for name, place in zip(names, places.T.tolist(), strict=True)]


def _struct(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and coordinates, not yet looked at."""
    from scipy.io import loadmat

    try:
        # As a record: of mat_struct objects, a struct without fields could have any number out of no bytes.
        found = loadmat(path, squeeze_me=False, struct_as_record=True, variable_names=["dbStruct"])
        struct = found["dbStruct"].flat[0]
        names = [str(np.asarray(cell).flat[0]) for cell in np.asarray(struct["dbImage"]).flat]
        return names, np.asarray(struct["utmDb"], dtype=np.float64)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to trip
        raise InputError(
            f"{path}: no list of a data set ({type(error).__name__}: {error}); allowed: a .mat file with a struct dbStruct "
            "that has the fields dbImage and utmDb"
        ) from None


def _inside(name: str, path: Path) -> str:
    whole = name.replace("\\", "/")
    parts = [part for part in whole.split("/") if part not in ("", ".")]
    if not parts or whole.startswith("/") or ".." in parts:
        raise InputError(f"{path}: {name!r} leaves the data set's folder; allowed: paths inside it")
    return "/".join(parts)


def _within(top: Path, depth: int) -> Iterator[Path]:
    """Files up to `depth` folders below, without entering deeper ones."""
    with os.scandir(top) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.is_file():  # no pipe, which would be waited for
            yield Path(entry.path)
        elif depth and entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _within(Path(entry.path), depth - 1)


def _files_by_name(top: Path) -> dict[str, str]:
    """Every image by its path without the ending, since lists say .jpg where files are .png; queries left out."""
    return {_stem(path): path for path in image_paths(top)}


def image_paths(top: Path) -> Iterator[str]:
    """Paths of a data set's images below its folder, in the names' order; queries left out."""
    return Tree(top).images("acquire.datasets", lambda folder: "quer" not in folder.lower())


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122


def _image_root(top: Path, names: Sequence[str], files: dict[str, str], layout: str) -> str:
    """The folder, relative to `top` and with a slash, from which the list's names count: tools unpack at different depths."""
    by_last: dict[str, list[str]] = {}
    for name in files:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)
    some = [_stem(name) for name in names[:: max(1, len(names) // 50)]]
    near = ((stem, name) for stem in some for name in by_last.get(stem.rpartition("/")[2], []))
    ends = Counter(name[: -len(stem)] for stem, name in near if name == stem or name.endswith("/" + stem))
    if not ends:
        raise InputError(
            f"acquire.datasets: {top}: none of the images that {layout}'s lists name lies here or in a folder below; "
            f"the first is {names[0]}"
        )
    return ends.most_common(1)[0][0]
