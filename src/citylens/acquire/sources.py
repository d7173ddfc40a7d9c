"""Photographs of one's own: a folder per city, or a manifest; lists images, reads no pixels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from citylens.acquire import trees
from citylens.errors import InputError
from citylens.io import limits
from citylens.io.files import reading
from citylens.io.images import ENDINGS
from citylens.io.texts import label, printable

REQUIRED = ("path", "city")
OPTIONAL = ("spot", "labels", "heading", "pitch", "lat", "lon")
LIMITS = {"heading": 360, "pitch": 360, "lat": 90, "lon": 180}
FEWEST = 5
MEMORY = 4 << 30  # bytes for a manifest; enough for about four million photographs


@dataclass(frozen=True)
class Photograph:
    """One image of a source; all fields are texts, empty where unknown.

    `path` and `labels` (the label map) are paths inside the source's folder. Heading, pitch, latitude and longitude are in
    degrees, UTM coordinates in metres. `view` names the pitch where its degrees are unknown.
    """

    path: str
    city: str
    spot: str
    heading: str = ""
    pitch: str = ""
    labels: str = ""
    lat: str = ""
    lon: str = ""
    utm_east: str = ""
    utm_north: str = ""
    view: str = ""


def from_folder(root: Path) -> list[Photograph]:
    """Return the images of a folder that has one folder per city.

    A folder inside a city's folder is a spot. An image directly in a city's folder is a spot of its own.

    Raises:
        InputError: there is no such folder, or no city in it.
    """
    if not root.is_dir():
        raise InputError(f"acquire.path: {root}: no such folder; allowed: a folder with one folder a city")
    found = []
    for file in trees.files(root, "acquire.path"):
        folder, _, name = file.rpartition("/")
        if not folder:
            raise InputError(
                f"acquire.path: {root / name} lies in no city's folder; allowed: one folder a city inside {root}"
            )
        found.append(Photograph(file, file.partition("/")[0], folder if "/" in folder else trees.stem(file)))
    if not found:
        raise InputError(
            f"acquire.path: {root} holds no images; allowed: one folder a city with {', '.join(ENDINGS)} files"
        )
    return found


def from_manifest(root: Path, name: str) -> list[Photograph]:
    """Return the images of a CSV or Parquet table with the columns `REQUIRED` and optionally `OPTIONAL`; others are ignored.

    An image without a spot is a spot of its own.

    Raises:
        InputError: there is no such table; a column is missing; a row is incomplete or repeats a path; or a path is unknown or
            leaves the folder.
    """
    path = root / name
    if not path.is_file():
        raise InputError(
            f"acquire.manifest: {path}: no such file; allowed: a CSV or .parquet with the columns {', '.join(REQUIRED)}"
        )
    trees.check(root, name, "acquire.manifest")
    with limits.memory(path, MEMORY):
        photographs = [_photograph(row, f"{path}, row {number}") for number, row in enumerate(_rows(path), start=2)]
    doubled = [file for file, count in Counter(photograph.path for photograph in photographs).items() if count > 1]
    if doubled:
        raise InputError(f"{path}: {len(doubled)} path(s) stand in several rows; first: {doubled[0]}")
    for number, photograph in enumerate(photographs, start=2):
        for file in filter(None, (photograph.path, photograph.labels)):
            trees.check(root, file, f"{path}, row {number}")
    return photographs


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV or Parquet table that has the required columns."""
    if path.suffix != ".parquet":
        with reading(path, "not a CSV in UTF-8"), path.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, strict=True)
            _check_columns(reader.fieldnames or [], path)
            yield from reader
        return
    from pyarrow import parquet

    with reading(path, "not a Parquet table"):
        table = parquet.ParquetFile(path)
        _check_columns(table.schema_arrow.names, path)
        columns = [name for name in REQUIRED + OPTIONAL if name in table.schema_arrow.names]
        for batch in table.iter_batches(columns=columns, use_threads=False):
            yield from batch.to_pylist()


def _check_columns(found: Sequence[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]} is missing; required: {', '.join(REQUIRED)}; found: {', '.join(found) or 'nothing'}"
        )


def _photograph(row: dict[str, Any], where: str) -> Photograph:
    values = {}
    for name in REQUIRED + OPTIONAL:
        value = row.get(name)
        text = "" if value is None or value != value else str(value).strip()
        values[name] = printable(text, f"{where}: {name}")
        if name in REQUIRED and not text:
            raise InputError(f"{where}: {name} is empty")
        if name in LIMITS and not is_within(text, LIMITS[name]):
            allowed = f"degrees from -{LIMITS[name]} to {LIMITS[name]}, or nothing"
            raise InputError(f"{where}: {name} is {text!r}; allowed: {allowed}")
    for name in ("path", "labels"):
        values[name] = values[name] and PurePosixPath(values[name]).as_posix()  # a//b.jpg and ./a/b.jpg are one file.
    values["spot"] = values["spot"] or trees.stem(values["path"])
    return Photograph(**values)


def is_within(text: str, limit: float) -> bool:
    """Return whether a text is empty or a number from -limit to limit."""
    try:
        return not text or abs(float(text)) <= limit
    except ValueError:
        return False


def choose_cities(photographs: Sequence[Photograph], cities: Sequence[str]) -> list[Photograph]:
    """Return the photographs of the named cities, or of all cities if none is named.

    Raises:
        InputError: a city's name cannot be shown; a named city is unknown; fewer than two cities are left; or a city has fewer
            than `FEWEST` images.
    """
    counts = Counter(photograph.city for photograph in photographs)
    for city in counts:
        label(city, "city")
    unknown = [city for city in cities if city not in counts]
    if unknown:
        raise InputError(f"acquire.cities: no images of {unknown[0]}; found: {', '.join(sorted(counts))}")
    chosen = {city: count for city, count in counts.items() if not cities or city in cities}
    if len(chosen) < 2:
        raise InputError(f"one city only ({', '.join(chosen)}); allowed: two or more to tell apart")
    few = [city for city, count in chosen.items() if count < FEWEST]
    if few:
        raise InputError(f"city {few[0]} has {chosen[few[0]]} image(s); allowed: {FEWEST} or more")
    return [photograph for photograph in photographs if photograph.city in chosen]
