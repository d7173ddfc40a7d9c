"""Where photographs lie: a folder a city, or a manifest. Lists them; reads no pixels."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from citylens.adapters import limits, trees
from citylens.adapters.images import ENDINGS
from citylens.settings import InputError, label, printable

REQUIRED = ("path", "city")
OPTIONAL = ("spot", "labels", "heading", "pitch", "lat", "lon")
LIMITS = {"heading": 360, "pitch": 360, "lat": 90, "lon": 180}
FEWEST = 5
MEMORY = 4 << 30  # bytes for a manifest, some four million photographs


@dataclass(frozen=True)
class Photograph:
    """One image of a source; paths relative to the source's root.

    Heading, pitch, latitude and longitude in degrees, UTM coordinates in metres: texts, empty where unknown. `view` tells a
    spot's pitches apart.
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
    """One folder a city. A folder inside a city's is a spot; an image right in it is a spot of its own.

    Raises:
        InputError: no such folder, or no city in it.
    """
    if not root.is_dir():
        raise InputError(f"acquire.path: {root}: no such folder; allowed: a folder with one folder a city")
    found = []
    for file in trees.Tree(root).images("acquire.path"):
        folder, _, name = file.rpartition("/")
        if not folder:
            raise InputError(
                f"acquire.path: {root / name} lies in no city's folder; allowed: one folder a city inside {root}"
            )
        spot = folder if "/" in folder else os.path.splitext(file)[0]  # noqa: PTH122 - a Path costs time
        found.append(Photograph(file, file.partition("/")[0], spot))
    if not found:
        raise InputError(
            f"acquire.path: {root} holds no images; allowed: one folder a city with {', '.join(ENDINGS)} files"
        )
    return found


def from_manifest(root: Path, name: str) -> list[Photograph]:
    """The rows of a CSV or Parquet table: path, city and optionally spot, labels, heading, pitch, lat, lon; others are left out.

    Without a spot, an image is a spot of its own.

    Raises:
        InputError: no such file, a column is missing, a row is incomplete or doubled, or a path is unknown or leaves the folder.
    """
    path = root / name
    if not path.is_file():
        raise InputError(
            f"acquire.manifest: {path}: no such file; allowed: a CSV or .parquet with the columns {', '.join(REQUIRED)}"
        )
    tree = trees.Tree(root)
    tree.check(name, "acquire.manifest")
    with limits.memory(path, MEMORY):
        photographs = list(_rows(path))
    doubled = [file for file, count in Counter(photograph.path for photograph in photographs).items() if count > 1]
    if doubled:
        raise InputError(f"{path}: {len(doubled)} path(s) stand in several rows; first: {doubled[0]}")
    for number, photograph in enumerate(photographs, start=2):
        for file in filter(None, (photograph.path, photograph.labels)):
            tree.check(file, f"{path}, row {number}")
    return photographs


def _rows(path: Path) -> Iterator[Photograph]:
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)
    for number, row in enumerate(rows, start=2):
        yield _photograph(row, f"{path}, row {number}")


def _csv_rows(path: Path) -> Iterator[dict[str, str | None]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(list(reader.fieldnames or []), path)
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV in UTF-8: {error}") from None


def _parquet_rows(path: Path) -> Iterator[dict[str, str | None]]:
    """Rows as a CSV would have them, every value a text; numbered as there, the first row of data being row 2."""
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        _check_columns(file.schema_arrow.names, path)
        columns = [name for name in REQUIRED + OPTIONAL if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns, use_threads=False):
            for row in batch.to_pylist():
                yield {name: None if value is None or value != value else str(value) for name, value in row.items()}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to trip
        raise InputError(f"{path}: not a Parquet table: {error}") from None


def _check_columns(found: Sequence[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]} is missing; required: {', '.join(REQUIRED)}; found: {', '.join(found) or 'nothing'}"
        )


def _photograph(row: dict[str, str | None], where: str) -> Photograph:
    values = {name: printable((row.get(name) or "").strip(), f"{where}: {name}") for name in REQUIRED + OPTIONAL}
    empty = [name for name in REQUIRED if not values[name]]
    if empty:
        raise InputError(f"{where}: {empty[0]} is empty")
    for name, limit in LIMITS.items():
        _check_angle(values[name], name, limit, where)
    for name in ("path", "labels"):
        values[name] = values[name] and PurePosixPath(values[name]).as_posix()  # a//b.jpg and ./a/b.jpg are one file
    values["spot"] = values["spot"] or os.path.splitext(values["path"])[0]  # noqa: PTH122 ("." has no suffix)
    return Photograph(**values)


def _check_angle(value: str, name: str, limit: int, where: str) -> None:
    try:
        allowed = not value or -limit <= float(value) <= limit
    except ValueError:
        allowed = False
    if not allowed:
        raise InputError(f"{where}: {name} is {value!r}; allowed: degrees from -{limit} to {limit}, or nothing")


def choose_cities(photographs: Sequence[Photograph], cities: Sequence[str]) -> list[Photograph]:
    """The photographs of the named cities (of all, where none is named).

    Raises:
        InputError: a city's name is none, a named city is unknown, fewer than two cities are left, or one has fewer than five
            images.
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
