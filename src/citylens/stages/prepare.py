"""prepare: decodes and resizes every image once, and splits them.

Reads data/acquire; writes data/prepare: images.npy (N, size, size, 3) uint8 and index.csv, a row an image, and the splits' sizes in
reports/prepare. Alone: `citylens prepare`. Costs 3 ms an image of a megapixel.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np

from citylens.adapters import files, images
from citylens.adapters.tracker import Run
from citylens.science import resizing, splits
from citylens.settings import InputError, Prepare, Settings

ACQUIRED = Path("data/acquire")


def run(settings: Settings, tracker: Run) -> None:
    plan = settings.prepare
    manifest = files.read_table(ACQUIRED / "manifest.csv", ["id", "city", "spot", "path"])
    cities = sorted(manifest["city"].unique())
    index = manifest[["id", "city", "spot"]].assign(label=manifest["city"].map(cities.index))
    try:
        index["split"] = splits.split(
            list(index["city"]), list(index["spot"]) if plan.split == "spot" else None, plan.shares, plan.seed
        )
    except ValueError as error:
        raise InputError(f"prepare.split: {plan.split}: {error}") from None
    with files.whole_folder("data/prepare") as folder:
        _pack(list(manifest["path"]), folder / "images.npy", plan, settings.acquire.max_megapixels)
        files.write_table(folder / "index.csv", index[["id", "city", "label", "spot", "split"]])
    sizes = (
        index.groupby(["split", "city"], sort=True).agg(images=("id", "size"), spots=("spot", "nunique")).reset_index()
    )
    files.write_table("reports/prepare/splits.csv", sizes)


def _pack(paths: list[str], target: Path, plan: Prepare, max_megapixels: float) -> None:
    def one(path: str) -> np.ndarray:
        return resizing.resize_image(images.read_rgb(ACQUIRED / path, max_megapixels), plan.size, plan.resize)

    with (
        files.growing_array(target, (len(paths), plan.size, plan.size, 3), "uint8") as packed,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        for start in range(0, len(paths), 256):
            batch = paths[start : start + 256]
            packed[start : start + len(batch)] = list(pool.map(one, batch))


def track(settings: Settings, tracker: Run) -> None:
    tracker.table("reports/prepare/splits.csv")
