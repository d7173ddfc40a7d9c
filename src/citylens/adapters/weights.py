"""Weights and checkpoints of scene parsers that others trained. Nothing that a file could make run is ever run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from citylens.adapters import limits
from citylens.settings import InputError, label

if TYPE_CHECKING:
    import torch


SPARE = 1 << 30  # bytes; beyond, tensors that take more than four times their file are a packed bomb


def read_pth(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pth file (torch.save of a state_dict), by name.

    Raises:
        InputError: no such file, or something other than tensors in it, such as code.
    """
    import torch

    if not path.is_file():
        raise InputError(
            f"{path}: no such file; `citylens fetch csail` downloads the authors', or says where to put them"
        )
    with limits.memory(path, SPARE + 4 * path.stat().st_size):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises whatever its bytes happen to trip
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: refused: {first}; allowed: a state_dict of tensors and nothing else") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{path}: no state_dict; allowed: a mapping of names to tensors")
    return {str(name): value for name, value in found.items()}


Parse = Callable[[list[NDArray[np.uint8]]], "torch.Tensor"]


def open_transformers(checkpoint: str, device: torch.device) -> tuple[Parse, dict[int, str]]:
    """A semantic segmentation checkpoint of the transformers library (SegFormer, UperNet, Mask2Former, OneFormer, ...).

    Args:
        checkpoint: a folder, or a name on the hub; safetensors only.

    Returns:
        A function from images of one size to (N, classes, H, W) probabilities, and the classes' names.

    Raises:
        InputError: the library is not installed, or it cannot open the checkpoint.
    """
    try:
        import transformers
    except ImportError:
        raise InputError(
            "segment.segmenter: transformers: the library is not installed; `pip install 'citylens[transformers]'`"
        ) from None
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        kind = (
            transformers.AutoModelForUniversalSegmentation
            if config.model_type in ("mask2former", "oneformer", "maskformer")
            else transformers.AutoModelForSemanticSegmentation
        )
        processor = transformers.AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
        model = kind.from_pretrained(checkpoint, trust_remote_code=False, use_safetensors=True).eval().to(device)
        names = {int(number): str(name) for number, name in model.config.id2label.items()}
    except Exception as error:  # a checkpoint that does not fit the library raises whatever it happens to trip
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"segment.transformers.checkpoint: {checkpoint}: {first}") from None
    names = {number: label(name, f"segment.transformers.checkpoint: {checkpoint}") for number, name in names.items()}
    asks = config.model_type == "oneformer"

    def parse(images: list[NDArray[np.uint8]]) -> torch.Tensor:
        import torch

        task = {"task_inputs": ["semantic"] * len(images)} if asks else {}
        inputs = processor(images=images, return_tensors="pt", **task).to(device)
        size = images[0].shape[:2]
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = model(**inputs)
        if hasattr(outputs, "logits"):
            return torch.softmax(_upsampled(outputs.logits.float(), size), dim=1)
        # Mask2Former and OneFormer: a class and a mask a query (Cheng et al., 2022, section 3.1).
        classes = outputs.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        masks = _upsampled(outputs.masks_queries_logits.float(), size).sigmoid()
        sums = torch.einsum("nqc,nqhw->nchw", classes, masks)
        return sums / sums.sum(dim=1, keepdim=True).clamp_min(1e-12)

    return parse, names


def _upsampled(features: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    from torch.nn import functional

    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)
