"""What can be read from an image file and its label map; a file that cannot be used is described, not refused."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from citylens.errors import InputError
from citylens.io import images

IMAGE = ("inside", "decodes", "width", "height", "channels", "codec", "sha256", "orientation")
LABELS = (
    *("labels_inside", "labels_decode", "labels_width", "labels_height"),
    *("labels_highest", "labels_thin", "labels_counts"),
)
_IN_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def inspect(root: Path, max_megapixels: float, path: object, labels: object) -> dict[str, Any]:
    """Return the facts `IMAGE` of an image and `LABELS` of its label map.

    Args:
        root: folder that the paths are relative to and must stay in.
        max_megapixels: an image above this size is not decoded.
        path: path of the image; any other type where the manifest gives none.
        labels: path of the label map; any other type where there is none.

    Returns:
        `inside` is "yes", or how the path leaves the root; such a file is not opened. `decodes` is "yes", or why the file
        cannot be read. Sizes are in pixels. `labels_thin` is a text on a label map that looks resampled, see `thin_labels`;
        `labels_counts` are the (256,) numbers of its pixels by label. Unknown facts, and all facts of a label map that is not
        given, are None.
    """
    found: dict[str, Any] = dict.fromkeys((*IMAGE, *LABELS))
    given: list[tuple[Any, ...]] = [(path, IMAGE, _image)]
    if isinstance(labels, str):
        given.append((labels, LABELS, _label_map))
    for path, (inside, decodes, *measures), read in given:
        found[inside] = _leaves(root, path) or "yes"
        if found[inside] == "yes":
            file = root / str(path)
            try:
                found |= dict(zip(measures, read(file, max_megapixels), strict=True)) | {decodes: "yes"}
            except InputError as error:
                found[decodes] = str(error).removeprefix(f"{file}: ")
    return found


def _image(file: Path, max_megapixels: float) -> tuple[Any, ...]:
    header = images.read_header(file, max_megapixels)
    height, width, channels = images.read_rgb(file, max_megapixels).shape
    return width, height, channels, header.codec, header.sha256, header.orientation


def _label_map(file: Path, max_megapixels: float) -> tuple[Any, ...]:
    found = images.read_labels(file, max_megapixels)
    counts = np.bincount(found.ravel(), minlength=256)
    return found.shape[1], found.shape[0], int(found.max()), thin_labels(found, counts), counts


def thin_labels(labels: NDArray[np.uint8], counts: NDArray[np.integer]) -> str | None:
    """Return what makes a label map look resampled or lossy, or None: many labels occur only as thin edges between others.

    Interpolation between labels 3 and 12 makes up edges of labels 4 to 11. A label is thin if none of its pixels is in a square of
    one label, whose side is 2 pixels, or 1/320 of the map's long side. It takes four such labels, and a quarter of the map's.
    Measured: 0 of 543 maps that people drew have that, and of these maps after bilinear or bicubic resizing, JPEG or rotation, 74 to
    100 % have it.

    Args:
        labels: (H, W) label map.
        counts: (256,) numbers of pixels by label.
    """
    side = max(2, round(max(labels.shape) / 320))
    square = np.ones((side, side), np.uint8)
    inside = labels[cv2.erode(labels, square) == cv2.dilate(labels, square)]
    present, thick = np.count_nonzero(counts), np.count_nonzero(np.bincount(inside, minlength=256))
    thin = present - thick
    few = thin < 4 or thin * 4 < present
    return None if few else f"{thin} of {present} labels only as edges thinner than {side} px"


def _leaves(root: Path, path: object) -> str | None:
    """Return how a path leaves the root, or None."""
    if not isinstance(path, str):
        return "no path is given"
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts:
        return "absolute" if plain.is_absolute() else "climbs with .."
    try:
        target = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        return f"no path: {error}"
    # DVC may link the files of data/acquire to its cache, which lies elsewhere.
    linked = (root / path).is_symlink() and _IN_DVC_CACHE.search(target.as_posix())
    return None if target.is_relative_to(root.resolve()) or linked else "a link leads out of it"
