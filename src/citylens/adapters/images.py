"""Image files: any common one is read as upright 8-bit RGB, or refused by name."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from citylens.adapters.files import whole_file
from citylens.settings import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LARGEST = 178.0  # megapixels; beyond, Pillow itself takes a file for a decompression bomb
SMALL = 1 << 20  # bytes; most photographs
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
# The limit on pixels is ours, and named; Pillow's own warning would come on top.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_ROTATES_BY_A_QUARTER = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_TILE = (322, 323)  # width and height, tags of TIFF


@dataclass(frozen=True)
class Header:
    """What a file says of itself: upright size in pixels, codec (jpeg, png, ...), and the SHA-256 of its bytes."""

    width: int
    height: int
    codec: str
    sha256: str


def read_header(path: Path | str, max_megapixels: float = LARGEST) -> Header:
    """The header of an image file.

    Raises:
        InputError: no such file, empty, no image, or larger than `max_megapixels`.
    """
    with _file(path) as file, _opened(file, path, max_megapixels) as image:
        width, height = image.size
        with _decoding(path):
            orientation = image.getexif().get(_ORIENTATION)  # a PNG's stands behind its pixels
        if orientation in _ROTATES_BY_A_QUARTER:
            width, height = height, width
        codec = str(image.format).lower()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Header(width, height, "jpeg" if codec == "mpo" else codec, digest)


def read_rgb(path: Path | str, max_megapixels: float = LARGEST) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: turned upright by its EXIF tag; grey, palette, CMYK and 16-bit images converted, transparency dropped.

    Raises:
        InputError: no such file, empty, no image, truncated, or larger than `max_megapixels`.
    """
    with _file(path) as file, _opened(file, path, max_megapixels) as image, _decoding(path):
        upright = ImageOps.exif_transpose(image)
        return np.array(_eight_bit(upright, path).convert("RGB"))


def read_labels(path: Path | str, max_megapixels: float = LARGEST) -> NDArray[np.uint8]:
    """(H, W) uint8 label map of one byte a pixel; of a palette image the indices, not the colours.

    Raises:
        InputError: as `read_rgb`, or not one byte a pixel.
    """
    with _file(path) as file, _opened(file, path, max_megapixels) as image:
        if image.mode not in ("L", "P"):
            raise InputError(f"{path}: a label map of mode {image.mode}; allowed: one byte a pixel (mode L or P)")
        with _decoding(path):
            return np.array(image)


def write_jpeg(path: Path | str, image: NDArray[np.uint8], quality: int) -> None:
    """(H, W, 3) uint8 RGB as JPEG, colour at full resolution."""
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, "JPEG", quality=quality, subsampling=0)


def write_png(path: Path | str, image: NDArray[np.uint8]) -> None:
    """(H, W) or (H, W, 3) uint8 as PNG."""
    with whole_file(path) as draft:
        Image.fromarray(image).save(draft, "PNG")


def _file(path: Path | str) -> BufferedReader | BytesIO:
    """A file that begins at its first byte; a small one is in memory at once."""
    try:
        known = os.stat(path)  # noqa: PTH116 - a Path's own costs time
    except (OSError, ValueError):
        known = None
    if known is None or not stat.S_ISREG(known.st_mode):  # whoever opens a pipe waits
        raise InputError(f"{path}: no such file")
    if known.st_size == 0:
        raise InputError(f"{path}: empty (0 bytes)")
    file = FileIO(path)
    if known.st_size > SMALL:
        return BufferedReader(file)
    with file:
        return BytesIO(file.read())


@contextmanager
def _opened(file: BufferedReader | BytesIO, path: Path | str, max_megapixels: float) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=_FORMATS)
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: far above {max_megapixels:g} megapixels (acquire.max_megapixels)") from None
    except Exception:
        raise InputError(f"{path}: not an image; allowed: {', '.join(_FORMATS)}") from None
    with image:
        width, height = _decoded_size(image)
        if width * height > max_megapixels * 1e6:
            raise InputError(
                f"{path}: {width} x {height} px; allowed: {max_megapixels:g} megapixels (acquire.max_megapixels)"
            )
        yield image


@contextmanager
def _decoding(path: Path | str) -> Iterator[None]:
    """A damaged file raises whatever its bytes happen to trip."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be decoded: {error}") from None


def _decoded_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image or, where those are larger, of the tiles that a TIFF is decoded by."""
    tags = getattr(image, "tag_v2", {})
    tile = [found if isinstance(found := tags.get(tag), int) else 0 for tag in _TILE]
    return max(image.width, tile[0]), max(image.height, tile[1])


def _eight_bit(image: Image.Image, path: Path | str) -> Image.Image:
    if not image.mode.startswith("I") and image.mode != "F":
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise InputError(f"{path}: pixels of mode {image.mode}; allowed: 8 or 16 bits a channel")
    return Image.fromarray((values >> 8).astype(np.uint8))
