"""Data sets of visual place recognition, in the layouts in which their authors released them; lists images, reads no pixels.

`pitts250k` and `tokyo247` (Torii et al., 2013 and 2015; their .mat lists come from NetVLAD), and `vpr`: any set whose files have the
names of VPR-datasets-downloader. Only database images are taken: queries are another domain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from citylens.acquire import sources, trees
from citylens.acquire.mat_lists import SHOWN, by_lists
from citylens.acquire.sources import Photograph, is_within
from citylens.errors import InputError
from citylens.io.images import ENDINGS
from citylens.settings.schema import Dataset

FIELDS = (
    *("east", "north", "zone", "letter", "lat", "lon", "pano_id", "tile", "heading", "pitch"),
    *("roll", "height", "timestamp", "note"),
)
LIMITS = {"east": 1e6, "north": 1e7} | sources.LIMITS  # metres, degrees
NAMES = {
    "pitts250k": (r"(?P<spot>\d+)_pitch(?P<pitch>\d)_yaw(?P<yaw>\d+)\.\w+", "NNNNNN_pitchP_yawY"),
    "tokyo247": (
        r"(?P<spot>[^/]+/[^/]+)/[^/]{22}_\d+_(?P<heading>\d+)\.\w+",
        "NNNNN/EAST_NORTH/PANORAMA_NNN_HEADING",
    ),
    "vpr": (f"@{'@'.join(f'(?P<{field}>[^@/]*)' for field in FIELDS)}@\\.[^@/]*", f"{len(FIELDS)} fields between @"),
}
"""Ends of paths by layout: a pattern, and how a message shows it."""
WITHOUT = ("quer", "raw_data")
"""Folders that are left out: queries, and what VPR-datasets-downloader downloads and does not delete."""
ELSEWHERE = 100_000  # metres from the middle of a data set; no city is that large
DEGREE = 111_195  # metres of a degree of latitude
# UTM east and north near each release's middle, in metres; zones 17T and 54S.
MIDDLE = {"pitts250k": (585_000.0, 4_477_000.0), "tokyo247": (384_000.0, 3_947_000.0)}


class Unreadable(ValueError):
    """A file name that does not have the layout's form."""


def from_dataset(root: Path, dataset: Dataset) -> list[Photograph]:
    """Return the chosen database images of one data set, with their paths inside `root`.

    Raises:
        InputError: the folder does not have the layout; part of it is missing; names do not parse (and `names` is fail); a spot
            has two locations; coordinates are of another zone; or there are fewer images than asked for.
    """
    top = root / dataset.path
    where = f"acquire.datasets: {dataset.city} ({dataset.layout}): {top}"
    if not top.is_dir():
        raise InputError(f"{where}: no such folder")
    if dataset.layout == "vpr":
        listed: Mapping[str, tuple[float, float] | None] = dict.fromkeys(_common_files(top, dataset.note, where))
    else:
        listed = by_lists(top, dataset.layout, where)
    found, wrong, folder = [], [], PurePosixPath(dataset.path).as_posix()
    for file, utm in listed.items():
        try:
            found.append(_photograph(f"{folder}/{file}", utm, dataset))
        except Unreadable as error:
            wrong.append(f"{file} ({error})")
    if wrong and dataset.names == "fail":
        raise InputError(
            f"{where}: {len(wrong)} name(s) do not parse; first: {'; '.join(wrong[:SHOWN])}. Allowed: names: skip"
        )
    if not found:
        raise InputError(f"{where}: no images whose names parse; {len(wrong)} that do not")
    _check_locations(found, dataset, where)
    return choose_views(found, dataset)


def _common_files(top: Path, note: str, where: str) -> list[str]:
    """Return the image files of layout vpr whose note has a name, or all if the name is empty."""
    left_out = Counter[str]()
    files = trees.files(top, "acquire.datasets", without=WITHOUT, left_out=left_out)
    trees.tell(left_out, top)
    # VPR-datasets-downloader draws a map, map_NAME.png.
    files = [file for file in files if not file.rpartition("/")[2].startswith("map_")]
    if not files:
        raise InputError(f"{where} holds no images; allowed: {', '.join(ENDINGS)}")
    chosen = [file for file in files if not note or f"_{note}_" in f"_{_note(file)}_"]
    if not chosen:
        raise InputError(f"{where}: no file has a note with {note!r}; {_notes(files)}")
    return chosen


def _note(file: str) -> str:
    """Return the note of a file's name, its last field, such as day_forward_zurich; empty where there is none."""
    return file.rpartition("/")[2].rpartition("@")[0].rpartition("@")[2]


def _notes(files: Iterable[str]) -> str:
    """Return a text with the names that notes end with, which Mapillary SLS has its cities in."""
    names = sorted({_note(file).rpartition("_")[2] for file in files} - {""})
    more = ", ..." if len(names) > 30 else ""
    return f"notes end with: {', '.join(names[:30])}{more}" if names else "no file has a note"


def _photograph(path: str, utm: tuple[float, float] | None, dataset: Dataset) -> Photograph:
    pattern, form = NAMES[dataset.layout]
    match = re.fullmatch(rf"(?:.*/)?{pattern}", path)
    if match is None:
        raise Unreadable(f"not {form}")
    if dataset.layout == "vpr":
        return _common(path, dataset.city, match.groupdict())
    located: dict[str, Any] = {"utm_east": f"{utm[0]:.3f}", "utm_north": f"{utm[1]:.3f}"} if utm else {}
    if dataset.layout == "tokyo247":
        return Photograph(path, dataset.city, match["spot"], str(int(match["heading"])), **located)
    heading = (int(match["yaw"]) - 1) * 30  # twelve yaws, counted from the panorama's own zero
    return Photograph(path, dataset.city, match["spot"], str(heading), view=f"pitch{match['pitch']}", **located)


def _common(path: str, city: str, fields: dict[str, str]) -> Photograph:
    for name, limit in LIMITS.items():
        if not is_within(fields[name], limit):
            raise Unreadable(f"{name} is {fields[name]!r}; allowed: numbers from -{limit:g} to {limit:g}")
    east, north, zone, longitude = (fields[name] for name in ("east", "north", "zone", "lon"))
    if not east or not north:
        raise Unreadable("no coordinates")
    if zone and longitude:
        expected = int((float(longitude) + 180) // 6) % 60 + 1
        # Norway and Svalbard have wider zones than the rest.
        if not zone.isdecimal() or abs(int(zone) - expected) > 1:
            raise Unreadable(f"zone {zone}, but longitude {longitude} lies in zone {expected}")
    angles: dict[str, Any] = {name: fields[name] for name in sources.LIMITS}
    panorama = fields["pano_id"].replace("None", "")  # as the downloader writes an unknown one
    return Photograph(path, city, panorama or f"{east}_{north}", **angles, utm_east=east, utm_north=north)


def _check_locations(photographs: Sequence[Photograph], dataset: Dataset, where: str) -> None:
    located = [photograph for photograph in photographs if photograph.utm_east]
    if not located:
        return
    utm = np.array([(float(photograph.utm_east), float(photograph.utm_north)) for photograph in located])
    _, first, spot = np.unique([photograph.spot for photograph in located], return_index=True, return_inverse=True)
    own = first[spot]  # row of the first image of each image's spot
    for row in np.flatnonzero(np.abs(utm - utm[own]).max(axis=1) > 1):
        raise InputError(
            f"{where}: spot {located[row].spot} lies at {_at(utm[own[row]])} ({located[own[row]].path}) and at "
            f"{_at(utm[row])} ({located[row].path}); allowed: one place a spot"
        )
    if not utm[:, 0].any():  # Nordland, AmsterTime and SPED: made-up coordinates, all with 0 m east
        return
    middle = np.array(MIDDLE.get(dataset.layout, np.median(utm, axis=0)))
    away = np.abs(utm - middle)
    if all(photograph.lat and photograph.lon for photograph in located):  # unlike UTM, the same in all zones
        degrees = np.array([(float(photograph.lat), float(photograph.lon)) for photograph in located])
        degrees -= np.median(degrees, axis=0)
        degrees[:, 1] = (degrees[:, 1] + 180) % 360 - 180
        away = np.abs(degrees) * DEGREE * [1, np.cos(np.radians(float(located[0].lat)))]
    far = np.flatnonzero(away.max(axis=1) > ELSEWHERE)
    if len(far):
        several = "are their coordinates of another zone?"
        if len({_note(photograph.path) for photograph in located}) > 1:
            files = [photograph.path for photograph in located]
            several = f"several cities in one folder? {_notes(files)}; allowed: note: NAME, which takes one of them."
        raise InputError(
            f"{where}: {len(far)} image(s) lie more than {ELSEWHERE // 1000} km from {_at(middle)}; {several} "
            f"First: {located[far[0]].path} at {_at(utm[far[0]])}"
        )


def _at(utm: Iterable[float]) -> str:
    return " east, ".join(f"{value:.0f}" for value in utm) + " north"


def choose_views(photographs: Sequence[Photograph], dataset: Dataset) -> list[Photograph]:
    """Return a choice of a city's photographs, in their order.

    Args:
        photographs: all photographs of the city.
        dataset: `choose` takes all; random (images, one by one); whole-spots (spots with all their views); or pitch-matched
            (whole spots of the first pitch only, because a second pitch lets networks tell cities by how much sky is in view).
            `images` is their number, 0 for all; as many whole spots as fit in. `seed` is that of the choice.

    Raises:
        InputError: there are fewer images than asked for.
    """
    left, images = list(photographs), dataset.images
    if dataset.choose == "pitch-matched":
        lowest = min(photograph.view for photograph in left)
        left = [photograph for photograph in left if photograph.view == lowest]
    if len(left) < images:
        said = f"{images} images asked for, {dataset.choose}; there are {len(left)}. Allowed: 0 for all"
        raise InputError(f"acquire.datasets: {dataset.city}: {said}")
    if not images or dataset.choose == "all":
        return left
    generator = np.random.default_rng(dataset.seed)
    if dataset.choose == "random":
        return [left[row] for row in sorted(generator.permutation(len(left))[:images])]
    sizes = Counter(photograph.spot for photograph in left)
    spots, chosen, count = list(sizes), set(), 0
    for number in generator.permutation(len(spots)):
        if count + sizes[spots[number]] <= images:
            chosen.add(spots[number])
            count += sizes[spots[number]]
    return [photograph for photograph in left if photograph.spot in chosen]
