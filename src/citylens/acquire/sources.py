"""Photographs of one's own: a folder per city, or a manifest; lists images, reads no pixels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from citylens.acquire import trees
from citylens.errors import InputError
from citylens.io import limits
from citylens.io.files import reading
from citylens.io.images import ENDINGS
from citylens.io.texts import alike, check_different, label, normal, printable, shown

REQUIRED = ("path", "city")
OPTIONAL = ("spot", "labels", "heading", "pitch", "lat", "lon")
LIMITS = {"heading": 360, "pitch": 360, "lat": 90, "lon": 180}
FEWEST = 5
SHOWN = 5  # faults that a message names
PARTS = {
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "dev",
    "eval",
    "images",
    "labels",
    "masks",
}
"""Names of folders that hold a part of a data set, instead of a city."""
SEPARATORS = ",;\t|"
MEMORY = 4 << 30  # bytes for a manifest; enough for about four million photographs


Found = TypeVar("Found")


@dataclass(frozen=True)
class Photograph:
    """One image of a source; all fields are texts, empty where unknown.

    `path` and `labels` (the label map) are paths inside the source's folder. Heading, pitch, latitude and longitude are in
    degrees, UTM coordinates in metres. `view` names the pitch where its degrees are unknown. `traits` are those of `acquire.traits`.
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
    traits: tuple[str, ...] = ()


def from_folder(root: Path) -> list[Photograph]:
    """Return the images of a folder that has one folder per city.

    A folder inside a city's folder is a spot. An image directly in a city's folder is a spot of its own.

    Raises:
        InputError: there is no such folder, or no city in it; or its folders are parts of a data set, such as train and test.
    """
    if not root.is_dir():
        raise InputError(f"acquire.path: {root}: no such folder; allowed: a folder with one folder a city")
    found, left_out = [], Counter[str]()
    files = trees.files(root, "acquire.path", left_out=left_out)
    trees.tell(left_out, root)
    for file in files:
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
    cities = sorted({photograph.city for photograph in found})
    if len(cities) > 1 and {city.lower() for city in cities} <= PARTS:
        raise InputError(
            f"acquire.path: the folders of {root} ({', '.join(cities)}) are parts of a data set, not cities; allowed: one folder a "
            f"city, such as {root / cities[0]} if it has them, or acquire.source=manifest. prepare splits the images itself"
        )
    return found


def from_manifest(root: Path, name: str, traits: Sequence[str] = ()) -> list[Photograph]:
    """Return the images of a CSV or Parquet table with the columns `REQUIRED`, `traits` and optionally `OPTIONAL`; others are ignored.

    A CSV has one of the `SEPARATORS` between its fields. Rows count from the header, before which empty lines and `sep=` of Excel may
    stand. An image without a spot is a spot of its own. A path may be absolute, have
    backslashes, or be in another of Unicode's forms than on the disk.

    Raises:
        InputError: there is no such table; a column is missing or stands there twice; a row is incomplete, has more or fewer
            fields than the header, or repeats a path; or a path is unknown or leaves the folder.
    """
    path = root / name
    if not path.is_file():
        raise InputError(
            f"acquire.manifest: {path}: no such file; allowed: a CSV or .parquet with the columns {', '.join(REQUIRED)}"
        )
    trees.check(root, name, "acquire.manifest")
    with limits.memory(path, MEMORY):
        rows = enumerate(_rows(path, traits), start=2)
        where = f"{path}, row"
        photographs = list(faultless(_photograph(root, f"{where} {number}", *row, traits) for number, row in rows))
    doubled = [file for file, count in Counter(photograph.path for photograph in photographs).items() if count > 1]
    if doubled:
        raise InputError(f"{path}: {len(doubled)} path(s) stand in several rows; first: {doubled[0]}")
    return photographs


def faultless(found: Iterable[Found | InputError]) -> Iterator[Found]:
    """Yield what was found up to the first fault, then look for further faults only.

    Raises:
        InputError: there are faults: the first `SHOWN` of them, and their number.
    """
    faults, number = [], 0
    for one in found:
        if isinstance(one, InputError):
            faults += [str(one)] if number < SHOWN else []
            number += 1
        elif not number:
            yield one
    if number:
        raise InputError("\n".join(faults + [f"{number} faults in all"] * (number > 1)))


def _rows(path: Path, traits: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[Any]]]:
    """Yield the columns' names and a row's values, for each row of a CSV or Parquet table that has the required columns."""
    if path.suffix != ".parquet":
        with reading(path, "not a CSV in UTF-8"), path.open(newline="", encoding="utf-8-sig") as text:
            start, first = 0, text.readline()
            while first and (not first.strip() or first.lower().startswith("sep=")):  # Excel's hint for the separator
                start, first = text.tell(), text.readline()
            text.seek(start)
            heads = {mark: {*map(alike, next(csv.reader([first], delimiter=mark), []))} for mark in SEPARATORS}
            separator = next((mark for mark, names in heads.items() if names >= {*REQUIRED}), ",")
            reader = csv.reader(text, delimiter=separator, strict=True)
            names = _columns(next(reader, []), path, traits)
            yield from ((names, row) for row in reader if row)
        return
    from pyarrow import parquet

    with reading(path, "not a Parquet table"):
        table = parquet.ParquetFile(path)
        names = _columns(table.schema_arrow.names, path, traits)
        own = dict(zip(names, table.schema_arrow.names, strict=True))
        used = {name: own[name] for name in (*REQUIRED, *OPTIONAL, *traits) if name in own}
        for batch in table.iter_batches(columns=[*used.values()], use_threads=False):
            columns = [batch.column(name).to_pylist() for name in used.values()]
            yield from ((tuple(used), row) for row in zip(*columns, strict=True))


def _columns(found: Sequence[str], path: Path, traits: Sequence[str]) -> list[str]:
    """Return the names of a table's columns, in lower case and without white space around them."""
    names = [alike(name) for name in found]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise InputError(
            f"{path}: column {missing[0]} is missing; required: {', '.join(REQUIRED)}; found: {', '.join(found) or 'nothing'}"
        )
    unknown = [name for name in traits if name not in names]
    if unknown:
        others = ", ".join(name for name in names if name not in REQUIRED + OPTIONAL)
        raise InputError(
            f"acquire.traits: {unknown[0]}; allowed: columns of {path} without another use: {others or 'none'}"
        )
    doubled = [name for name in (*REQUIRED, *OPTIONAL, *traits) if names.count(name) > 1]
    if doubled:
        raise InputError(f"{path}: column {doubled[0]} stands there {names.count(doubled[0])} times; allowed: once")
    return names


def _photograph(
    root: Path, where: str, names: Sequence[str], row: Sequence[Any], traits: Sequence[str]
) -> Photograph | InputError:
    """Return a row's photograph, or what is wrong with the row."""
    try:
        if len(row) != len(names):
            allowed = "as many; a field with the separator in it stands in double quotes"
            raise InputError(f"{where}: {len(row)} fields, and {len(names)} in the header; allowed: {allowed}")
        given = dict(zip(names, row, strict=True))
        values = {name: _text(given.get(name), f"{where}: {name}") for name in REQUIRED + OPTIONAL}
        found = tuple(_text(given[name], f"{where}: {name}") for name in traits)
        for name, text in values.items():
            if name in REQUIRED and not text:
                raise InputError(f"{where}: {name} is empty")
            if name in LIMITS and not is_within(text, LIMITS[name]):
                allowed = f"degrees from -{LIMITS[name]} to {LIMITS[name]} with a decimal point, or nothing"
                raise InputError(f"{where}: {name} is {text!r}; allowed: {allowed}")
        for name in ("path", "labels"):
            if values[name]:
                values[name] = trees.located(values[name], root)
                trees.check(root, values[name], where)
    except InputError as error:
        return error
    values["spot"] = values["spot"] or trees.stem(values["path"])
    return Photograph(**values, traits=found)


def _text(value: Any, where: str) -> str:
    """Return a cell's value as printable text; a missing value is the empty text."""
    if value is None or value != value:
        return ""
    try:
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list | dict | bool):
            raise ValueError
    except ValueError:
        raise InputError(f"{where} is {shown(value)}; allowed: text in UTF-8, or a number") from None
    return printable(str(value).strip(), where)


def is_within(text: str, limit: float) -> bool:
    """Return whether a text is empty or a number from -limit to limit."""
    try:
        return not text or abs(float(text)) <= limit
    except ValueError:
        return False


def choose_cities(photographs: Sequence[Photograph], cities: Sequence[str]) -> list[Photograph]:
    """Return the photographs of the named cities, or of all cities if none is named, with the normal forms of city and spot.

    Raises:
        InputError: a city's name cannot be shown; two cities' names look alike; a named city is unknown; fewer than two cities are
            left; or a city has fewer than `FEWEST` images.
    """
    names = {city: label(city, "city") for city in {photograph.city for photograph in photographs}}
    photographs = [_normal(photograph, names[photograph.city]) for photograph in photographs]
    counts = Counter(photograph.city for photograph in photographs)
    check_different(counts, "city")
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


def _normal(photograph: Photograph, city: str) -> Photograph:
    if city == photograph.city and photograph.spot.isascii():
        return photograph
    return replace(photograph, city=city, spot=normal(photograph.spot))
