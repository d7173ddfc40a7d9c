"""acquire: brings the images in and writes the manifest.

Reads the world's file (source render), or the folder that holds the photographs; writes data/acquire: the images and label maps
by their paths in the source, linked where the disk allows it, and manifest.csv, a row an image. Alone: `citylens acquire`. Costs
30 ms an image rendered, 0.2 ms brought.
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
import yaml

from citylens.adapters import files, images, links, pools, progress, releases, sources
from citylens.adapters.tracker import Run
from citylens.science.rendering.view import Scene
from citylens.science.rendering.world import World, read_world
from citylens.settings import Acquire, Dataset, InputError, Rendered, Settings

COLUMNS = ["id", "city", "spot", "heading", "pitch", "lat", "lon", "utm_east", "utm_north"]
COLUMNS += ["path", "width", "height", "codec", "sha256", "labels"]
MANY, CHUNK = 2000, 64  # photographs from which processes pay, and how many each takes at a time


def run(settings: Settings, tracker: Run) -> None:
    import pandas as pd

    with files.whole_folder("data/acquire") as folder:
        bring = _render if settings.acquire.source == "render" else _bring
        rows = list(bring(settings.acquire, folder))
        files.write_table(folder / "manifest.csv", pd.DataFrame(rows, columns=COLUMNS))


def _bring(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    root = Path(settings.path)
    with pools.pool() as pool:  # whose processes start when there is work
        photographs = sources.choose_cities(_listed(settings, root, pool), settings.cities)
        take = partial(_take, str(root), str(folder), settings.max_megapixels)
        wanted = [(photograph.path, photograph.labels) for photograph in photographs]
        many = len(photographs) > MANY
        taken = pool.map(take, wanted, chunksize=CHUNK) if many else map(take, wanted)
        with progress.bar("acquire", len(photographs)) as advance:
            for photograph, header in zip(photographs, taken, strict=True):
                yield {"id": photograph.path} | vars(photograph) | vars(header)
                advance(1)


def _take(root: str, folder: str, max_megapixels: float, wanted: tuple[str, str]) -> images.Header:
    """Brings a photograph and, where it has one, its label map."""
    header = images.read_header(f"{root}/{wanted[0]}", max_megapixels)
    for file in filter(None, wanted):
        links.link(f"{root}/{file}", f"{folder}/{file}")
    return header


def _listed(settings: Acquire, root: Path, pool: Executor) -> list[sources.Photograph]:
    if settings.source == "folder":
        return sources.from_folder(root)
    if settings.source == "manifest":
        return sources.from_manifest(root, settings.manifest)
    return list(chain.from_iterable(pool.map(partial(_views, root), settings.datasets)))


def _views(root: Path, dataset: Dataset) -> list[sources.Photograph]:
    views = releases.from_dataset(root, dataset)
    return releases.choose_views(
        views, dataset.choose, dataset.images, dataset.seed, f"acquire.datasets: {dataset.city}"
    )


def _render(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    world, plan = _read_world(settings.path), settings.render
    spots = list(product(world.cities, range(plan.spots)))
    with pools.pool() as pool:
        yield from chain.from_iterable(pool.map(partial(_draw, world, plan, folder), spots))


def _draw(world: World, plan: Rendered, folder: Path, where: tuple[str, int]) -> list[dict[str, Any]]:
    """Write all views of a spot; their rows."""
    city, spot = where
    place, rows = f"{city}-{spot:03d}", []
    cv2.setNumThreads(1)  # one process a core draws already
    scene = Scene(world, city, spot, width=plan.width, height=plan.height, seed=plan.seed)
    for heading in (number * 360 / plan.headings for number in range(plan.headings)):
        image, labels = scene.view(heading)
        name = f"{place}-h{round(heading):03d}"
        row = {"id": name, "city": city, "spot": place, "heading": heading, "pitch": 0.0}
        row |= {"path": f"images/{city}/{name}.jpg", "labels": f"labels/{city}/{name}.png"}
        images.write_jpeg(folder / str(row["path"]), image, plan.quality)
        images.write_png(folder / str(row["labels"]), labels)
        rows.append(row | asdict(images.read_header(folder / str(row["path"]))))
    return rows


def _read_world(path: str) -> World:
    try:
        return read_world(yaml.safe_load(Path(path).read_text()))
    except FileNotFoundError:
        raise InputError(
            f"acquire.path: {path}: no such file; allowed: a world's file, such as worlds/default.yaml"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from None
