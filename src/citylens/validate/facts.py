"""Tables of facts that the data contracts check, one row per image.

A fact is missing where an earlier fact rules it out (the width of a file that does not decode), so each fault is reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from citylens.nets import label_maps, masks
from citylens.settings.schema import LEFT_OUT

_CHUNK = 512
USUAL = {2: "building", 3: "sky", 5: "tree", 7: "road", 10: "grass", 12: "sidewalk", 21: "car"}
"""Labels of most pixels of photographs of streets; none is one above or below another, but for building and sky."""
LEAST_USUAL = 0.3
CITYSCAPES = (7, 8, 11, 21, 23, 26)
"""Road, sidewalk, building, vegetation, sky and car in Cityscapes' `labelIds`; ADE20K has road and car under 7 and 21."""


def image_facts(manifest: pd.DataFrame, measured: pd.DataFrame, labels_orientation: str = "shown") -> pd.DataFrame:
    """Return one row per image of the manifest, with what was read from its files.

    Args:
        manifest: columns id, city, spot, path, labels, and width, height, codec, sha256.
        measured: the same rows; columns `inspection.IMAGE` and `inspection.LABELS`.
        labels_orientation: the setting of acquire.

    Returns:
        Both tables side by side, the manifest's width, height, codec and sha256 as `manifest_*`; and `city_images`, the number
        of images of the row's city, and `codec_cities`, the share of the cities that have images of the row's codec. Texts,
        missing where there is nothing to say: `copy` and `copy_elsewhere`, another image with the same file in the same and in
        another city; `turned`, the EXIF orientation of an image whose label map is taken to fit the image as shown;
        `labels_shared`, another image with the same label map;
        `labels_numbering`, what the numbers in the label maps of the image's city seem to be, see `numbering`.
    """
    own = manifest[["id", "city", "spot", "path", "labels"]]
    said = manifest[["width", "height", "codec", "sha256"]].add_prefix("manifest_")
    measured = measured.set_index(manifest.index)
    table = pd.concat([own, said, measured.drop(columns="labels_counts")], axis=1)
    counts = measured["labels_counts"].dropna().groupby(table["city"])
    numberings = counts.agg(lambda city: numbering(reduce(np.add, city)))
    table["labels_numbering"] = table["city"].map(numberings).where(table["labels_decode"].eq("yes"))
    known = table.dropna(subset=["labels", "path"])
    first, last = (known.groupby("labels")["path"].transform(end) for end in ("first", "last"))
    table["labels_shared"] = first.where(first != known["path"], last).where(first != last).reindex(table.index)
    table["city_images"] = table.groupby("city")["city"].transform("size")
    table["codec_cities"] = table.groupby("manifest_codec")["city"].transform("nunique") / table["city"].nunique()
    table["copy"], table["copy_elsewhere"] = _copies(table)
    turned = (table["orientation"] > 1) & table["labels_decode"].eq("yes") & (labels_orientation == "shown")
    hint = "its map is taken as one of the image turned upright; if not, set acquire.labels_orientation=stored"
    table["turned"] = [
        f"EXIF orientation {value:g}: {hint}" if row else None
        for row, value in zip(turned, table["orientation"], strict=True)
    ]
    return table


def _copies(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return, per image, the path of another image with the same file in its city, and cities and path of one in another city."""
    known = table.dropna(subset=["manifest_sha256", "city", "path"]).sort_values("city", kind="stable")
    ends = ["first", "last"]
    first, last = (known.groupby(["manifest_sha256", "city"])["path"].transform(end) for end in ends)
    same = first.where(first != known["path"], last).where(first != last)
    first_city, last_city = (known.groupby("manifest_sha256")["city"].transform(end) for end in ends)
    first, last = (known.groupby("manifest_sha256")["path"].transform(end) for end in ends)
    before = first_city != known["city"]
    city, path = first_city.where(before, last_city), first.where(before, last)
    elsewhere = ("here of " + known["city"] + "; of " + city + ": " + path).where(first_city != last_city)
    return same.reindex(table.index), elsewhere.reindex(table.index)


def numbering(counts: NDArray[np.integer]) -> str | None:
    """Return what the numbers in label maps seem to be if not ADE20K's 1 to 150, judged by the labels that are usual in streets.

    Args:
        counts: (256,) pixels by label, in all maps of a city.
    """
    usual = np.array([*USUAL])
    pixels = {shift: int(counts[usual + shift].sum()) for shift in (0, -1, 1)}
    likeliest = max(pixels, key=lambda shift: pixels[shift])
    if likeliest:
        return f"as if numbered from {1 + likeliest}, not from 1: most pixels are then {', '.join(USUAL.values())}"
    if not counts[1:].any():
        return "as if nobody had labelled anything: all pixels are 0"
    # Trees and road of Cityscapes are cars and road here, so that the usual labels would seem to be there.
    if counts[[*CITYSCAPES]].sum() > pixels[0]:
        return "as if Cityscapes' labelIds: most pixels are then road, sidewalk, building, vegetation, sky, car"
    share = pixels[0] / int(counts[1:].sum())
    few = f"as if from another list: {share:.0%} of the labelled pixels are {', '.join(USUAL.values())}"
    return few if share < LEAST_USUAL else None


def split_facts(
    index: pd.DataFrame,
    manifest: pd.DataFrame,
    pixels: NDArray[np.uint8],
    shares: Mapping[str, float],
    *,
    by_spot: bool,
) -> pd.DataFrame:
    """Return one row per packed image, then one per image of the manifest that is not packed.

    Args:
        index: columns id, city, label, spot, split, and `together` where whole groups of spots are dealt to splits; row i belongs to
            `pixels[i]`.
        manifest: columns id, city, spot, path, sha256.
        pixels: (N, size, size, 3) uint8; only shape and type are used.
        shares: wanted share of each split, in (0, 1).
        by_spot: whether all images of a spot must be in one split.

    Returns:
        The columns of `index`; `used_split`, missing where the image is left out; `row`, missing where the image is not packed;
        `pixels` (shape and type); `manifest_*`; `city_label` (position of the city in alphabetical order); `city_splits`,
        `spot_splits` and `file_splits` (number of splits that use images of the city, images of the spot, and the same file);
        `city_share_excess` and `share_excess` of the row's split, see `share_excess`.
    """
    rows = range(max(len(index), len(pixels)))
    packed = index.reset_index(drop=True).reindex(rows).assign(row=rows, pixels=_described(pixels, len(rows)))
    unpacked = manifest.loc[~manifest["id"].isin(index["id"]), ["id", "city", "spot"]]
    table = pd.concat([packed, unpacked], ignore_index=True)
    known = manifest.drop_duplicates("id").set_index("id")
    for name in ("city", "spot", "path", "sha256"):
        table[f"manifest_{name}"] = table["id"].map(known[name])
    table["used_split"] = table["split"].where(~table["split"].str.startswith(LEFT_OUT, na=False))
    cities = sorted(table["city"].dropna().unique())
    table["city_label"] = table["city"].map({city: label for label, city in enumerate(cities)})
    for name, group in (("city", ["city"]), ("spot", ["city", "spot"]), ("file", ["manifest_sha256"])):
        table[f"{name}_splits"] = table.groupby(group)["used_split"].transform("nunique")
    table["city_share_excess"], table["share_excess"] = share_excess(table, shares, by_spot=by_spot)
    return table


def share_excess(table: pd.DataFrame, shares: Mapping[str, float], *, by_spot: bool) -> tuple[pd.Series, pd.Series]:
    r"""Return how far each image's split is from its wanted share, beyond what whole spots make unavoidable.

    The excess is :math:`\max(0, |n_s / n - p_s| - m / n)`, where split s has :math:`n_s` of the n images and the share
    :math:`p_s` is wanted. Spots of at most m images, each dealt to the split that lacks most, miss a share by at most m images.
    In a city, m is the size of its largest spot (1 if images are split one by one); over all cities, m is the sum of these.

    Args:
        table: columns city, spot, split, and maybe `together`; one row per image. Images that are left out count.
        shares: p of each split.
        by_spot: whether all images of a spot must be in one split.

    Returns:
        The excess within the image's city, and over all cities; each 0 or more, missing where the split is unknown.
    """
    table = table.assign(split=table["split"].str.removeprefix(LEFT_OUT))
    size = table.groupby("city")["split"].transform("size")
    inside = table.groupby(["city", "split"])["split"].transform("size")
    overall = table.groupby("split")["split"].transform("size")
    whole = "together" if "together" in table else "spot"
    pieces = table.groupby(["city", whole])["split"].transform("size") if by_spot else pd.Series(1, table.index)
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
    """Return one row per test image: one network's stored map beside the test image in the same row.

    Args:
        network: key of the trained network, such as `vgg11-0`.
        test: columns id, city of the test images, in their order.
        index: columns id, city, predicted, explained, probability, dead of the maps.
        maps: (N, h, w) float32 Grad-CAM maps before the ReLU; read in pieces.
        size: side of the images in pixels.

    Returns:
        The columns of `test`, those of `index` (id and city as `mask_id`, `mask_city`), and `network`; `row`; `stored` (yes or
        no: whether the row has a map); `dimensions`, `dtype`, `height`, `width` of the maps; `not_finite` (number of values);
        `lowest` and `highest` of the weighted mask; `found_dead` (recomputed, 0 or 1); and `dead_share` of the network.
    """
    table = _beside(test, index, len(maps), "mask")
    table.insert(0, "network", network)
    table["dimensions"], table["dtype"] = maps.ndim, str(maps.dtype)
    table["height"], table["width"] = maps.shape[1:] if maps.ndim == 3 else (np.nan, np.nan)
    table = table.join(_values(maps, maps.dtype.kind == "f", lambda block: _mask_values(block, size)))
    table["dead_share"] = table["found_dead"].mean()
    return table


def segmentation_facts(
    test: pd.DataFrame, index: pd.DataFrame, labels: NDArray[np.uint8], known: Collection[int]
) -> pd.DataFrame:
    """Return one row per test image: its stored label map beside the test image in the same row.

    Args:
        test: columns id, city of the test images, in their order.
        index: columns id, city, coverage of the label maps.
        labels: (N, size, size) uint8, 0 = unlabelled; read in pieces.
        known: labels that have a name.

    Returns:
        The columns of `test`, those of `index` (id and city as `segment_id`, `segment_city`), and `row`; `stored` (yes or no:
        whether the row has a label map); `pixels` (its shape and type); `unknown_label` (its highest label without a name;
        missing where all have one); `found_coverage` (recomputed) and `coverage_off`, its distance from the index's; and
        `largest_share`, the most common object's share of the pixels of all maps.
    """
    table = _beside(test, index, len(labels), "segment")
    table["pixels"] = _described(labels, len(table))
    table = table.join(_values(labels, labels.dtype == np.uint8, lambda block: _label_values(block, known)))
    table["coverage_off"] = (table["coverage"] - table["found_coverage"]).abs()
    if labels.dtype == np.uint8 and labels.size:
        counts = reduce(np.add, (np.bincount(image.ravel(), minlength=256) for image in labels))
        table["largest_share"] = counts[1:].max() / labels.size
    else:
        table["largest_share"] = np.nan
    return table


def _beside(test: pd.DataFrame, index: pd.DataFrame, stored: int, prefix: str) -> pd.DataFrame:
    rows = range(max(len(test), len(index), stored))
    found = index.reset_index(drop=True).reindex(rows).rename(columns={"id": f"{prefix}_id", "city": f"{prefix}_city"})
    table = pd.concat([test[["id", "city"]].reset_index(drop=True).reindex(rows), found], axis=1)
    return table.assign(row=rows, stored=["yes" if row < stored else "no" for row in rows])


def _values(array: NDArray[Any], readable: bool, compute: Callable[[NDArray[Any]], dict[str, Any]]) -> pd.DataFrame:
    """Return what is computed of each image, piece by piece; no rows where the array is no readable stack of images."""
    array = array if readable and array.ndim == 3 else np.empty((0, 1, 1), np.uint8)
    pieces = (array[start : start + _CHUNK] for start in range(0, max(len(array), 1), _CHUNK))
    return pd.concat([pd.DataFrame(compute(np.asarray(piece))) for piece in pieces], ignore_index=True).astype(float)


def _described(array: NDArray[np.generic], rows: int) -> list[str | None]:
    text = f"{' x '.join(map(str, array.shape[1:]))} {array.dtype}"
    return [text if row < len(array) else None for row in range(rows)]


def _mask_values(maps: NDArray[np.floating], size: int) -> dict[str, Any]:
    not_finite = (~np.isfinite(maps)).sum(axis=(1, 2))
    lowest, highest, dead = (np.full(len(maps), np.nan) for _ in range(3))
    usable = (not_finite == 0) & (maps.shape[1] * maps.shape[2] > 0)
    if usable.any():
        normal = masks.normalise(maps[usable], size)
        lowest[usable], highest[usable] = normal.min(axis=(1, 2)), normal.max(axis=(1, 2))
        dead[usable] = masks.dead(maps[usable])
    return {"not_finite": not_finite, "lowest": lowest, "highest": highest, "found_dead": dead}


def _label_values(labels: NDArray[np.uint8], known: Collection[int]) -> dict[str, Any]:
    unknown = np.ones(256, bool)
    unknown[[0, *known]] = False
    highest = np.where(unknown[labels], labels, 0).max(axis=(1, 2), initial=0).astype(float)
    return {"unknown_label": np.where(highest > 0, highest, np.nan), "found_coverage": label_maps.coverage(labels)}
