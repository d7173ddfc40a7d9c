"""acquire: bring the images in and write their manifest.

Reads the world's file (source render), or the folder of the photographs. Writes data/acquire: images and label maps under their
paths in the source, linked where the disk allows it, and manifest.csv, one row per image. Alone: `citylens acquire`. Costs 30 ms
per rendered image, 0.2 ms per photograph.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any

import cv2

from citylens.acquire import links, releases, sources
from citylens.errors import InputError
from citylens.io import files, images, pools, progress
from citylens.io.texts import check_different, label, shown
from citylens.io.yaml_files import read_yaml
from citylens.settings.schema import Acquire, Rendered, Settings
from streetscenes.view import Scene
from streetscenes.world import World, read_world

COLUMNS = ["id", "city", "spot", "heading", "pitch", "lat", "lon", "utm_east", "utm_north"]
COLUMNS += ["path", "width", "height", "codec", "sha256", "labels"]
ACQUIRED = Path("data/acquire")
MANY = 2000  # photographs from which several processes pay
CHUNK = 64  # photographs that a process takes at a time


def run(settings: Settings) -> None:
    """Bring the images in and write the manifest."""
    import pandas as pd

    if settings.acquire.source != "render":
        _check_apart(Path(settings.acquire.path))
    with files.whole_folder(ACQUIRED) as folder:
        bring = _render if settings.acquire.source == "render" else _bring
        rows = list(bring(settings.acquire, folder))
        columns = [*COLUMNS, *settings.acquire.traits]
        files.write_table(folder / "manifest.csv", pd.DataFrame(rows, columns=columns))


def _check_apart(root: Path) -> None:
    """Check that the photographs do not lie in the folder that this stage replaces, nor that folder among them.

    Raises:
        InputError: they do.
    """
    source, own = root.resolve(), ACQUIRED.resolve()
    if source.is_relative_to(own) or own.is_relative_to(source):
        raise InputError(
            f"acquire.path: {root} {'lies in' if source.is_relative_to(own) else 'holds'} {ACQUIRED}, which this stage replaces; "
            "allowed: a folder apart from it, such as data/photos"
        )


def _bring(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    root = Path(settings.path)
    with pools.pool() as pool:  # Its processes start with the first work.
        photographs = sources.choose_cities(_listed(settings, root, pool), settings.cities)
        take = partial(_take, str(root), str(folder), settings)
        wanted = [(photograph.path, photograph.labels) for photograph in photographs]
        taken = pool.map(take, wanted, chunksize=CHUNK) if len(wanted) > MANY else map(take, wanted)
        with progress.bar("acquire", len(photographs)) as advance:
            for photograph, header in zip(photographs, sources.faultless(taken), strict=True):
                traits = dict(zip(settings.traits, photograph.traits, strict=True))
                yield {"id": photograph.path} | vars(photograph) | vars(header) | traits
                advance(1)


def _take(root: str, folder: str, settings: Acquire, wanted: tuple[str, str]) -> images.Header | InputError:
    """Link a photograph and its label map, if it has one, into the folder; return the photograph's header, or its fault.

    A map of a photograph's stored pixels is turned as EXIF turns the photograph, and written as PNG.
    """
    path, labels = wanted
    try:
        header = images.read_header(f"{root}/{path}", settings.max_megapixels)
        if labels and header.orientation > 1 and settings.labels_orientation == "stored":
            turned = images.read_labels(f"{root}/{labels}", settings.max_megapixels, header.orientation)
            images.write_png(f"{folder}/{labels}", turned)
            wanted = (path, "")
    except (InputError, PermissionError) as error:
        return InputError(str(error))
    for file in filter(None, wanted):
        links.link(f"{root}/{file}", f"{folder}/{file}")
    return header


def _listed(settings: Acquire, root: Path, pool: Executor) -> list[sources.Photograph]:
    if settings.source == "folder":
        return sources.from_folder(root)
    if settings.source == "manifest":
        taken = sorted({*settings.traits} & {*COLUMNS})
        if taken:
            raise InputError(f"acquire.traits: {taken[0]}; allowed: other names than {', '.join(COLUMNS)}")
        return sources.from_manifest(root, settings.manifest, settings.traits)
    return list(chain.from_iterable(pool.map(partial(releases.from_dataset, root), settings.datasets)))


def _render(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    world, plan = _read_world(settings.path), settings.render
    spots = list(product(world.cities, range(plan.spots)))
    with pools.pool() as pool:
        yield from chain.from_iterable(pool.map(partial(_draw, world, plan, folder), spots))


def _draw(world: World, plan: Rendered, folder: Path, where: tuple[str, int]) -> list[dict[str, Any]]:
    """Write the views of a spot (city, number); return their rows of the manifest."""
    city, spot = where
    spot_id, rows = f"{city}-{spot:03d}", []
    cv2.setNumThreads(1)  # Each core has a process already.
    scene = Scene(world, city, spot, width=plan.width, height=plan.height, seed=plan.seed)
    for heading in (number * 360 / plan.headings for number in range(plan.headings)):
        image, labels = scene.view(heading)
        name = f"{spot_id}-h{round(heading):03d}"
        row = {"id": name, "city": city, "spot": spot_id, "heading": heading, "pitch": 0.0}
        row |= {"path": f"images/{city}/{name}.jpg", "labels": f"labels/{city}/{name}.png"}
        images.write_jpeg(folder / str(row["path"]), image, plan.quality)
        images.write_png(folder / str(row["labels"]), labels)
        rows.append(row | asdict(images.read_header(folder / str(row["path"]))))
    return rows


def _read_world(path: str) -> World:
    if not Path(path).is_file():
        raise InputError(f"acquire.path: {path}: no such file; allowed: a world's file, such as worlds/default.yaml")
    with files.reading(path, "not a world"):
        world = read_world(read_yaml(path))
    for city in world.cities:  # They become folders.
        if label(city, f"{path}: city") != city or "/" in city or city.startswith("."):
            said = "names no folder; allowed: Unicode's form NFC, no / and no first ."
            raise InputError(f"{path}: city: {shown(city)} {said}")
    check_different(world.cities, f"{path}: city")
    return world
