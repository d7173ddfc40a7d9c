"""acquire: brings the images in and writes the manifest.

Reads the world's file (source render), or the folder that holds the photographs; writes data/acquire: the images and label maps
by their paths in the source, and manifest.csv, a row an image. Alone: `citylens acquire`. Costs 30 ms an image rendered, 1 ms copied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain, product
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any

import cv2
import yaml

from citylens.adapters import files, images, sources
from citylens.adapters.tracker import Run
from citylens.science.rendering.view import Scene
from citylens.science.rendering.world import World, read_world
from citylens.settings import Acquire, InputError, Rendered, Settings

COLUMNS = ("id", "city", "spot", "heading", "pitch", "path", "width", "height", "codec", "sha256", "labels")


def run(settings: Settings, tracker: Run) -> None:
    import pandas as pd

    with files.whole_folder("data/acquire") as folder:
        bring = _render if settings.acquire.source == "render" else _copy
        rows = list(bring(settings.acquire, folder))
        files.write_table(folder / "manifest.csv", pd.DataFrame(rows, columns=COLUMNS))


def _copy(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    root = Path(settings.path)
    listed = (
        sources.from_folder(root) if settings.source == "folder" else sources.from_manifest(root, settings.manifest)
    )
    for photograph in sources.choose_cities(listed, settings.cities):
        header = images.read_header(root / photograph.path, settings.max_megapixels)
        for file in filter(None, (photograph.path, photograph.labels)):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, folder / file)
        yield {"id": photograph.path} | asdict(photograph) | asdict(header)


def _render(settings: Acquire, folder: Path) -> Iterator[dict[str, Any]]:
    world, plan = _read_world(settings.path), settings.render
    spots = list(product(world.cities, range(plan.spots)))
    with ProcessPoolExecutor(cpu_count(), mp_context=get_context("forkserver")) as pool:
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
