"""Scene parsers in the ONNX format, run by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from citylens.errors import InputError
from citylens.io.files import read_table
from citylens.io.texts import label
from citylens.nets.label_maps import OBJECTS
from citylens.segment.object_names import ADE20K, short_names
from citylens.segment.parser import Parser, unchanged
from citylens.settings.schema import Onnx, Segment

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}
"""The types of numbers that a network may take, by their names in ONNX."""


def open_parser(plan: Segment) -> Parser:
    """Open the network and the label list that `segment.onnx` names.

    The network gives each pixel's scores of all classes, or its likeliest class alone, which then has the probability 1. The
    scores have the size of the network's output.

    Raises:
        InputError: a file is damaged, or the network does not fit the settings or the label list.
    """
    settings, folder = plan.onnx, Path(plan.path)
    session = _session(folder / settings.model, settings)
    names = short_names(read_objects(folder / settings.objects))
    blank = next(_outputs(session, settings, [np.zeros((*settings.sides, 3), np.uint8)]))
    own, other = (3, 1) if settings.layout == "NHWC" else (1, 3)
    if blank.ndim == 3 or blank.shape[own] == 1 or (blank.shape[other] == 1 and blank.dtype.kind in "iu"):
        if plan.probabilities != "none":
            said = f"{settings.model} gives the likeliest class only"
            raise InputError(f"segment.probabilities: {plan.probabilities}: {said}; allowed: none")
        _check_cells(blank, None if blank.ndim == 3 else 1 if blank.shape[1] == 1 else 3, settings)
        labels = np.array([0, *sorted(names)], np.uint8)
        scores, probabilities = partial(_certain, settings=settings, labels=labels), unchanged
    else:
        # Some converters transpose the input only.
        fits = {axis: _fits(blank.shape[axis], settings, names) for axis in (own, other)}
        axis = other if fits[other] and not fits[own] else own
        labels = _labels(blank.shape[axis], settings, folder, names)
        _check_cells(blank, axis, settings)
        scores, probabilities = partial(_classes_first, axis=axis), _softmax

    def parse(images: list[NDArray[np.uint8]]) -> Iterator[torch.Tensor]:
        for output in _outputs(session, settings, images):
            yield from scores(output)

    return Parser(labels, names, parse, probabilities)


def read_objects(path: Path) -> dict[int, str]:
    """Return the names of a label list, a CSV with the columns index (1 to 150) and name.

    The list of ADE20K's authors has the columns Idx and Name instead, and semicolons also between the words of one name.

    Raises:
        InputError: a column is missing, or an index is doubled, no number, or outside 1..150.
    """
    authors = {"Idx", "Name"} <= {*read_table(path).columns}
    columns = ["Idx", "Name"] if authors else ["index", "name"]
    numbers, words = (read_table(path, columns)[column] for column in columns)
    try:
        names = dict(zip(map(_whole, numbers), map(str, words), strict=True))
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: column index: {error}; allowed: whole numbers from 1 to 150") from None
    wrong = [index for index in names if not 1 <= index <= OBJECTS]
    if wrong or len(names) < len(numbers):
        raise InputError(
            f"{path}: index {wrong[0] if wrong else 'stands in several rows'}; allowed: 1 to 150, each once"
        )
    for index, synonyms in names.items():
        if authors and {*ADE20K[index].split()} <= {*synonyms.replace(";", " ").split()}:
            names[index] = f"{ADE20K[index]};{synonyms}"  # "pool table", not "pool" of "pool;table;billiard;table"
    return {index: label(name, str(path)) for index, name in names.items()}


def _whole(number: Any) -> int:
    if int(number) != float(number):
        raise ValueError(f"{number} is no whole number")
    return int(number)


def _session(model: Path, settings: Onnx) -> onnxruntime.InferenceSession:
    """Open a network whose one input has the shape and the type that the settings give, and which has the output that they name."""
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # Shards run side by side, and sums do not depend on the number of cores.
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # The exceptions of onnxruntime have no common base class.
        raise InputError(f"segment.onnx.model: {model}: not an ONNX network: {error}") from None
    wanted = [1, *settings.sides, 3] if settings.layout == "NHWC" else [1, 3, *settings.sides]
    inputs = session.get_inputs()
    shape = list(inputs[0].shape or ()) if len(inputs) == 1 else []
    if len(shape) != 4 or any(
        isinstance(side, int) and side != want for side, want in zip(shape[1:], wanted[1:], strict=True)
    ):
        raise InputError(
            f"segment.onnx: {settings.model} takes {[put.shape for put in inputs]}; "
            f"layout {settings.layout} and size {settings.size} give {wanted}"
        )
    kind = inputs[0].type.removeprefix("tensor(").removesuffix(")")
    if kind not in TYPES:
        raise InputError(f"segment.onnx: {settings.model} takes {kind}; allowed: {', '.join(TYPES)}")
    if kind == "uint8" and (settings.scale, *settings.mean, *settings.std) != (1, 0, 0, 0, 1, 1, 1):
        raise InputError(
            f"segment.onnx: {settings.model} takes the pixels themselves (uint8); "
            "allowed: scale 1, mean [0, 0, 0] and std [1, 1, 1]"
        )
    outputs = [put.name for put in session.get_outputs()]
    if (settings.output is None and len(outputs) > 1) or settings.output not in (None, *outputs):
        said = f"{settings.model} has the outputs {', '.join(outputs)}"
        raise InputError(f"segment.onnx.output: {settings.output}: {said}; allowed: the name of one of them")
    return session


def _fits(classes: int, settings: Onnx, names: Mapping[int, str]) -> bool:
    return {*range(settings.offset, settings.offset + classes)} - {0} == {*names}


def _labels(classes: int, settings: Onnx, folder: Path, names: dict[int, str]) -> NDArray[np.uint8]:
    """Return the (classes,) labels of the network's classes, which have to be those of the label list."""
    first, last = settings.offset, settings.offset + classes - 1
    if last > OBJECTS:
        raise InputError(
            f"segment.onnx: {settings.model}: {classes} classes with offset {first} give labels {first} to {last}; "
            f"allowed: 0 to {OBJECTS}"
        )
    if not _fits(classes, settings, names):
        raise InputError(
            f"segment.onnx.objects: {folder / settings.objects} names {len(names)} objects, "
            f"{min(names, default=0)} to {max(names, default=0)}; "
            f"{settings.model} has {classes} classes, with offset {first} {first} to {last} (0: none)"
        )
    return np.arange(first, last + 1, dtype=np.uint8)


def _outputs(
    session: onnxruntime.InferenceSession, settings: Onnx, images: list[NDArray[np.uint8]]
) -> Iterator[NDArray[Any]]:
    """Yield the network's output for N images, each (H, W, 3) uint8 RGB: (N, h, w), (N, h, w, classes) or (N, classes, h, w).

    N is the number that the network takes at once, 1 where it takes any: the scores of one image have 100 MB or more.
    """
    put, names = session.get_inputs()[0], [settings.output] if settings.output else None
    kind = TYPES[put.type.removeprefix("tensor(").removesuffix(")")]
    at_once = put.shape[0] if isinstance(put.shape[0], int) else 1
    for start in range(0, len(images), at_once):
        own = [_prepared(image, settings) for image in images[start : start + at_once]]
        batch = np.stack(own + own[:1] * (at_once - len(own)))  # A network may take a fixed number of images.
        batch = batch if settings.layout == "NHWC" else batch.transpose(0, 3, 1, 2)
        try:
            output = np.asarray(session.run(names, {put.name: np.ascontiguousarray(batch, kind)})[0])
        except Exception as error:  # The exceptions of onnxruntime have no common base class.
            said = f"{settings.model} fails on {np.dtype(kind)} {batch.shape}"
            raise InputError(f"segment.onnx.model: {said}: {error}") from None
        if output.ndim not in (3, 4) or len(output) != at_once:
            raise InputError(
                f"segment.onnx.model: its output has shape {output.shape}; "
                f"allowed, for N = {at_once}: (N, h, w), (N, h, w, classes) or (N, classes, h, w)"
            )
        yield output[: len(own)]


def _check_cells(blank: NDArray[Any], axis: int | None, settings: Onnx) -> None:
    """Check that the network's output has cells of the image, in the image's direction.

    Args:
        blank: its output for one image.
        axis: of the classes, None where there is none.

    Raises:
        InputError: one number per class stands for the whole image, or height and width are exchanged.
    """
    cells = [side for place, side in enumerate(blank.shape) if place not in (0, axis)]
    (height, width), (high, wide) = settings.sides, cells
    if high == wide == 1:
        raise InputError(
            f"segment.onnx.model: {settings.model} gives one class for a whole image of {height} x {width}; "
            "allowed: classes of pixels, or of cells of the image"
        )
    if abs(math.log(wide / height * width / high)) < abs(math.log(high / height * width / wide)) - 0.1:
        raise InputError(
            f"segment.onnx.model: {settings.model} gives {high} x {wide} cells for an image of {height} x {width}; "
            "allowed: height before width in both"
        )


def _prepared(image: NDArray[np.uint8], settings: Onnx) -> NDArray[np.float32]:
    """Return an (H, W, 3) uint8 RGB image as (*size, 3) float32, normalised as the settings say."""
    resized = cv2.resize(image, settings.sides[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)
    if settings.channels == "BGR":
        resized = resized[..., ::-1]
    mean, std = np.asarray(settings.mean, np.float32), np.asarray(settings.std, np.float32)
    return np.asarray((resized / settings.scale - mean) / std, np.float32)


def _classes_first(output: NDArray[Any], axis: int) -> torch.Tensor:
    """Return (N, classes, h, w) float32 scores of a network's output, whose classes lie along an axis."""
    return torch.from_numpy(np.moveaxis(output, axis, 1).astype(np.float32, copy=False))


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return (classes, h, w) probabilities of the scores of all classes.

    Scores that are probabilities already, of a network that ends with a softmax, stay as they are: a second one would level them.
    """
    made = bool((scores >= 0).all()) and bool(((scores.sum(dim=0) - 1).abs() < 1e-2).all())  # float16 has three digits
    return scores if made else torch.softmax(scores, 0)


def _certain(output: NDArray[Any], settings: Onnx, labels: NDArray[np.uint8]) -> torch.Tensor:
    """Return (N, labels, h, w) probabilities, 1 for the label of each pixel's likeliest class and 0 for all others.

    Args:
        output: (N, h, w) classes, with or without an axis of length 1 for them.
        labels: the labels that have a name, and 0, sorted.

    Raises:
        InputError: a class is no whole number, or has no name in the label list.
    """
    classes = output if output.ndim == 3 else output[:, 0] if output.shape[1] == 1 else output[..., 0]
    if not ((classes == np.rint(classes)) & (np.abs(classes) < 1 << 15)).all():
        raise InputError(
            f"segment.onnx.model: {settings.model} gives one number per pixel, and not only whole ones; "
            "allowed: the number of the likeliest class, or the scores of two or more classes"
        )
    found = classes.astype(np.int64) + settings.offset
    unknown = np.setdiff1d(found, labels)
    if len(unknown):
        raise InputError(
            f"segment.onnx: {settings.model} gives the class {unknown[0] - settings.offset}, with offset {settings.offset} "
            f"the label {unknown[0]}, which {settings.objects} does not name"
        )
    places = torch.from_numpy(np.searchsorted(labels, found))
    return torch.zeros(len(found), len(labels), *found.shape[1:]).scatter_(1, places[:, None], 1)
