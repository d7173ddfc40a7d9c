"""The scene parsers of ADE20K's authors (Zhou et al., "Semantic Understanding of Scenes Through the ADE20K Dataset", 2018).

Module names are those of their released weights (`encoder_epoch_20.pth`, `decoder_epoch_20.pth`), which torchvision's networks do
not fit: another stem, dilated to a stride of 8, and a mobilenetv2 with other names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck

PARSERS = ("resnet50dilated-ppm_deepsup", "resnet18dilated-ppm_deepsup", "mobilenetv2dilated-c1_deepsup")
RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    "resnet50dilated": (Bottleneck, (3, 4, 6, 3)),
    "resnet18dilated": (BasicBlock, (2, 2, 2, 2)),
}
POOLED = (1, 2, 3, 6)
STRIDE = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, of pixel / 255
OLD_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
# What the authors' synchronised batch normalisation stored beside the statistics; of no use after training.
BOOKKEEPING = ("num_batches_tracked", "_tmp_running_mean", "_tmp_running_var", "_running_iter")


class DilatedResNet(nn.Module):
    """ResNet with a stem of three convolutions whose last two layers dilate instead of striding."""

    def __init__(self, block: type[BasicBlock | Bottleneck], counts: Sequence[int]) -> None:
        super().__init__()
        for number, (inner, outer, stride) in enumerate(((3, 64, 2), (64, 64, 1), (64, 128, 1)), start=1):
            setattr(self, f"conv{number}", nn.Conv2d(inner, outer, 3, stride, 1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outer))
        self.layer1 = _layer(block, 128, 64, counts[0], 1)
        self.layer2 = _layer(block, 64 * block.expansion, 128, counts[1], 2)
        self.layer3 = _dilate(_layer(block, 128 * block.expansion, 256, counts[2], 2), 2)
        self.layer4 = _dilate(_layer(block, 256 * block.expansion, 512, counts[3], 2), 4)
        self.channels = 512 * block.expansion

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for number in (1, 2, 3):
            images = functional.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(images)))
        images = functional.max_pool2d(images, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(images))))


def _layer(block: type[BasicBlock | Bottleneck], inner: int, planes: int, count: int, stride: int) -> nn.Sequential:
    outer, shortcut = planes * block.expansion, None
    if stride > 1 or inner != outer:
        shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
    return nn.Sequential(block(inner, planes, stride, shortcut), *(block(outer, planes) for _ in range(count - 1)))


def _dilate(layer: nn.Module, dilation: int) -> nn.Module:
    """The layer without strides, its 3 x 3 convolutions dilated; the one that strode, by half as much."""
    for conv in layer.modules():
        if isinstance(conv, nn.Conv2d):
            strode, conv.stride = conv.stride == (2, 2), (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation // 2, dilation // 2) if strode else (dilation, dilation)
    return layer


class DilatedMobileNet(nn.Module):
    """MobileNetV2 (Sandler et al., 2018) without its last convolution, dilated to a stride of 8."""

    BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [_normalised(3, 32, 3, stride=2)]
        inner = 32
        for expansion, outer, count, stride in self.BLOCKS:
            for place in range(count):
                features.append(InvertedResidual(inner, outer, stride if place == 0 else 1, expansion))
                inner = outer
        self.features = nn.Sequential(*features)
        for place in range(7, len(features)):
            _dilate(self.features[place], 2 if place < 14 else 4)
        self.channels = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; added to the input where the shapes allow it."""

    def __init__(self, inner: int, outer: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        parts = [*_normalised(inner, wide, 1)] if expansion > 1 else []
        parts += [*_normalised(wide, wide, 3, stride=stride, groups=wide), *_normalised(wide, outer, 1)[:2]]
        self.conv, self.added = nn.Sequential(*parts), stride == 1 and inner == outer

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.conv(features) if self.added else self.conv(features)


def _normalised(inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU6())


def _rectified(inner: int, outer: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(inner, outer, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]


class PyramidPooling(nn.Module):
    """PSPNet's head (Zhao et al., 2017); the deeply supervised branch holds weights, and serves training only."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.ppm = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *_rectified(channels, 512, 1)) for side in POOLED
        )
        self.cbr_deepsup = nn.Sequential(*_rectified(channels // 2, channels // 4, 3))
        pooled = _rectified(channels + len(POOLED) * 512, 512, 3)
        self.conv_last = nn.Sequential(*pooled, nn.Dropout2d(0.1), nn.Conv2d(512, classes, 1))
        self.conv_last_deepsup = nn.Conv2d(channels // 4, classes, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        pooled = [_resized(level(features), features.shape[-2:]) for level in self.ppm]
        return self.conv_last(torch.cat([features, *pooled], dim=1))


class OneConvolution(nn.Module):
    """A convolution and a classifier; the deeply supervised branch holds weights, and serves training only."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.cbr = nn.Sequential(*_rectified(channels, channels // 4, 3))
        self.cbr_deepsup = nn.Sequential(*_rectified(channels // 2, channels // 4, 3))
        self.conv_last = nn.Conv2d(channels // 4, classes, 1)
        self.conv_last_deepsup = nn.Conv2d(channels // 4, classes, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv_last(self.cbr(features))


def build(name: str, classes: int = 150) -> tuple[nn.Module, nn.Module]:
    """A parser's encoder and decoder, in evaluation mode and without weights of use.

    Args:
        name: one of `PARSERS`.

    Raises:
        ValueError: unknown name.
    """
    if name not in PARSERS:
        raise ValueError(f"unknown parser {name!r}; allowed: {', '.join(PARSERS)}")
    body, head = name.split("-")
    encoder = DilatedMobileNet() if body == "mobilenetv2dilated" else DilatedResNet(*RESNETS[body])
    decoder = PyramidPooling if head == "ppm_deepsup" else OneConvolution
    return encoder.eval(), decoder(encoder.channels, classes).eval()


def misfits(network: nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """What keeps weights from fitting, a line a name; bookkeeping of the normalisation aside.

    Fitting weights go in by `network.load_state_dict(weights, strict=False)`.
    """
    wanted = {name: value.shape for name, value in network.state_dict().items() if not name.endswith(BOOKKEEPING)}
    given = {name: value.shape for name, value in weights.items() if not name.endswith(BOOKKEEPING)}
    wrong = [f"{name} is missing" for name in wanted if name not in given]
    wrong += [f"{name} is unknown" for name in given if name not in wanted]
    both = [name for name in wanted if name in given and wanted[name] != given[name]]
    return wrong + [f"{name} is {tuple(given[name])}, not {tuple(wanted[name])}" for name in both]


def scaled_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Height and width at which the authors look at an image: its short side `short`, its long one at most `longest`, both
    rounded up to multiples of 8."""
    scale = min(short / min(height, width), longest / max(height, width))
    sides = (int(height * scale), int(width * scale))
    return (-(-sides[0] // STRIDE) * STRIDE, -(-sides[1] // STRIDE) * STRIDE)


def probabilities(
    parser: tuple[nn.Module, nn.Module], scales: Sequence[torch.Tensor], size: tuple[int, int]
) -> torch.Tensor:
    """Class probabilities, mean over the scales: logits upsampled bilinearly to `size`, then softmax.

    Args:
        parser: encoder and decoder.
        scales: the same images at several sizes, each (N, 3, h, w) and normalised.
        size: height and width of the result.

    Returns:
        (N, classes, *size), summing to 1 over the classes.
    """
    encoder, decoder = parser
    with torch.inference_mode():
        parts = (torch.softmax(_resized(decoder(encoder(images)), size), dim=1) for images in scales)
        return sum(parts, start=torch.zeros(())) / len(scales)


def _resized(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def prepared(image: NDArray[np.uint8], size: tuple[int, int], generation: str) -> torch.Tensor:
    """(H, W, 3) uint8 RGB to (1, 3, *size) float32 as the weights expect it, resized bilinearly by Pillow as the authors do.

    Args:
        size: height and width, as `scaled_size` gives them.
        generation: "rgb" for weights since August 2019 (pixel / 255, ImageNet's mean and deviation); "bgr" for those before
            (BGR, pixel less 102.9801, 115.9465, 122.7717).

    Raises:
        ValueError: unknown generation.
    """
    resized = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    if generation == "rgb":
        values = (resized / np.float32(255) - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
    elif generation == "bgr":
        values = resized[..., ::-1] - np.asarray(OLD_MEAN, np.float32)
    else:
        raise ValueError(f"unknown preprocessing {generation!r}; allowed: rgb, bgr")
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32))[None]
