"""segment: names the objects in every test image.

Reads data/prepare/index.csv, data/acquire and, for a network, segment.path; writes data/segment: labels.npy (N, size, size) uint8, 0
unlabelled, index.csv, a row a test image, objects.csv, the labels' names, and if asked for likeliest.npy and probabilities.npy (N, 3,
size, size) uint8, 255 = 1; and reports/segment: scores.json and confusion.csv, of images with people's labels. A stopped run goes on
from .citylens/segment. Alone: `citylens segment`. Costs 4 ms an image with the labels that come with the data, 1 to 10 s with a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from citylens.adapters import files, images, progress, resumable, segmenters, weights
from citylens.adapters.tracker import Run
from citylens.science import ade20k, resizing, segmentation
from citylens.settings import InputError, Segment, Settings

if TYPE_CHECKING:
    import torch

ACQUIRED, FOLDER, REPORT = Path("data/acquire"), Path("data/segment"), Path("reports/segment")
STATE = Path(".citylens/segment")
TOP = {"none": 1, "top3": 3}


@dataclass(frozen=True)
class Parser:
    """A network that names objects.

    Args:
        parse: images of one size, (H, W, 3) uint8, to (N, classes, H, W) probabilities.
        labels: (classes,) uint8 label of each class.
        names: of each label.
    """

    parse: Callable[[list[np.ndarray]], torch.Tensor]
    labels: np.ndarray
    names: dict[int, str]


def run(settings: Settings, tracker: Run) -> None:
    index = files.read_table("data/prepare/index.csv", ["id", "city", "split"])
    test = index[index["split"] == "test"][["id", "city"]]
    listed = files.read_table(ACQUIRED / "manifest.csv", ["id", "path", "labels", "sha256"])
    manifest = test.merge(listed.drop(columns="city"), on="id", how="left")
    plan, size, how = settings.segment, settings.prepare.size, settings.prepare.resize
    top = TOP[plan.probabilities]
    shapes: dict[str, tuple[tuple[int, ...], str]] = {"labels": ((len(manifest), size, size), "uint8")}
    if top > 1:
        shapes |= dict.fromkeys(("likeliest", "probabilities"), ((len(manifest), top, size, size), "uint8"))
    named, names = _oracle(manifest, plan) if plan.segmenter == "oracle" else _named(_open(plan), plan, top)
    with resumable.resumable(STATE, _fingerprint(settings, manifest), shapes) as unfinished:
        with progress.bar("segment", len(manifest)) as advance:
            advance(unfinished.done)
            for place, found, shares in named(manifest.iloc[unfinished.done :], unfinished.done):
                ranks = np.stack([resizing.resize_labels(rank, size, how) for rank in found])
                unfinished.arrays["labels"][place] = ranks[0]
                if top > 1:
                    unfinished.arrays["likeliest"][place] = ranks
                    unfinished.arrays["probabilities"][place] = [resizing.resize_labels(s, size, how) for s in shares]
                if (place + 1) % plan.batch_size == 0 or place + 1 == len(manifest):
                    unfinished.mark(place + 1)
                advance(1)
        labels = unfinished.arrays["labels"]
        _write_scores(manifest, labels, names, settings)
        with files.whole_folder(FOLDER) as folder:
            for name, array in unfinished.arrays.items():
                files.write_array(folder / f"{name}.npy", array)
            files.write_table(folder / "index.csv", test.assign(coverage=segmentation.coverage(labels)))
            files.write_table(folder / "objects.csv", pd.DataFrame(sorted(names.items()), columns=["label", "name"]))


Named = Callable[[pd.DataFrame, int], Iterator[tuple[int, np.ndarray, np.ndarray]]]


def _oracle(manifest: pd.DataFrame, plan: Segment) -> tuple[Named, dict[int, str]]:
    without = manifest[manifest["labels"].isna()]
    if len(without):
        first = without["path"].iloc[0]
        raise InputError(
            f"segment.segmenter: oracle: {len(without)} of {len(manifest)} test images come without a label map; "
            f"first: {first}. Allowed: onnx, csail, transformers"
        )
    if plan.probabilities != "none":
        raise InputError(f"segment.probabilities: {plan.probabilities}: label maps hold none; allowed: none")
    merged, names = _merged(ade20k.names(), plan)

    def named(rows: pd.DataFrame, first: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for place, path in enumerate(rows["labels"], start=first):
            labels = merged[images.read_labels(ACQUIRED / path)]
            yield place, labels[None], np.empty(0)

    return named, names


def _merged(names: dict[int, str], plan: Segment) -> tuple[np.ndarray, dict[int, str]]:
    """(256,) uint8 label that each label becomes, and the names of those that are left."""
    try:
        becomes = segmentation.merged_labels(names, plan.merge)
    except ValueError as error:
        raise InputError(f"segment.merge: {error}") from None
    table = np.arange(256, dtype=np.uint8)
    table[list(becomes)] = list(becomes.values())
    return table, {label: name for label, name in names.items() if becomes[label] == label}


def _named(parser: Parser, plan: Segment, top: int) -> tuple[Named, dict[int, str]]:
    """Names images in batches of one size."""
    from citylens.science import parsing

    merged, names = _merged(parser.names, plan)
    labels = merged[parser.labels]

    def named(rows: pd.DataFrame, first: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        read = ((place, images.read_rgb(ACQUIRED / path)) for place, path in enumerate(rows["path"], start=first))
        for _, same in groupby(read, key=lambda item: item[1].shape):
            while batch := list(islice(same, plan.batch_size)):
                probabilities = parser.parse([image for _, image in batch])
                for (place, _), own in zip(batch, probabilities, strict=True):
                    try:
                        yield place, *parsing.ranked(own, labels[: len(own)], top)
                    except ValueError as error:
                        raise InputError(f"segment.{plan.segmenter}: {error}") from None

    return named, names


def _open(plan: Segment) -> Parser:
    return {"onnx": _onnx, "csail": _csail, "transformers": _transformers}[plan.segmenter](plan)


def _onnx(plan: Segment) -> Parser:
    import torch
    from torch.nn import functional

    folder, offset = Path(plan.path), plan.onnx.offset
    segmenter = segmenters.OnnxSegmenter(plan.onnx, folder)
    names = segmentation.short_names(segmenters.read_objects(folder / plan.onnx.objects))

    def parse(batch: list[np.ndarray]) -> torch.Tensor:
        logits = torch.from_numpy(np.stack([segmenter.logits(image) for image in batch])).permute(0, 3, 1, 2)
        try:
            labels = segmentation.class_labels(logits.shape[1], offset).tolist()
        except ValueError as error:
            raise InputError(f"segment.onnx: {plan.onnx.model}: {error}") from None
        if {*labels} - {0} != {*names}:
            raise InputError(
                f"segment.onnx.objects: {folder / plan.onnx.objects} names {len(names)} objects, {min(names)} to {max(names)}; "
                f"{plan.onnx.model} has {len(labels)} classes, with offset {offset} {labels[0]} to {labels[-1]} (0: none)"
            )
        return functional.interpolate(torch.softmax(logits, 1), batch[0].shape[:2], mode="nearest-exact")

    return Parser(parse, segmentation.class_labels(segmentation.OBJECTS + 1 - offset, offset), names)


def _csail(plan: Segment) -> Parser:
    import torch

    from citylens.science import networks, scene_parsers

    folder, device, chosen = Path(plan.path), networks.device(), plan.csail
    parser = scene_parsers.build(chosen.parser)
    for network, name in zip(parser, (chosen.encoder, chosen.decoder), strict=True):
        tensors = weights.read_pth(folder / name)
        wrong = scene_parsers.misfits(network, tensors)
        if wrong:
            raise InputError(
                f"{folder / name}: {len(wrong)} weight(s) do not fit {chosen.parser}: {'; '.join(wrong[:20])}"
            )
        network.load_state_dict(tensors, strict=False)
        network.to(device)

    def parse(batch: list[np.ndarray]) -> torch.Tensor:
        height, width = batch[0].shape[:2]
        scales = []
        for short in chosen.scales:
            size = scene_parsers.scaled_size(height, width, short, chosen.longest)
            scales.append(torch.cat([scene_parsers.prepared(image, size, chosen.preprocessing) for image in batch]))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = scene_parsers.probabilities(parser, [scale.to(device) for scale in scales], (height, width))
        return found.float()

    return Parser(parse, np.arange(1, 151, dtype=np.uint8), ade20k.names())


def _transformers(plan: Segment) -> Parser:
    from citylens.science import networks

    own = Path(plan.path) / plan.transformers.checkpoint
    parse, classes = weights.open_transformers(
        str(own) if own.is_dir() else plan.transformers.checkpoint, networks.device()
    )
    if len(classes) > 255:
        raise InputError(f"segment.transformers: {plan.transformers.checkpoint}: {len(classes)} classes; allowed: 255")
    names = segmentation.short_names({number + 1: name.replace(",", ";") for number, name in classes.items()})
    return Parser(parse, np.arange(1, len(classes) + 1, dtype=np.uint8), names)


def _fingerprint(settings: Settings, manifest: pd.DataFrame) -> str:
    plan = replace(settings.segment, batch_size=1)
    parts = [repr(plan), str(settings.prepare.size), settings.prepare.resize, manifest.to_csv(index=False)]
    parts.append(hashlib.sha256(Path(__file__).read_bytes()).hexdigest())
    folder = Path(plan.path)
    for path in sorted(folder.rglob("*")) if plan.segmenter != "oracle" and folder.is_dir() else []:
        if path.is_file():
            with path.open("rb") as file:
                parts.append(f"{path} {hashlib.file_digest(file, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write_scores(manifest: pd.DataFrame, labels: np.ndarray, names: dict[int, str], settings: Settings) -> None:
    """Coverage; and, where people's labels exist that are not themselves in use, how well they are met."""
    scores: dict[str, Any] = {"images": len(labels), "coverage": float(segmentation.coverage(labels).mean())}
    known, cells = int(manifest["labels"].notna().sum()), []
    if settings.segment.segmenter != "oracle" and known:
        counts, called = _measured(manifest, labels, names, settings)
        scores |= {"labelled_images": known, "pixel_accuracy": segmentation.pixel_accuracy(counts)}
        scores["mean_iou"] = segmentation.mean_iou(counts)
        cells = [(called[t], called[f], int(counts[t, f])) for t, f in zip(*np.nonzero(counts), strict=True)]
    table = pd.DataFrame(cells, columns=["actual", "predicted", "pixels"])
    files.write_json(REPORT / "scores.json", scores)
    files.write_table(REPORT / "confusion.csv", table.sort_values("pixels", ascending=False, kind="stable"))


def _measured(
    manifest: pd.DataFrame, labels: np.ndarray, names: dict[int, str], settings: Settings
) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels by people's (row) and the network's (column) label, both numbered as people's; 0 what people do not know."""
    merge = {name: target for name, target in settings.segment.merge.items() if {name, target} <= set(ade20k.OBJECTS)}
    merged, people = _merged(ade20k.names(), replace(settings.segment, merge=merge))
    numbers = {name: label for label, name in people.items()}
    translated = np.zeros(256, np.uint8)
    for label, name in names.items():
        translated[label] = numbers.get(name, 0)
    counts = np.zeros((256, 256), np.int64)
    for place, path in enumerate(manifest["labels"]):
        if isinstance(path, str):
            truth = resizing.resize_labels(
                merged[images.read_labels(ACQUIRED / path)], settings.prepare.size, settings.prepare.resize
            )
            counts += segmentation.confusion(truth, translated[labels[place]])
    return counts, people | {0: "none of these"}


def track(settings: Settings, tracker: Run) -> None:
    tracker.metrics(files.read_json(REPORT / "scores.json"))
    tracker.table(REPORT / "confusion.csv")
