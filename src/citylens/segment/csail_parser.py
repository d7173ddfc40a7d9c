"""The scene parsers of ADE20K's authors, with weights from .pth files and images at several scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from citylens.errors import InputError
from citylens.io import limits
from citylens.nets import checkpoints, networks
from citylens.nets.label_maps import OBJECTS
from citylens.segment import csail_networks
from citylens.segment.object_names import ADE20K
from citylens.segment.parser import Parser, upsampled
from citylens.settings.schema import Segment

STRIDE = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, of pixel / 255
OLD_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
# The authors' batch normalisation stored these beside its statistics; they are used in training alone.
BOOKKEEPING = ("num_batches_tracked", "_tmp_running_mean", "_tmp_running_var", "_running_iter")
SPARE = 1 << 30  # bytes of memory; a file whose tensors take more than this plus four times its size is an archive bomb


def open_parser(plan: Segment) -> Parser:
    """Open the encoder and the decoder that `segment.csail` names.

    Raises:
        InputError: a file is damaged, or its weights do not fit the network.
    """
    chosen, device = plan.csail, networks.device()
    parser = csail_networks.build(chosen.parser)
    for network, name in zip(parser, (chosen.encoder, chosen.decoder), strict=True):
        path = Path(plan.path) / name
        where = f"{path} (segment.csail.parser: {chosen.parser})"
        checkpoints.load_weights(network, fitting(read_pth(path), network), where)
    parser.to(device)

    def parse(images: list[NDArray[np.uint8]]) -> torch.Tensor:
        height, width = images[0].shape[:2]
        sizes = [scaled_size(height, width, short, chosen.longest) for short in chosen.scales]
        scales = [torch.cat([prepared(image, size, chosen.preprocessing) for image in images]) for size in sizes]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return probabilities(parser, [scale.to(device) for scale in scales], (height, width)).float()

    return Parser(np.arange(1, OBJECTS + 1, dtype=np.uint8), ADE20K, parse)


def read_pth(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a .pth file (`torch.save` of a state_dict) by name. No code in the file runs.

    Raises:
        InputError: the file holds something other than tensors, such as code.
    """
    with limits.memory(path, SPARE + 4 * path.stat().st_size):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # A damaged file can raise any exception.
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: refused: {first}; allowed: a state_dict of tensors and nothing else") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"{path}: no state_dict; allowed: a mapping of names to tensors")
    return {str(name): value for name, value in found.items()}


def fitting(tensors: Mapping[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors without those that are used in training alone, and with the network's own counts of batches."""
    counts = {name: value for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    used = [name for name in tensors if "deepsup" not in name and not name.endswith(BOOKKEEPING)]
    return counts | {name: tensors[name] for name in used}


def scaled_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Return the height and width to which the authors resize an image.

    The short side becomes `short`, or less if the long side would exceed `longest`; both are rounded up to multiples of 8.
    """
    scale = min(short / min(height, width), longest / max(height, width))
    sides = (int(height * scale), int(width * scale))
    return (-(-sides[0] // STRIDE) * STRIDE, -(-sides[1] // STRIDE) * STRIDE)


def prepared(image: NDArray[np.uint8], size: tuple[int, int], preprocessing: str) -> torch.Tensor:
    """Return an (H, W, 3) uint8 RGB image as the network's (1, 3, *size) float32 input, resized bilinearly by Pillow.

    The preprocessing is "rgb" for weights since August 2019: pixel / 255, normalised by ImageNet's mean and standard deviation.
    It is "bgr" for older weights: a mean is subtracted from BGR pixels.
    """
    resized = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    if preprocessing == "bgr":
        values = resized[..., ::-1] - np.asarray(OLD_MEAN, np.float32)
    else:
        values = (resized / np.float32(255) - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))[None]


def probabilities(parser: nn.Module, scales: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Return the class probabilities of images, averaged over several scales: (N, classes, *size) in [0, 1].

    Args:
        parser: network from images to logits, which are upsampled bilinearly to `size` before the softmax.
        scales: the same N images at several sizes, each (N, 3, h, w) and normalised.
        size: height and width of the result.
    """
    with torch.inference_mode():
        parts = (torch.softmax(upsampled(parser(images), size), dim=1) for images in scales)
        return sum(parts, start=torch.zeros(())) / len(scales)
