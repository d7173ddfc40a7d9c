"""Download of a scene parser's weights, checked against the SHA-256 sums kept beside them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pooch

from citylens.errors import InputError
from citylens.io import files
from citylens.io.texts import shown

SUMS = "SHA256SUMS"
CHUNK = 1 << 20
_SUM = re.compile(r"([0-9A-Fa-f]{64}) [ *](.+)")  # a * is the mark of `sha256sum --binary`


def fetch(addresses: Mapping[str, str], folder: Path) -> None:
    """Download the files that the folder lacks, or that differ from its SHA256SUMS.

    The first download of a file adds its sum to SHA256SUMS, whose other lines stay. Every later download must match that sum.

    Args:
        addresses: URL of each file name, http or https.
        folder: gets the files and SHA256SUMS.

    Raises:
        InputError: no connection, an incomplete file, or another sum; names the URL and the place to put the file by hand. Or as
            `read_sums`.
    """
    sums, added = read_sums(folder), ""
    pooch.get_logger().setLevel("WARNING")
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK)
    for name, address in addresses.items():
        try:
            path = pooch.retrieve(address, sums.get(name), fname=name, path=folder, downloader=download)
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors
            by_hand = f"download it by other means and put it at {folder / name}"
            raise InputError(f"{address} cannot be fetched ({error}); {by_hand}") from None
        if name not in sums:
            added += f"{pooch.file_hash(path)}  {name}\n"
    lines = _lines(folder / SUMS)
    files.write_text(folder / SUMS, "".join(f"{line}\n" for line in lines) + added)


def read_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file name in a folder's SHA256SUMS, as `sha256sum` writes it; empty without that file.

    Raises:
        InputError: not UTF-8, or a line is neither a sum nor a comment; passed over, it would hold its file to no sum.
    """
    sums = {}
    for number, line in enumerate(_lines(folder / SUMS), start=1):
        match = _SUM.fullmatch(line)
        if match:
            sums[match[2].strip()] = match[1]
        elif line.strip() and not line.startswith("#"):
            allowed = (
                "64 hexadecimal digits, two spaces and the file's name, as `sha256sum` writes it; comments begin with #"
            )
            raise InputError(f"{folder / SUMS}, line {number}: {shown(line)} is no sum; allowed: {allowed}")
    return sums


def _lines(path: Path) -> list[str]:
    with files.reading(path, "not UTF-8"):
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
