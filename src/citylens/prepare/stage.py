"""prepare: decode and resize every image once, and split the images.

Reads data/acquire. Writes data/prepare: images.npy (N, size, size, 3) uint8 and index.csv, one row per image, and the splits' sizes to
reports/prepare/splits.csv. Run alone: `citylens prepare`. Costs 3 ms per megapixel image.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.errors import InputError
from citylens.io import files, images
from citylens.io.logged import Logged
from citylens.nets import resizing
from citylens.nets.shards import shards
from citylens.prepare import splits
from citylens.settings.schema import SPLITS, Prepare, Settings

ACQUIRED, SIZES = Path("data/acquire"), Path("reports/prepare/splits.csv")
SHARD = 256  # images


def run(settings: Settings) -> None:
    """Pack and split the images."""
    manifest = files.read_table(ACQUIRED / "manifest.csv", ["id", "city", "spot", "path"])

    index = _index(manifest, settings.prepare)
    sizes = index.groupby(["split", "city"], as_index=False).agg(images=("id", "size"), spots=("spot", "nunique"))

    with files.whole_folder("data/prepare") as folder:
        _pack(list(manifest["path"]), folder / "images.npy", settings.prepare, settings.acquire.max_megapixels)
        files.write_table(folder / "index.csv", index)
    files.write_table(SIZES, sizes)


def _index(manifest: pd.DataFrame, plan: Prepare) -> pd.DataFrame:
    cities = sorted(manifest["city"].unique())
    spots = list(manifest["spot"]) if plan.split == "spot" else None
    try:
        split = splits.split(list(manifest["city"]), spots, plan.shares, plan.seed)
    except ValueError as error:
        raise InputError(f"prepare.split: {plan.split}: {error}") from None
    index = manifest[["id", "city"]].assign(label=manifest["city"].map(cities.index))
    return index.assign(spot=manifest["spot"], split=split)


def _pack(paths: list[str], target: Path, plan: Prepare, max_megapixels: float) -> None:
    """Write all images at the working size into one array, shard by shard."""

    def resized(path: str) -> np.ndarray:
        return resizing.resize_image(images.read_rgb(ACQUIRED / path, max_megapixels), plan.size, plan.resize)

    shape = (len(paths), plan.size, plan.size, 3)
    with files.growing_array(target, shape, "uint8") as packed, ThreadPoolExecutor(cpu_count()) as pool:
        for part in shards(len(paths), SHARD):
            packed[part] = list(pool.map(resized, paths[part]))


def logged() -> Logged:
    """Return the table of the splits' sizes."""
    return Logged(tables=(SIZES,), splits=SPLITS)
