"""What image files turn out to be, or why they cannot be used. Nothing here stops at a bad file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from citylens.adapters import images
from citylens.settings import InputError

IMAGE = ("inside", "decodes", "width", "height", "channels", "codec", "sha256")
LABELS = ("labels_inside", "labels_decode", "labels_width", "labels_height", "labels_highest")
_IN_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def inspect(root: Path, path: object, labels: object, max_megapixels: float) -> dict[str, Any]:
    """The facts `IMAGE` of an image and `LABELS` of its label map.

    `inside` is "yes" or how the path leaves the root; such a file is not opened. `decodes` is "yes" or what keeps the
    file from being read. Whatever cannot be known, and everything of a label map that is not given, is None.

    Args:
        root: folder that the paths are relative to and must stay in.
        path: of the image; no text where the manifest gives none.
        labels: of the label map; no text where there is none.
        max_megapixels: above this an image is not decoded.
    """
    image = _inspect(root, path, IMAGE, lambda file: _image(file, max_megapixels))
    if not isinstance(labels, str):
        return image | dict.fromkeys(LABELS)
    return image | _inspect(root, labels, LABELS, lambda file: _labels(file, max_megapixels))


def _inspect(
    root: Path, path: object, names: tuple[str, ...], read: Callable[[Path], tuple[Any, ...]]
) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(names)
    inside, decodes, *measures = names
    found[inside] = _leaves(root, path) or "yes"
    if found[inside] == "yes":
        file = root / str(path)
        try:
            found |= dict(zip(measures, read(file), strict=True))
            found[decodes] = "yes"
        except InputError as error:
            found[decodes] = str(error).removeprefix(f"{file}: ")
    return found


def _image(file: Path, max_megapixels: float) -> tuple[int, int, int, str, str]:
    header = images.read_header(file, max_megapixels)
    height, width, channels = images.read_rgb(file, max_megapixels).shape
    return width, height, channels, header.codec, header.sha256


def _labels(file: Path, max_megapixels: float) -> tuple[int, int, int]:
    labels = images.read_labels(file, max_megapixels)
    return labels.shape[1], labels.shape[0], int(labels.max())


def _leaves(root: Path, path: object) -> str | None:
    if not isinstance(path, str):
        return "no path is given"
    plain = PurePosixPath(path)
    if plain.is_absolute():
        return "absolute"
    if ".." in plain.parts:
        return "climbs with .."
    try:
        target = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        return f"no path: {error}"
    # DVC may link its outputs to its cache, which lies elsewhere.
    linked = (root / path).is_symlink() and _IN_DVC_CACHE.search(target.as_posix())
    return None if target.is_relative_to(root.resolve()) or linked else "a link leads out of it"
