"""ONNX scene parsers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from citylens.settings import InputError, Onnx, label

if TYPE_CHECKING:
    import onnxruntime


class OnnxSegmenter:
    """A network file and how it wants its images; one image at a time, of any size."""

    def __init__(self, settings: Onnx, folder: Path) -> None:
        """Opens the network.

        Raises:
            InputError: no such file, no ONNX network, or one whose input does not fit the settings.
        """
        import onnxruntime

        model = folder / settings.model
        if not model.is_file():
            raise InputError(f"segment.onnx.model: {model}: no such file")
        try:
            self._session = onnxruntime.InferenceSession(
                model, providers=_providers(onnxruntime.get_available_providers())
            )
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise InputError(f"segment.onnx.model: {model}: not an ONNX network: {error}") from None
        self._settings = settings
        self._input = _checked_input(self._session, settings)

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB to (h, w, classes) logits at the network's own output size."""
        import cv2

        settings = self._settings
        square = cv2.resize(image, (settings.size, settings.size), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        if settings.channels == "BGR":
            square = square[..., ::-1]
        values = (square / settings.scale - np.asarray(settings.mean, np.float32)) / np.asarray(
            settings.std, np.float32
        )
        batch = values[None] if settings.layout == "NHWC" else values.transpose(2, 0, 1)[None]
        try:
            output = np.asarray(self._session.run(None, {self._input: np.ascontiguousarray(batch, np.float32)})[0])
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise InputError(f"segment.onnx.model: {settings.model} fails on float32 {batch.shape}: {error}") from None
        if output.ndim != 4:
            raise InputError(
                f"segment.onnx.model: its output has shape {output.shape}; allowed: (1, h, w, classes) or (1, classes, h, w)"
            )
        return output[0] if settings.layout == "NHWC" else output[0].transpose(1, 2, 0)


def read_objects(path: Path | str) -> dict[int, str]:
    """The names of a label list: a CSV with the columns index (1 to 150) and name.

    Raises:
        InputError: no such file, a column is missing, or an index is doubled, no number, or outside 1..150.
    """
    from citylens.adapters.files import read_table

    table = read_table(path, ["index", "name"])
    try:
        names = dict(zip(map(int, table["index"]), map(str, table["name"]), strict=True))
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{path}: column index: {error}; allowed: whole numbers from 1 to 150") from None
    wrong = [index for index in names if not 1 <= index <= 150]
    if wrong or len(names) < len(table):
        raise InputError(
            f"{path}: index {wrong[0] if wrong else 'stands in several rows'}; allowed: 1 to 150, each once"
        )
    return {index: label(name, str(path)) for index, name in names.items()}


def _providers(available: list[str]) -> list[str]:
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]


def _checked_input(session: onnxruntime.InferenceSession, settings: Onnx) -> str:
    wanted = [1, settings.size, settings.size, 3] if settings.layout == "NHWC" else [1, 3, settings.size, settings.size]
    inputs = session.get_inputs()
    shape = list(inputs[0].shape or ()) if len(inputs) == 1 else []
    fits = len(shape) == 4 and all(
        not isinstance(side, int) or side == want for side, want in zip(shape, wanted, strict=True)
    )
    if not fits:
        raise InputError(
            f"segment.onnx: {settings.model} takes {[put.shape for put in inputs]}; "
            f"layout {settings.layout} and size {settings.size} give {wanted}"
        )
    return str(inputs[0].name)
