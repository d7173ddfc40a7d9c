"""Data sets of visual place recognition as their authors gave them out. Lists their database images; reads no pixels.

`pitts250k` and `tokyo247` (Torii et al., 2013 and 2015; the lists in .mat files are NetVLAD's), and `vpr`: any set whose files have
the names of VPR-datasets-downloader. Queries are left out: they are another domain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from citylens.adapters.images import ENDINGS
from citylens.adapters.mat_lists import SHOWN, Listed, by_lists, image_paths
from citylens.adapters.sources import Photograph
from citylens.settings import Dataset, InputError

FIELDS = (
    *("east", "north", "zone", "letter", "lat", "lon", "pano_id", "tile", "heading", "pitch"),
    *("roll", "height", "timestamp", "note"),
)
PITTSBURGH = re.compile(r"(?P<spot>\d+)_pitch(?P<pitch>\d)_yaw(?P<yaw>\d+)\.\w+")
TOKYO = re.compile(r"(?P<pano>.{22})_(?P<first>\d+)_(?P<heading>\d+)\.\w+")
ELSEWHERE = 100_000  # metres; no city is that large
# UTM east and north near each release's middle, zones 17T and 54S.
MIDDLE = {"pitts250k": (585_000.0, 4_477_000.0), "tokyo247": (384_000.0, 3_947_000.0)}


class Unreadable(ValueError):
    """A name that does not say what it should."""


def from_dataset(root: Path, dataset: Dataset) -> list[Photograph]:
    """The database images of one data set, by their paths inside `root`.

    Raises:
        InputError: the folder is no such release, part of it is missing, names do not parse (and `names` is fail), a spot has two
            places, or places lie in another zone.
    """
    top = root / dataset.path
    if not top.is_dir():
        raise InputError(f"acquire.datasets: {dataset.city}: {top}: no such folder")
    read = _by_names(top) if dataset.layout == "vpr" else by_lists(top, dataset.layout)
    found, wrong, folder = [], [], PurePosixPath(dataset.path).as_posix()
    for file, listed in read:
        try:
            found.append(_photograph(f"{folder}/{file}", listed, dataset))
        except Unreadable as error:
            wrong.append(f"{file} ({error})")
    where = f"acquire.datasets: {dataset.city} ({dataset.layout}): {top}"
    if wrong and dataset.names == "fail":
        raise InputError(
            f"{where}: {len(wrong)} name(s) do not parse; first: {'; '.join(wrong[:SHOWN])}. Allowed: names: skip"
        )
    if not found:
        raise InputError(f"{where}: no images whose names parse; {len(wrong)} that do not")
    _check_places(found, dataset.layout, where)
    return found


def _by_names(top: Path) -> Iterator[tuple[str, Listed | None]]:
    files = list(image_paths(top))
    if not files:
        raise InputError(f"acquire.datasets: {top} holds no images; allowed: {', '.join(ENDINGS)}")
    return ((file, None) for file in files)


def _photograph(path: str, listed: Listed | None, dataset: Dataset) -> Photograph:
    read: Callable[[str, Listed | None, str], Photograph] = {
        "pitts250k": _pittsburgh,
        "tokyo247": _tokyo,
        "vpr": _common,
    }[dataset.layout]
    return read(path, listed, dataset.city)


def _pittsburgh(path: str, listed: Listed | None, city: str) -> Photograph:
    match = PITTSBURGH.fullmatch(path.rpartition("/")[2])
    if match is None:
        raise Unreadable("not NNNNNN_pitchP_yawY")
    heading = (int(match["yaw"]) - 1) * 30  # twelve yaws, from the panorama's own zero
    return Photograph(path, city, match["spot"], str(heading), view=f"pitch{match['pitch']}", **_place(listed))


def _tokyo(path: str, listed: Listed | None, city: str) -> Photograph:
    parts = [part for part in path.split("/") if part != "."]
    match = TOKYO.fullmatch(parts[-1])
    if match is None or len(parts) < 3:
        raise Unreadable("not NNNNN/EAST_NORTH/PANORAMA_NNN_HEADING")
    return Photograph(path, city, "/".join(parts[-3:-1]), str(int(match["heading"])), **_place(listed))


def _place(listed: Listed | None) -> dict[str, str]:
    return {} if listed is None else {"utm_east": f"{listed.east:.3f}", "utm_north": f"{listed.north:.3f}"}


def _common(path: str, listed: Listed | None, city: str) -> Photograph:
    parts = path.rpartition("/")[2].split("@")
    if len(parts) != len(FIELDS) + 2 or parts[0] or not parts[-1].startswith("."):
        raise Unreadable(f"not {len(FIELDS)} fields between @")
    fields = dict(zip(FIELDS, parts[1:-1], strict=True))
    numbers = {name: _number(fields[name], name) for name in ("east", "north", "lat", "lon", "heading", "pitch")}
    if numbers["east"] is None or numbers["north"] is None:
        raise Unreadable("no coordinates")
    _check_zone(fields["zone"], numbers["lon"])
    spot = fields["pano_id"] or f"{fields['east']}_{fields['north']}"
    return Photograph(
        path,
        city,
        spot,
        fields["heading"],
        fields["pitch"],
        lat=fields["lat"],
        lon=fields["lon"],
        utm_east=fields["east"],
        utm_north=fields["north"],
    )


def _number(text: str, name: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        raise Unreadable(f"{name} is {text!r}, no number") from None
    limits = {"heading": 360, "pitch": 360, "lat": 90, "lon": 180, "east": 1e6, "north": 1e7}
    if value is not None and not abs(value) <= limits[name]:
        raise Unreadable(f"{name} is {text}, beyond {limits[name]:g}")
    return value


def _check_zone(zone: str, longitude: float | None) -> None:
    if not zone or longitude is None:
        return
    expected = int((longitude + 180) // 6) % 60 + 1
    # Norway and Svalbard have wider zones than the rest.
    if not zone.isdecimal() or abs(int(zone) - expected) > 1:
        raise Unreadable(f"zone {zone}, but longitude {longitude:g} lies in zone {expected}")


def _check_places(photographs: Sequence[Photograph], layout: str, where: str) -> None:
    placed = [photograph for photograph in photographs if photograph.utm_east]
    if not placed:
        return
    places = np.array([(float(photograph.utm_east), float(photograph.utm_north)) for photograph in placed])
    first: dict[str, int] = {}
    for row, photograph in enumerate(placed):
        other = first.setdefault(photograph.spot, row)
        if np.abs(places[row] - places[other]).max() > 1:
            raise InputError(
                f"{where}: spot {photograph.spot} lies at {_at(places[other])} ({placed[other].path}) and at {_at(places[row])} "
                f"({photograph.path}); allowed: one place a spot"
            )
    middle = np.array(MIDDLE.get(layout, np.median(places, axis=0)))
    far = np.flatnonzero(np.abs(places - middle).max(axis=1) > ELSEWHERE)
    if len(far):
        raise InputError(
            f"{where}: {len(far)} image(s) lie more than {ELSEWHERE // 1000} km from {_at(middle)}; are their coordinates of "
            f"another zone? First: {placed[far[0]].path} at {_at(places[far[0]])}"
        )


def _at(place: Iterable[float]) -> str:
    return " east, ".join(f"{value:.0f}" for value in place) + " north"


def choose_views(
    photographs: Sequence[Photograph], choose: str, images: int, seed: int, where: str
) -> list[Photograph]:
    """Some of a city's photographs, in their order.

    Args:
        choose: all; `random` images; `whole-spots`, with all views of each; or `pitch-matched`, whole spots of the first pitch
            only, because a second one lets networks tell cities by how much sky is in view.
        images: how many, 0 for all that `choose` allows; of whole spots as many as fit in.
        seed: which ones.

    Raises:
        InputError: fewer images than asked for.
    """
    left = list(photographs)
    if choose == "pitch-matched":
        lowest = min(photograph.view for photograph in left)
        left = [photograph for photograph in left if photograph.view == lowest]
    if len(left) < images:
        raise InputError(f"{where}: {images} images asked for, {choose}; there are {len(left)}. Allowed: 0 for all")
    if not images or choose == "all":
        return left
    generator = np.random.default_rng(seed)
    if choose == "random":
        return [left[row] for row in sorted(generator.permutation(len(left))[:images])]
    spots = list(dict.fromkeys(photograph.spot for photograph in left))
    sizes, chosen, count = Counter(photograph.spot for photograph in left), set(), 0
    for place in generator.permutation(len(spots)):
        if count + sizes[spots[place]] <= images:
            chosen.add(spots[place])
            count += sizes[spots[place]]
    return [photograph for photograph in left if photograph.spot in chosen]
