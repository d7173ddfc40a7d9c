"""segment: label the objects in every test image.

Reads data/prepare/index.csv, data/acquire and, for a scene parser, segment.path. Writes data/segment: labels.npy (N, size, size) uint8,
0 = unlabelled, index.csv, one row per test image, objects.csv, the labels' names, and with `segment.probabilities: top3` also likeliest.npy
and probabilities.npy (N, 3, size, size) uint8, where 255 means 1; and reports/segment: scores.json and confusion.csv, of the images that
people labelled. An interrupted run continues from .citylens/segment. Alone: `citylens segment`. Costs 4 ms per image with the data's own
labels, 1 to 10 s with a parser.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from citylens.engine import map_shards
from citylens.errors import InputError
from citylens.io import files, images, md5s, progress
from citylens.io.logged import Logged
from citylens.nets import label_maps, resizing
from citylens.nets.shards import shards
from citylens.segment import object_names, scores
from citylens.segment.files_needed import check_files
from citylens.settings.schema import Segment, Settings

if TYPE_CHECKING:
    from citylens.segment.parser import Parser

ACQUIRED, FOLDER, REPORT = Path("data/acquire"), Path("data/segment"), Path("reports/segment")
STATE = Path(".citylens/segment")
WORKER = 3 << 30  # bytes that a parser and a batch need
Label = Callable[[pd.DataFrame], dict[str, Any]]  # from rows of the manifest to rows of each output array, uint8


def run(settings: Settings) -> None:
    """Name the objects in every test image."""
    index = files.read_table("data/prepare/index.csv", ["id", "city", "split"])
    manifest = files.read_table(ACQUIRED / "manifest.csv", ["id", "path", "labels", "sha256"]).drop(columns="city")
    test = index[index["split"] == "test"][["id", "city"]].merge(manifest, on="id", how="left")
    names = _checked(test, settings)
    batches = _label_all(test, settings)
    with files.whole_folder(FOLDER) as folder:
        _join(batches, folder, len(test))
        labels = files.open_array(folder / "labels.npy")
        index = test[["id", "city"]].assign(coverage=label_maps.coverage(labels))
        files.write_table(folder / "index.csv", index)
        files.write_table(folder / "objects.csv", pd.DataFrame(sorted(names.items()), columns=["label", "name"]))
        _write_scores(test, labels, names, settings)
    shutil.rmtree(STATE)


def logged() -> Logged:
    """Return the coverage and, where people labelled images, the agreement with their labels."""
    return Logged(metrics=files.read_json(REPORT / "scores.json"), tables=(REPORT / "confusion.csv",), splits=("test",))


def _label_all(test: pd.DataFrame, settings: Settings) -> list[Path]:
    """Label the images that an interrupted run of the same input left; return one file per batch, named by the images done after it."""
    plan, folder = settings.segment, STATE / _fingerprint(settings, test)
    for other in {*STATE.glob("*")} - {folder}:
        shutil.rmtree(other, ignore_errors=True)
    done = max((int(path.stem) for path in folder.glob("[0-9]*.npz")), default=0)
    with progress.bar("segment", len(test)) as advance:
        advance(done)
        parts, parses = shards(len(test) - done, plan.batch_size), plan.segmenter != "oracle"
        given, need = (test.iloc[done:], settings), WORKER if parses else 0
        found = map_shards(_labelling, given, parts, settings.engine, memory=need, network=parses)
        for part, rows in zip(parts, found, strict=True):
            with files.whole_file(folder / f"{done + part.stop:09}.npz") as draft:
                np.savez(draft, **rows)
            advance(part.stop - part.start)
    return sorted(folder.glob("[0-9]*.npz"))


def _join(batches: list[Path], folder: Path, images: int) -> None:
    """Write each array of the batches' files into one file, without holding it in memory."""
    for name, last in np.load(batches[-1]).items():
        with files.growing_array(folder / f"{name}.npy", (images, *last.shape[1:]), "uint8") as whole:
            for path in batches:
                with files.reading(path, f"damaged; `rm -r {STATE}` lets the stage begin anew"):
                    rows = np.load(path)[name]
                stop = int(path.stem)
                whole[stop - len(rows) : stop] = rows


def _checked(test: pd.DataFrame, settings: Settings) -> dict[int, str]:
    """Check that all is there, before any work; return the names of the labels."""
    plan = settings.segment
    if plan.segmenter != "oracle":
        check_files(plan)
        return object_names.merged(_parser(plan).names, plan.merge)[1]
    without = test[test["labels"].isna()]
    if len(without):
        raise InputError(
            f"segment.segmenter: oracle: {len(without)} of {len(test)} test images come without a label map; "
            f"first: {without['path'].iloc[0]}. Allowed: onnx, csail, transformers"
        )
    if plan.probabilities != "none":
        raise InputError(f"segment.probabilities: {plan.probabilities}: label maps hold none; allowed: none")
    return object_names.merged(object_names.ADE20K, plan.merge)[1]


def _parser(plan: Segment) -> Parser:
    # Importing torch takes seconds, and label maps do not need it.
    from citylens.segment import csail_parser, onnx_parser, transformers_parser

    kinds = {"csail": csail_parser, "onnx": onnx_parser, "transformers": transformers_parser}
    return kinds[plan.segmenter].open_parser(plan)


def _labelling(test: pd.DataFrame, settings: Settings) -> Callable[[slice], dict[str, Any]]:
    """Return a function from a shard of the test images to its rows of each output array."""
    label = _oracle(settings) if settings.segment.segmenter == "oracle" else _network(settings)
    return lambda part: label(test.iloc[part])


def _oracle(settings: Settings) -> Label:
    """Return a function that reads the label maps that come with the data."""
    merged, _ = object_names.merged(object_names.ADE20K, settings.segment.merge)

    def label(rows: pd.DataFrame) -> dict[str, Any]:
        return {"labels": _resized((merged[images.read_labels(ACQUIRED / path)] for path in rows["labels"]), settings)}

    return label


def _network(settings: Settings) -> Label:
    """Return a function that labels images by a scene parser."""
    import torch

    from citylens.segment.parser import ranked

    plan, top = settings.segment, 3 if settings.segment.probabilities == "top3" else 1
    parser = _parser(plan)
    labels = object_names.merged(parser.names, plan.merge)[0][parser.labels]

    def seen(path: str) -> NDArray[np.uint8]:
        prepare = settings.prepare
        if plan.images == "whole":
            return images.read_rgb(ACQUIRED / path)
        image = images.read_rgb(ACQUIRED / path, least=prepare.least_decoded)
        return resizing.resize_image(image, prepare.size, prepare.resize)

    def label(rows: pd.DataFrame) -> dict[str, Any]:
        torch.set_num_threads(1)  # of this thread: sums of float32 depend on how many share them
        found = []
        read = ((path, seen(path)) for path in rows["path"])
        for _, same in groupby(read, key=lambda one: one[1].shape):
            paths, photographs = zip(*same, strict=True)
            for path, own in zip(paths, parser.parse(list(photographs)), strict=True):
                try:
                    found.append(ranked(own, labels, top, photographs[0].shape[:2], parser.probabilities))
                except ValueError as error:
                    raise InputError(f"segment.segmenter: {plan.segmenter}: {path}: {error}") from None
        likeliest = np.stack([_resized(maps, settings) for maps, _ in found])
        if top == 1:
            return {"labels": likeliest[:, 0]}
        shares = np.stack([_resized(maps, settings) for _, maps in found if maps is not None])
        return {"labels": likeliest[:, 0], "likeliest": likeliest, "probabilities": shares}

    return label


def _resized(maps: Iterable[NDArray[np.uint8]], settings: Settings) -> NDArray[np.uint8]:
    return np.stack([resizing.resize_labels(one, settings.prepare.size, settings.prepare.resize) for one in maps])


def _fingerprint(settings: Settings, test: pd.DataFrame) -> str:
    """Return a hash of all that the labels depend on: settings, images, the parser's files and this folder's code."""
    plan, prepare = replace(settings.segment, batch_size=1), settings.prepare
    code = md5s.of(Path(__file__).parent) + md5s.of(resizing.__file__)
    weights = md5s.of(plan.path) if plan.segmenter != "oracle" else ""
    parts = (plan, prepare.size, prepare.resize, prepare.decode, test.to_csv(index=False), code, weights)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _write_scores(test: pd.DataFrame, labels: NDArray[np.uint8], names: dict[int, str], settings: Settings) -> None:
    """Write the coverage and, for a scene parser, the agreement of its labels with those that people drew.

    The pixels are counted by people's labels. A name that people do not use counts as "none of these".
    """
    plan, known = settings.segment, set(object_names.ADE20K.values())
    merge = {name: target for name, target in plan.merge.items() if {name, target} <= known}
    merged, people = object_names.merged(object_names.ADE20K, merge)
    numbers = {name: label for label, name in people.items()}
    translated = np.array([numbers.get(names.get(label, ""), 0) for label in range(256)], np.uint8)
    drawn = test["labels"].dropna() if plan.segmenter != "oracle" else test["labels"].iloc[:0]
    counts = np.zeros((256, 256), np.int64)
    for place, path in drawn.items():
        (truth,) = _resized([merged[images.read_labels(ACQUIRED / path)]], settings)
        counts += scores.confusion(truth, translated[labels[place]])
    score: dict[str, Any] = {"images": len(labels), "coverage": float(label_maps.coverage(labels).mean())}
    if len(drawn):
        score |= {"labelled_images": len(drawn), "pixel_accuracy": scores.pixel_accuracy(counts)}
        score["mean_iou"] = scores.mean_iou(counts)
    called = people | {0: "none of these"}
    cells = [(called[t], called[f], counts[t, f]) for t, f in np.argwhere(counts)]
    table = pd.DataFrame(cells, columns=["actual", "predicted", "pixels"])
    files.write_json(REPORT / "scores.json", score)
    files.write_table(REPORT / "confusion.csv", table.sort_values("pixels", ascending=False, kind="stable"))
