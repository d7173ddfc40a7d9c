"""Files from the internet, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from citylens.adapters import files, progress
from citylens.settings import InputError

SUMS = "SHA256SUMS"
PATIENCE = 30  # seconds without a byte
CHUNK = 1 << 20
MOST = 4 << 30  # bytes of a file


def fetch(addresses: Mapping[str, str], folder: Path) -> list[str]:
    """Downloads files into a folder, unless they are there and have the sums that the folder's SHA256SUMS gives.

    A file without a sum gets one written there: commit it, and every later download is held to it.

    Args:
        addresses: URL of each file's name.

    Returns:
        The names that were downloaded.

    Raises:
        InputError: no connection, an incomplete file, or another sum; says what to download and where to put it.
    """
    sums, made = read_sums(folder), []
    for name, address in addresses.items():
        path = folder / name
        if path.is_file():
            _check(path, sums.get(name), f"{path} is")
        else:
            with files.whole_file(path) as draft:
                _download(address, draft, path)
                _check(draft, sums.get(name), f"{address} has become")
            made.append(name)
        sums.setdefault(name, sha256(path))
    files.write_text(folder / SUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
    return made


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, as `sha256sum` writes them; empty where the folder has none.

    Raises:
        InputError: not UTF-8.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error}") from None
    return {name.strip(): value for value, _, name in (line.partition("  ") for line in lines) if name}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, expected: str | None, what: str) -> None:
    if expected is not None and sha256(path) != expected:
        raise InputError(
            f"{what} another file than {SUMS} says (SHA-256 {sha256(path)}, not {expected}); allowed: the same file, "
            f"or a new {SUMS} where the change is meant"
        )


def _download(address: str, draft: Path, target: Path) -> None:
    by_hand = f"download {address} by other means and put it at {target}"
    if not address.startswith(("http://", "https://")):
        raise InputError(f"{address} is no web address; allowed: http:// or https://")
    try:
        # A redirect to a file of this machine is refused by urllib itself.
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer, draft.open("wb") as file:  # noqa: S310
            expected = int(answer.headers.get("Content-Length") or 0)
            with progress.bar(f"fetch {target.name}", expected) as advance:
                while part := answer.read(CHUNK):
                    if file.tell() + len(part) > MOST:
                        raise ValueError(f"more than {MOST >> 30} GB")
                    file.write(part)
                    advance(len(part))
            written = file.tell()
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise InputError(f"{address} cannot be fetched ({error}); {by_hand}") from None
    if expected and written != expected:
        raise InputError(f"{address} came incomplete, {written} of {expected} bytes; try again, or {by_hand}")
