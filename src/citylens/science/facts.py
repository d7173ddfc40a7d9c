"""What the data contracts look at: tables of plain facts, a row an image.

A fact that cannot be known (the width of a file that does not decode) is missing, so that a fault is told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from citylens.science import masks, segmentation

_CHUNK = 512


def image_facts(manifest: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The manifest's rows beside what its files turned out to be.

    Args:
        manifest: with id, city, spot, path, labels, and width, height, codec, sha256; these come back as `manifest_*`.
        measured: the same rows; width, height, codec, sha256 and others as read from the files.

    Returns:
        With `city_images`, the images of the row's city, and `codec_cities`, the share of the cities that have images
        of the row's codec.
    """
    said = manifest[["width", "height", "codec", "sha256"]].add_prefix("manifest_")
    table = pd.concat(
        [manifest[["id", "city", "spot", "path", "labels"]], said, measured.set_index(manifest.index)], axis=1
    )
    table["city_images"] = table.groupby("city")["city"].transform("size")
    table["codec_cities"] = table.groupby("manifest_codec")["city"].transform("nunique") / table["city"].nunique()
    return table


def split_facts(
    index: pd.DataFrame,
    manifest: pd.DataFrame,
    pixels: NDArray[np.uint8],
    shares: Mapping[str, float],
    *,
    by_spot: bool,
) -> pd.DataFrame:
    """The packed images' rows, then the manifest's images that are not among them.

    Args:
        index: columns id, city, label, spot, split; row i belongs to `pixels[i]`.
        manifest: columns id, city, spot, path, sha256.
        pixels: (N, size, size, 3); only its shape and type are looked at.
        shares: asked for, by split.
        by_spot: whether spots were kept whole.

    Returns:
        Of each image: `row`, missing where it is not packed; `pixels` (shape and type of its pixels); `manifest_*`;
        `city_label`, the place of its city among the sorted ones; `city_splits`, `spot_splits` and `file_splits`, in
        how many splits its city, its spot and its file's bytes are; and `city_share_excess` and `share_excess` of its
        split, see `share_excess`.
    """
    length = max(len(index), len(pixels))
    packed = index.reset_index(drop=True).reindex(range(length))
    packed["row"] = list(range(length))
    packed["pixels"] = _described(pixels, length)
    table = pd.concat(
        [packed, manifest.loc[~manifest["id"].isin(index["id"]), ["id", "city", "spot"]]], ignore_index=True
    )
    known = manifest.drop_duplicates("id").set_index("id")
    for name in ("city", "spot", "path", "sha256"):
        table[f"manifest_{name}"] = table["id"].map(known[name])
    cities = sorted(table["city"].dropna().unique())
    table["city_label"] = table["city"].map({city: label for label, city in enumerate(cities)})
    for name, group in (("city", ["city"]), ("spot", ["city", "spot"]), ("file", ["manifest_sha256"])):
        table[f"{name}_splits"] = table.groupby(group)["split"].transform("nunique")
    table["city_share_excess"], table["share_excess"] = share_excess(table, shares, by_spot=by_spot)
    return table


def share_excess(table: pd.DataFrame, shares: Mapping[str, float], *, by_spot: bool) -> tuple[pd.Series, pd.Series]:
    r"""How far each image's split is from its share, beyond what whole spots make unavoidable.

    It is :math:`\max(0, |n_s / n - p_s| - m / n)` for :math:`n_s` of n images in split s with share :math:`p_s`. Among
    n images in pieces of at most m, each dealt to the split that lacks most, no split misses its share by more than one
    piece. In a city m is its largest spot (one image, where images are split); over all cities, the sum of these.

    Args:
        table: columns city, spot, split, a row an image.
        shares: p of each split.

    Returns:
        Within the image's city, and over all cities; each 0 or more, missing where the split is unknown.
    """
    size = table.groupby("city")["split"].transform("size")
    inside = table.groupby(["city", "split"])["split"].transform("size")
    overall = table.groupby("split")["split"].transform("size")
    pieces = table.groupby(["city", "spot"])["split"].transform("size") if by_spot else pd.Series(1, table.index)
    largest = pieces.groupby(table["city"]).transform("max")
    all_largest = largest.groupby(table["city"]).first().sum()
    asked = table["split"].map(dict(shares)).astype(float)
    within = (inside / size - asked).abs() - largest / size
    across = (overall / len(table) - asked).abs() - all_largest / max(len(table), 1)
    # Twelve digits, so that a share that is met exactly is not off by the last bit of a float.
    return within.clip(lower=0).round(12), across.clip(lower=0).round(12)


def mask_facts(
    network: str, test: pd.DataFrame, index: pd.DataFrame, maps: NDArray[np.floating], size: int
) -> pd.DataFrame:
    """One network's stored maps beside the test images they should belong to, row by row.

    Args:
        network: the run's key.
        test: columns id, city of the test images, in their order.
        index: columns id, city, predicted, explained, probability, dead of the maps.
        maps: (N, h, w) float32 Grad-CAM maps before the ReLU; read in pieces.
        size: side of the images in pixels.

    Returns:
        With `stored` (whether there is a map), `dimensions`, `dtype`, `height`, `width`, `not_finite` (values),
        `lowest` and `highest` of the weighted mask, `found_dead` (as recomputed) and `dead_share` of the network.
    """
    table = _beside(test, index, len(maps), "mask")
    table.insert(0, "network", network)
    table["dimensions"], table["dtype"] = maps.ndim, str(maps.dtype)
    table["height"], table["width"] = maps.shape[1:] if maps.ndim == 3 else (np.nan, np.nan)
    facts = [_mask_values(block, size) for block in _blocks(maps)] if maps.ndim == 3 and maps.dtype.kind == "f" else []
    for place, name in enumerate(("not_finite", "lowest", "highest", "found_dead")):
        table[name] = pd.Series(np.concatenate([fact[place] for fact in facts]) if facts else [], dtype=float).reindex(
            table.index
        )
    table["dead_share"] = table["found_dead"].mean()
    return table


def segmentation_facts(
    test: pd.DataFrame, index: pd.DataFrame, labels: NDArray[np.uint8], known: Collection[int]
) -> pd.DataFrame:
    """The stored label maps beside the test images they should belong to, row by row.

    Args:
        test: columns id, city of the test images, in their order.
        index: columns id, city, coverage of the label maps.
        labels: (N, size, size) uint8, 0 = unlabelled; read in pieces.
        known: labels that have a name.

    Returns:
        With `stored` (whether there is a label map), `pixels` (its shape and type), `unknown_label` (the highest one in
        it that has no name; missing where all have one), `found_coverage` (as recomputed) and `coverage_off`, its
        distance from the index's.
    """
    table = _beside(test, index, len(labels), "segment")
    table["pixels"] = _described(labels, len(table))
    facts = (
        [_label_values(block, known) for block in _blocks(labels)]
        if labels.ndim == 3 and labels.dtype == np.uint8
        else []
    )
    for place, name in enumerate(("unknown_label", "found_coverage")):
        table[name] = pd.Series(np.concatenate([fact[place] for fact in facts]) if facts else [], dtype=float).reindex(
            table.index
        )
    table["coverage_off"] = (table["coverage"] - table["found_coverage"]).abs()
    return table


def _beside(test: pd.DataFrame, index: pd.DataFrame, stored: int, prefix: str) -> pd.DataFrame:
    rows = range(max(len(test), len(index), stored))
    found = index.reset_index(drop=True).reindex(rows).rename(columns={"id": f"{prefix}_id", "city": f"{prefix}_city"})
    table = pd.concat([test[["id", "city"]].reset_index(drop=True).reindex(rows), found], axis=1)
    table["row"] = list(rows)
    table["stored"] = ["yes" if row < stored else "no" for row in rows]
    return table


def _described(array: NDArray[np.generic], rows: int) -> list[str | None]:
    text = f"{' x '.join(map(str, array.shape[1:]))} {array.dtype}"
    return [text if row < len(array) else None for row in range(rows)]


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(array), _CHUNK):
        yield np.asarray(array[start : start + _CHUNK])


def _mask_values(maps: NDArray[np.floating], size: int) -> tuple[NDArray[np.float64], ...]:
    not_finite = (~np.isfinite(maps)).sum(axis=(1, 2))
    lowest, highest, dead = (np.full(len(maps), np.nan) for _ in range(3))
    usable = (not_finite == 0) & (maps.shape[1] * maps.shape[2] > 0)
    if usable.any():
        normal = masks.normalise(maps[usable], size)
        lowest[usable], highest[usable] = normal.min(axis=(1, 2)), normal.max(axis=(1, 2))
        dead[usable] = masks.dead(maps[usable])
    return not_finite, lowest, highest, dead


def _label_values(labels: NDArray[np.uint8], known: Collection[int]) -> tuple[NDArray[np.float64], ...]:
    unknown = np.ones(256, bool)
    unknown[[0, *known]] = False
    highest = np.where(unknown[labels], labels, 0).max(axis=(1, 2), initial=0).astype(float)
    return np.where(highest > 0, highest, np.nan), segmentation.coverage(labels)
