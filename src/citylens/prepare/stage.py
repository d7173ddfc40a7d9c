"""prepare: decode and resize every image once, and split the images.

Reads data/acquire. Writes data/prepare: images.npy (N, size, size, 3) uint8 and index.csv, one row per image, and the splits' sizes to
reports/prepare/splits.csv. If near-copies or blocks join spots, the index's column `together` names the group that stays in one split. Run
alone: `citylens prepare`. Costs 3 ms per megapixel image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.engine import map_shards
from citylens.errors import InputError
from citylens.io import files, images, progress
from citylens.io.logged import Logged
from citylens.nets import near_copies, resizing
from citylens.nets.shards import shards
from citylens.prepare import splits
from citylens.settings.schema import SPLITS, Prepare, Settings

ACQUIRED, SIZES = Path("data/acquire"), Path("reports/prepare/splits.csv")
SHARD = 32  # images
DEGREE = 111_195  # metres of a degree of latitude
ELSEWHERE = 100_000  # metres from the middle of a city


def run(settings: Settings) -> None:
    """Pack and split the images."""
    columns = ["id", "city", "spot", "heading", "path", "lat", "lon", "utm_east", "utm_north"]
    manifest = files.read_table(ACQUIRED / "manifest.csv", columns)

    with files.whole_folder("data/prepare") as folder:
        _pack(list(manifest["path"]), folder / "images.npy", settings)
        index = _index(manifest, files.open_array(folder / "images.npy"), settings.prepare)
        files.write_table(folder / "index.csv", index)
    sizes = index.groupby(["split", "city"], as_index=False).agg(images=("id", "size"), spots=("spot", "nunique"))
    files.write_table(SIZES, sizes)


def _index(manifest: pd.DataFrame, pixels: np.ndarray, plan: Prepare) -> pd.DataFrame:
    cities = sorted(manifest["city"].unique())
    spots = manifest["city"] + "/" + manifest["spot"].astype(str)
    places = _places(manifest) if plan.split == "block" else None
    together = spots if places is None else manifest["city"] + "/" + splits.blocks(places, plan.block)
    if plan.near_copies == "together" and plan.split != "random":
        together = splits.joined(together, manifest["city"] + "/" + near_copies.copies(pixels).astype(str))
    groups = manifest["city"] if plan.by_city else pd.Series("of all", manifest.index)
    try:
        split = splits.split(list(groups), None if plan.split == "random" else list(together), plan.shares, plan.seed)
    except ValueError as error:
        joined = "" if together.equals(spots) else "; near-copies, and images of one block, count as one spot"
        raise InputError(f"prepare.split: {plan.split}: {error}{joined}") from None
    if places is not None:
        for city in cities:
            own = (manifest["city"] == city).to_numpy()
            split = split.astype("<U24")
            split[own] = splits.without_border(split[own], places[own], plan.buffer)
    index = manifest[["id", "city"]].assign(label=manifest["city"].map(cities.index))
    index = index.assign(spot=manifest["spot"], heading=manifest["heading"], split=split)
    return index if together.equals(spots) else index.assign(together=together)


def _places(manifest: pd.DataFrame) -> np.ndarray:
    """Return (N, 2) metres east and north, comparable within a city."""
    metres, degrees = manifest[["utm_east", "utm_north"]].astype(float), manifest[["lat", "lon"]].astype(float)
    north = degrees["lat"]
    scale = np.cos(np.deg2rad(north.groupby(manifest["city"]).transform("mean")))
    turned = np.stack([degrees["lon"] * scale, north], axis=1) * DEGREE
    places = np.where(metres.notna().all(axis=1).to_numpy()[:, None], metres.to_numpy(), turned)
    missing = np.isnan(places).any(axis=1)
    if missing.any():
        said = (
            f"{missing.sum()} of {len(manifest)} images have no coordinates; first: {manifest['path'][missing].iloc[0]}"
        )
        raise InputError(f"prepare.split: block: {said}; allowed: lat and lon for every image of the manifest")
    middle = pd.DataFrame(turned, manifest.index).groupby(manifest["city"]).transform("median").to_numpy()
    far = np.flatnonzero((np.abs(turned - middle) > ELSEWHERE).any(axis=1))  # False for NaN, where there are metres
    if len(far):
        first = manifest.iloc[far[0]]
        said = f"{len(far)} image(s) lie more than {ELSEWHERE / 1000:g} km from the middle of their city; first: {first['path']}"
        raise InputError(
            f"prepare.split: block: {said} (lat {first['lat']}, lon {first['lon']}). Latitude and longitude may be swapped, or "
            "0 may stand for an unknown place; allowed: coordinates in the city"
        )
    return places


def _pack(paths: list[str], target: Path, settings: Settings) -> None:
    """Write all images at the working size into one array, shard by shard."""
    size, parts = settings.prepare.size, shards(len(paths), SHARD)
    given = (paths, settings.prepare, settings.acquire.max_megapixels)
    resized = map_shards(_resizing, given, parts, settings.engine)
    with (
        files.growing_array(target, (len(paths), size, size, 3), "uint8") as packed,
        progress.bar("prepare", len(paths)) as advance,
    ):
        for part, own in zip(parts, resized, strict=True):
            packed[part] = own
            advance(len(own))


def _resizing(paths: list[str], plan: Prepare, max_megapixels: float) -> Callable[[slice], np.ndarray]:
    def resized(part: slice) -> np.ndarray:
        read = (images.read_rgb(ACQUIRED / path, max_megapixels, plan.least_decoded) for path in paths[part])
        return np.stack([resizing.resize_image(image, plan.size, plan.resize) for image in read])

    return resized


def logged() -> Logged:
    """Return the table of the splits' sizes."""
    return Logged(tables=(SIZES,), splits=SPLITS)
