"""Image files: common formats are read as upright 8-bit RGB, all else is refused with the file's name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from citylens.errors import InputError
from citylens.io.files import reading, whole_file

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LARGEST = 178.0  # megapixels
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
Image.MAX_IMAGE_PIXELS = None  # The limit here comes before decoding too, and names the file.
_ROTATES_BY_A_QUARTER = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_TILE = (322, 323)  # TIFF's tags for a tile's width and height


@dataclass(frozen=True)
class Header:
    """Upright size in pixels and codec (jpeg, png, ...) from a file's header, and the SHA-256 of its bytes."""

    width: int
    height: int
    codec: str
    sha256: str


def read_header(path: Path | str, max_megapixels: float = LARGEST) -> Header:
    """Return the header of an image file, without decoding its pixels.

    Raises:
        InputError: the file is missing, empty, no image, or larger than `max_megapixels`.
    """
    with _opened(path, max_megapixels) as (image, file):
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _ROTATES_BY_A_QUARTER:  # In a PNG, the tag follows the pixels.
            width, height = height, width
        codec = str(image.format).lower()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Header(width, height, "jpeg" if codec == "mpo" else codec, digest)


def read_rgb(path: Path | str, max_megapixels: float = LARGEST) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB, turned upright by its EXIF tag.

    Grey, palette, CMYK and 16-bit images are converted; transparency is dropped.

    Raises:
        InputError: the file is missing, empty, no image, truncated, or larger than `max_megapixels`.
    """
    with _opened(path, max_megapixels) as (image, _):
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            values = np.asarray(upright)
            if upright.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise InputError(f"{path}: pixels of mode {upright.mode}; allowed: 8 or 16 bits a channel")
            upright = Image.fromarray((values >> 8).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def read_labels(path: Path | str, max_megapixels: float = LARGEST) -> NDArray[np.uint8]:
    """Return a label map as (H, W) uint8; of a palette image the indices, not the colours.

    Raises:
        InputError: as `read_rgb`, or the image does not have one byte per pixel.
    """
    with _opened(path, max_megapixels) as (image, _):
        if image.mode not in ("L", "P"):
            raise InputError(f"{path}: a label map of mode {image.mode}; allowed: one byte a pixel (mode L or P)")
        return np.array(image)


def write_jpeg(path: Path | str, image: NDArray[np.uint8], quality: int) -> None:
    """Write (H, W, 3) uint8 RGB as JPEG of a quality of 1 to 100, with colour at full resolution."""
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, "JPEG", quality=quality, subsampling=0)


def write_png(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Write (H, W) or (H, W, 3) uint8 as PNG."""
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, "PNG")


@contextmanager
def _opened(path: Path | str, max_megapixels: float) -> Iterator[tuple[Image.Image, BufferedReader]]:
    """Yield an image that is small enough to decode, and its open file; errors of the block name the file."""
    if not os.path.isfile(path):  # noqa: PTH113 - false on any error. Opening a pipe would wait for ever.
        raise InputError(f"{path}: no such file")
    with Path(path).open("rb") as file:
        if not file.peek():
            raise InputError(f"{path}: empty (0 bytes)")
        try:
            image = Image.open(file, formats=_FORMATS)
        except MemoryError:
            raise
        except Exception:
            raise InputError(f"{path}: not an image; allowed: {', '.join(_FORMATS)}") from None
        with image, reading(path, "cannot be decoded"):
            # A TIFF's tiles, which may be larger than the image, are decoded whole.
            tiles = [getattr(image, "tag_v2", {}).get(tag) for tag in _TILE]
            width, height = (
                max(side, tile if isinstance(tile, int) else 0) for side, tile in zip(image.size, tiles, strict=True)
            )
            if width * height > max_megapixels * 1e6:
                raise InputError(
                    f"{path}: {width} x {height} px; allowed: {max_megapixels:g} megapixels (acquire.max_megapixels)"
                )
            yield image, file
