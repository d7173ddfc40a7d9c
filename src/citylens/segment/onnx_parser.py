"""Scene parsers in the ONNX format, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.nn import functional

from citylens.errors import InputError
from citylens.io.files import read_table
from citylens.io.texts import label
from citylens.nets.label_maps import OBJECTS
from citylens.segment.object_names import short_names
from citylens.segment.parser import Parser
from citylens.settings.schema import Onnx, Segment

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def open_parser(plan: Segment) -> Parser:
    """Open the network and the label list that `segment.onnx` names.

    The network takes one image at a time; its probabilities are resized to the image's size by nearest neighbour.

    Raises:
        InputError: a file is damaged, or the network does not fit the settings or the label list.
    """
    settings, folder = plan.onnx, Path(plan.path)
    session = _session(folder / settings.model, settings)
    names = short_names(read_objects(folder / settings.objects))
    blank = np.zeros((settings.size, settings.size, 3), np.uint8)
    labels = _labels(_logits(session, settings, blank).shape[-1], settings, folder, names)

    def parse(images: list[NDArray[np.uint8]]) -> torch.Tensor:
        logits = np.stack([_logits(session, settings, image) for image in images])
        probabilities = torch.softmax(torch.from_numpy(logits).permute(0, 3, 1, 2), 1)
        return functional.interpolate(probabilities, images[0].shape[:2], mode="nearest-exact")

    return Parser(labels, names, parse)


def read_objects(path: Path) -> dict[int, str]:
    """Return the names of a label list, a CSV with the columns index (1 to 150) and name.

    Raises:
        InputError: a column is missing, or an index is doubled, no number, or outside 1..150.
    """
    table = read_table(path, ["index", "name"])
    try:
        names = dict(zip(map(int, table["index"]), map(str, table["name"]), strict=True))
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: column index: {error}; allowed: whole numbers from 1 to 150") from None
    wrong = [index for index in names if not 1 <= index <= OBJECTS]
    if wrong or len(names) < len(table):
        raise InputError(
            f"{path}: index {wrong[0] if wrong else 'stands in several rows'}; allowed: 1 to 150, each once"
        )
    return {index: label(name, str(path)) for index, name in names.items()}


def _session(model: Path, settings: Onnx) -> onnxruntime.InferenceSession:
    """Open a network whose one input has the shape that the settings give."""
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(model, providers=providers)
    except Exception as error:  # The exceptions of onnxruntime have no common base class.
        raise InputError(f"segment.onnx.model: {model}: not an ONNX network: {error}") from None
    wanted = [1, settings.size, settings.size, 3] if settings.layout == "NHWC" else [1, 3, settings.size, settings.size]
    inputs = session.get_inputs()
    shape = list(inputs[0].shape or ()) if len(inputs) == 1 else []
    if len(shape) != 4 or any(isinstance(side, int) and side != want for side, want in zip(shape, wanted, strict=True)):
        raise InputError(
            f"segment.onnx: {settings.model} takes {[put.shape for put in inputs]}; "
            f"layout {settings.layout} and size {settings.size} give {wanted}"
        )
    return session


def _labels(classes: int, settings: Onnx, folder: Path, names: dict[int, str]) -> NDArray[np.uint8]:
    """Return the (classes,) labels of the network's classes, which have to be those of the label list."""
    first, last = settings.offset, settings.offset + classes - 1
    if last > OBJECTS:
        raise InputError(
            f"segment.onnx: {settings.model}: {classes} classes with offset {first} give labels {first} to {last}; "
            f"allowed: 0 to {OBJECTS}"
        )
    if {*range(first, last + 1)} - {0} != {*names}:
        raise InputError(
            f"segment.onnx.objects: {folder / settings.objects} names {len(names)} objects, "
            f"{min(names, default=0)} to {max(names, default=0)}; "
            f"{settings.model} has {classes} classes, with offset {first} {first} to {last} (0: none)"
        )
    return np.arange(first, last + 1, dtype=np.uint8)


def _logits(session: onnxruntime.InferenceSession, settings: Onnx, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the (h, w, classes) logits of an (H, W, 3) uint8 RGB image, at the network's own output size."""
    square = cv2.resize(image, (settings.size, settings.size), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    if settings.channels == "BGR":
        square = square[..., ::-1]
    values = (square / settings.scale - np.asarray(settings.mean, np.float32)) / np.asarray(settings.std, np.float32)
    batch = values[None] if settings.layout == "NHWC" else values.transpose(2, 0, 1)[None]
    put = session.get_inputs()[0].name
    try:
        output = np.asarray(session.run(None, {put: np.ascontiguousarray(batch, np.float32)})[0])
    except Exception as error:  # The exceptions of onnxruntime have no common base class.
        raise InputError(f"segment.onnx.model: {settings.model} fails on float32 {batch.shape}: {error}") from None
    if output.ndim != 4:
        raise InputError(
            f"segment.onnx.model: its output has shape {output.shape}; allowed: (1, h, w, classes) or (1, classes, h, w)"
        )
    return output[0] if settings.layout == "NHWC" else output[0].transpose(1, 2, 0)
