"""segment: names the objects in every test image.

Reads data/prepare/index.csv and data/acquire; writes data/segment: labels.npy (N, size, size) uint8, 1 to 150 and 0 unlabelled,
index.csv, a row a test image, and objects.csv, the labels' names. Alone: `citylens segment`. Costs 1 ms an image with the labels that
come with the data, 1 to 2 s with a network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.adapters import files, images, progress, segmenters
from citylens.adapters.tracker import Run
from citylens.science import ade20k, resizing, segmentation
from citylens.settings import InputError, Segment, Settings

ACQUIRED = Path("data/acquire")
Labeller = Callable[[pd.Series], np.ndarray]


def run(settings: Settings, tracker: Run) -> None:
    index = files.read_table("data/prepare/index.csv", ["id", "city", "split"])
    test = index[index["split"] == "test"][["id", "city"]]
    manifest = test.merge(
        files.read_table(ACQUIRED / "manifest.csv", ["id", "path", "labels"]).drop(columns="city"), on="id", how="left"
    )
    label, names = _oracle(manifest) if settings.segment.segmenter == "oracle" else _onnx(settings.segment)
    size, how = settings.prepare.size, settings.prepare.resize
    with files.whole_folder("data/segment") as folder, progress.bar("segment", len(manifest)) as advance:
        coverage = []
        with files.growing_array(folder / "labels.npy", (len(manifest), size, size), "uint8") as labels:
            for place, (_, row) in enumerate(manifest.iterrows()):
                labels[place] = resizing.resize_labels(label(row), size, how)
                coverage.append(segmentation.coverage(labels[place : place + 1])[0])
                advance(1)
        files.write_table(folder / "index.csv", test.assign(coverage=coverage))
        files.write_table(folder / "objects.csv", pd.DataFrame(sorted(names.items()), columns=["label", "name"]))


def _oracle(manifest: pd.DataFrame) -> tuple[Labeller, dict[int, str]]:
    without = manifest[manifest["labels"].isna()]
    if len(without):
        first = without["path"].iloc[0]
        raise InputError(
            f"segment.segmenter: oracle: {len(without)} of {len(manifest)} test images come without a label map; "
            f"first: {first}. Allowed: onnx"
        )
    return lambda row: images.read_labels(ACQUIRED / row["labels"]), ade20k.names()


def _onnx(settings: Segment) -> tuple[Labeller, dict[int, str]]:
    folder = Path(settings.path)
    segmenter, names = (
        segmenters.OnnxSegmenter(settings.onnx, folder),
        segmentation.short_names(segmenters.read_objects(folder / settings.onnx.objects)),
    )

    def label(row: pd.Series) -> np.ndarray:
        image = images.read_rgb(ACQUIRED / row["path"])
        try:
            classes = segmentation.to_labels(segmenter.logits(image)[None], settings.onnx.offset)[0]
        except ValueError as error:
            raise InputError(f"segment.onnx: {settings.onnx.model}: {error}") from None
        return resizing.resize_labels_to(classes, image.shape[0], image.shape[1])

    return label, names


def track(settings: Settings, tracker: Run) -> None:
    coverage = files.read_table("data/segment/index.csv")["coverage"]
    tracker.metrics({"images": len(coverage), "coverage": coverage.mean()})
