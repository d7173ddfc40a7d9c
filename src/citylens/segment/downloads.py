"""Download of a scene parser's weights, checked against the SHA-256 sums kept beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pooch

from citylens.errors import InputError
from citylens.io import files

SUMS = "SHA256SUMS"
CHUNK = 1 << 20


def fetch(addresses: Mapping[str, str], folder: Path) -> None:
    """Download the files that the folder lacks, or that differ from its SHA256SUMS.

    The first download of a file adds its sum to SHA256SUMS. Every later download must match that sum.

    Args:
        addresses: URL of each file name, http or https.
        folder: gets the files and SHA256SUMS.

    Raises:
        InputError: no connection, an incomplete file, or another sum; names the URL and the place to put the file by hand.
    """
    sums = read_sums(folder)
    pooch.get_logger().setLevel("WARNING")
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK)
    for name, address in addresses.items():
        try:
            path = pooch.retrieve(address, sums.get(name), fname=name, path=folder, downloader=download)
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors
            by_hand = f"download it by other means and put it at {folder / name}"
            raise InputError(f"{address} cannot be fetched ({error}); {by_hand}") from None
        sums[name] = pooch.file_hash(path)
    files.write_text(folder / SUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))


def read_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file name in a folder's SHA256SUMS, as `sha256sum` writes it; empty without that file.

    Raises:
        InputError: not UTF-8.
    """
    path = folder / SUMS
    with files.reading(path, "not UTF-8"):
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name.strip(): value for value, _, name in (line.partition("  ") for line in lines) if name}
