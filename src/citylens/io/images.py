"""Image files: common formats are read as upright 8-bit RGB, all else is refused with the file's name."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError, features

from citylens.errors import InputError
from citylens.io.files import reading, whole_file

_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
}
# Pillow may be built without these.
_MISSING = {name for name, feature in (("AVIF", "avif"), ("JPEG2000", "jpg_2000")) if not features.check(feature)}
_FORMATS = tuple(name for name in _ENDINGS if name not in _MISSING)
ENDINGS = tuple(ending for name in _FORMATS for ending in _ENDINGS[name])
LARGEST = 178.0  # megapixels
# Pillow names no file where tags are broken; a file whose pixels cannot be read is an error, with its name.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
PngImagePlugin.MAX_TEXT_CHUNK = 32 << 20  # bytes of a text or colour profile; of all texts, Pillow takes 64 MB
Image.MAX_IMAGE_PIXELS = None  # The limit here comes before decoding too, and names the file.
_DARK = 1 << 14  # of 16 bits; the brightest pixel of a photograph at night is above it
_QUARTER_TURNS = (5, 6, 7, 8)
_TURNS = (2, 3, 4, *_QUARTER_TURNS)
_ORIENTATION = 0x0112
_TILE = (322, 323)  # TIFF's tags for a tile's width and height
_OTHERS = {
    **dict.fromkeys((b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"), "HEIC"),
    b"8BPS": "a Photoshop file",
    b"JXL ": "JPEG XL",
    b"%PDF": "a PDF",
}
"""Formats that are not read, by what is in their first bytes."""
_LOSSLESS = ("PNG", "BMP", "TIFF")
_LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions inside a TIFF


@dataclass(frozen=True)
class Header:
    """Upright size in pixels and codec (jpeg, png, ...) from a file's header, the SHA-256 of its bytes, and its EXIF orientation.

    The orientation is 1 (stored upright) to 8.
    """

    width: int
    height: int
    codec: str
    sha256: str
    orientation: int = 1


def read_header(path: Path | str, max_megapixels: float = LARGEST) -> Header:
    """Return the header of an image file, without decoding its pixels.

    Raises:
        InputError: the file is missing, empty, no image, or larger than `max_megapixels`.
    """
    with _opened(path, max_megapixels) as (image, file):
        orientation = _orientation(image)
        width, height = image.size
        if orientation in _QUARTER_TURNS and image.format != "TIFF":  # Of a TIFF, Pillow gives the upright size.
            width, height = height, width
        codec = str(image.format).lower()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Header(width, height, "jpeg" if codec == "mpo" else codec, digest, orientation)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where it is missing or no orientation. In a PNG, the tag follows the pixels."""
    found = image.getexif().get(_ORIENTATION)
    return int(found) if found in _TURNS else 1


def read_rgb(path: Path | str, max_megapixels: float = LARGEST, least: int = 0) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) uint8 RGB, turned upright by its EXIF tag.

    Grey, palette, CMYK and 16-bit images are converted; transparency is dropped. With `least`, a JPEG is decoded at 1/2, 1/4 or 1/8
    of its size, as long as both sides keep so many pixels: the decoder then leaves out the finest frequencies.

    Raises:
        InputError: the file is missing, empty, no image, truncated, or larger than `max_megapixels`.
    """
    with _opened(path, max_megapixels) as (image, _):
        if least:
            image.draft(None, (least, least))
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            values = np.asarray(upright)
            if upright.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise InputError(f"{path}: pixels of mode {upright.mode}; allowed: 8 or 16 bits a channel")
            if values.max() < _DARK:
                said = f"no pixel above {values.max()} of 65535, so that all is black, as where 8 to 14 bits are not scaled"
                raise InputError(f"{path}: {said}; allowed: pixels scaled to 16 bits, or to 8")
            upright = Image.fromarray((values >> 8).astype(np.uint8))
        return np.array(upright.convert("RGB"))


def read_labels(path: Path | str, max_megapixels: float = LARGEST, orientation: int = 1) -> NDArray[np.uint8]:
    """Return a label map as (H, W) uint8; of a palette image the indices, not the colours.

    It is turned upright by its own EXIF tag, or by `orientation` where it has none.

    Raises:
        InputError: as `read_rgb`; the format changes pixels; the image does not have one byte per pixel; or its palette is a
            permutation of greys, which hides what the labels are.
    """
    with _opened(path, max_megapixels) as (image, _):
        packed = str(image.info.get("compression")) if image.format == "TIFF" else ""
        if image.format not in _LOSSLESS or packed in _LOSSY:
            said = " ".join(filter(None, (image.format, packed)))
            allowed = "PNG, BMP, or TIFF without JPEG or WebP, made from the original labels"
            raise InputError(f"{path}: a label map as {said}, which may change labels; allowed: {allowed}")
        if image.mode not in ("L", "P"):
            raise InputError(f"{path}: a label map of mode {image.mode}; allowed: one byte a pixel (mode L or P)")
        if _orientation(image) == 1:
            image.getexif()[_ORIENTATION] = orientation
        labels = np.array(ImageOps.exif_transpose(image))
        if image.mode == "P" and _is_grey(image, labels):
            both = "a palette of greys other than their indices, as tools make that shrink files"
            raise InputError(f"{path}: a label map with {both}; allowed: mode L, or a palette of colours")
        return labels


def _is_grey(image: Image.Image, indices: NDArray[np.uint8]) -> bool:
    """Return whether a palette image shows each of its indices in a grey of its own, and not all in the grey of that number."""
    palette = np.zeros((256, 3), np.uint8)
    colours = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    palette[: len(colours)] = colours
    used = np.unique(indices)
    greys = palette[used]
    return bool((greys == greys[:, :1]).all() and len({*greys[:, 0]}) == len(used) and (greys[:, 0] != used).any())


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
        except UnidentifiedImageError:
            file.seek(0)
            start = file.read(12)
            kind = next((kind for mark, kind in _OTHERS.items() if mark in start), "")
            said = f"{kind}, whatever its name ends with; convert it" if kind else "not an image"
            raise InputError(f"{path}: {said}; allowed: {', '.join(_FORMATS)}") from None
        except Exception as error:
            limited = "MAX_TEXT" in str(error)
            allowed = "texts and colour profiles of 32 MB each, 64 MB in all" if limited else "a whole image"
            raise InputError(f"{path}: cannot be opened: {error}; allowed: {allowed}") from None
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
