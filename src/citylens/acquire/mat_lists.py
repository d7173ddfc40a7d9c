"""Data sets whose images are listed in NetVLAD's .mat files, and whose folders tools unpack at different depths."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from citylens.acquire import trees
from citylens.acquire.trees import stem
from citylens.errors import InputError
from citylens.io import pools
from citylens.io.files import reading
from citylens.io.images import ENDINGS

SHOWN = 5
MEMORY = 1 << 30  # bytes for a list; Pittsburgh's takes a tenth
DEPTH = 3  # folders in which a list may lie
LISTS = {
    "pitts250k": ("pitts250k_train.mat", "pitts250k_val.mat", "pitts250k_test.mat"),
    "tokyo247": ("tokyo247.mat",),
}


def by_lists(top: Path, layout: str, where: str) -> dict[str, tuple[float, float]]:
    """Return the files of the database images that a data set's .mat files list, with their UTM east and north in metres.

    Args:
        top: folder of the data set; its lists lie there or up to `DEPTH` folders down.
        layout: pitts250k or tokyo247.
        where: beginning of an error message.

    Raises:
        InputError: lists or images are missing.
    """
    files = trees.files(top, "acquire.datasets", (*ENDINGS, ".mat"), without=("quer",))
    near = [top / file for file in files if file.rpartition("/")[2] in LISTS[layout] and file.count("/") <= DEPTH]
    lists = [path for path in near if path.is_file()]  # Opening a pipe would wait for ever.
    if {path.name for path in lists} < {*LISTS[layout]}:
        found = ", ".join(path.name for path in lists) or "none of them"
        wanted = f"{layout} comes with {', '.join(LISTS[layout])}, here or up to three folders down"
        raise InputError(f"{where}: {wanted}; found: {found}")
    listed = dict(chain.from_iterable(read_list(path).items() for path in lists))
    # Lists say .jpg where the files are .png.
    by_stem = {stem(file): file for file in files if file.lower().endswith(ENDINGS)}
    folder = _image_root(list(listed), by_stem, f"{where}: none of the images that {layout}'s lists name")
    missing = sorted(name for name in listed if folder + stem(name) not in by_stem)
    if missing:
        said = f"{len(missing)} of {len(listed)} images of {layout} are missing in {top / folder}"
        raise InputError(f"{where}: {said}; first: {', '.join(missing[:SHOWN])}")
    return {by_stem[folder + stem(name)]: utm for name, utm in listed.items()}


def read_list(path: Path) -> dict[str, tuple[float, float]]:
    """Return UTM east and north in metres of the database images of a .mat file of NetVLAD, by the images' names.

    Raises:
        InputError: the file is no .mat file, its fields dbImage and utmDb are missing or of different lengths, or a name leaves
            the data set's folder.
    """
    names, coordinates = pools.apart(_read_struct, path, MEMORY, "scipy.io")
    if not names or coordinates.shape != (2, len(names)) or not np.isfinite(coordinates).all():
        said = f"utmDb has shape {coordinates.shape} for {len(names)} images"
        raise InputError(f"{path}: {said}; allowed: (2, {len(names)}), no NaN")
    return {_inside(name, path): (east, north) for name, east, north in zip(names, *coordinates.tolist(), strict=True)}


def _read_struct(path: Path) -> tuple[list[str], np.ndarray]:
    """Return names and coordinates as the file has them, unchecked."""
    from scipy.io import loadmat

    with reading(
        path, "no list of a data set (a .mat file with a struct dbStruct that has the fields dbImage and utmDb)"
    ):
        # As objects instead of records, structs without fields could be any number of objects from no bytes.
        found = loadmat(path, squeeze_me=False, struct_as_record=True, variable_names=["dbStruct"])
        struct = found["dbStruct"].flat[0]
        names = [str(np.asarray(cell).flat[0]) for cell in np.asarray(struct["dbImage"]).flat]
        return names, np.asarray(struct["utmDb"], dtype=np.float64)


def _inside(name: str, path: Path) -> str:
    inside = posixpath.normpath(name.replace("\\", "/"))
    if inside.partition("/")[0] in ("", ".", ".."):
        raise InputError(f"{path}: {name!r} leaves the data set's folder; allowed: paths inside it")
    return inside


def _image_root(names: Sequence[str], by_stem: Iterable[str], nothing: str) -> str:
    """Return the folder, empty or with a slash at its end, that the list's names are relative to."""
    some = [stem(name) for name in names[:: max(1, len(names) // 50)]]
    heads = Counter(file.removesuffix(end) for end in some for file in by_stem if file.endswith(end))
    roots = [head for head, _ in heads.most_common() if head == "" or head.endswith("/")]
    if not roots:
        raise InputError(f"{nothing} lies here or in a folder below; the first is {names[0]}")
    return roots[0]
