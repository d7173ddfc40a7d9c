"""Networks of ADE20K's authors (Zhou et al., "Semantic Understanding of Scenes Through the ADE20K Dataset", 2018).

The layers have the names that they have in the released weights, without the layers that are used in training alone (deepsup).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import mobilenet_v2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import Conv2dNormActivation

from citylens.nets.label_maps import OBJECTS
from citylens.segment.parser import upsampled

POOLED = (1, 2, 3, 6)  # cells per side of each level of the pyramid


class DilatedResNet(ResNet):
    """ResNet (He et al., 2016) with a stem of three convolutions; its last two layers are dilated, not strided."""

    def __init__(self, block: type[BasicBlock | Bottleneck], counts: list[int]) -> None:
        super().__init__(block, counts)
        del self.fc
        self.channels = 512 * block.expansion
        for number, (inner, outer, stride) in enumerate(((3, 64, 2), (64, 64, 1), (64, 128, 1)), start=1):
            setattr(self, f"conv{number}", nn.Conv2d(inner, outer, 3, stride, 1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outer))
        self.inplanes = 128  # channels after the stem
        self.layer1 = self._make_layer(block, 64, counts[0])
        _dilate(self.layer3, 2)
        _dilate(self.layer4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features or, for a decoder, the logits."""
        for number in (1, 2, 3):
            images = functional.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(images)))
        return self.layer4(self.layer3(self.layer2(self.layer1(self.maxpool(images)))))


def _dilate(layer: nn.Module, dilation: int) -> None:
    """Replace a layer's stride by dilation: half of it in the 3 x 3 convolution that had the stride, all in the others."""
    for conv in layer.modules():
        if isinstance(conv, nn.Conv2d):
            strode, conv.stride = conv.stride == (2, 2), (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation // 2, dilation // 2) if strode else (dilation, dilation)


class DilatedMobileNet(nn.Module):
    """MobileNetV2 (Sandler et al., 2018) without its last convolution, dilated to a stride of 8."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2().features[:-1]
        self.channels = 320
        for place, block in enumerate(self.features[1:], start=1):
            block.conv = nn.Sequential(*(part for part in block.conv.modules() if not list(part.children())))
            if place >= 7:
                _dilate(block, 2 if place < 14 else 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features or, for a decoder, the logits."""
        return self.features(images)


class PyramidPooling(nn.Module):
    """Pyramid pooling, the head of PSPNet (Zhao et al., 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ppm = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), *Conv2dNormActivation(channels, 512, 1)) for side in POOLED
        )
        pooled = Conv2dNormActivation(channels + len(POOLED) * 512, 512)
        self.conv_last = nn.Sequential(*pooled, nn.Dropout2d(0.1), nn.Conv2d(512, OBJECTS, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features or, for a decoder, the logits."""
        pooled = [upsampled(level(features), features.shape[-2:]) for level in self.ppm]
        return self.conv_last(torch.cat([features, *pooled], dim=1))


class OneConvolution(nn.Module):
    """One convolution and a classifier."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cbr = Conv2dNormActivation(channels, channels // 4)
        self.conv_last = nn.Conv2d(channels // 4, OBJECTS, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features or, for a decoder, the logits."""
        return self.conv_last(self.cbr(features))


def build(name: str) -> nn.Sequential:
    """Return a parser's encoder and decoder, in evaluation mode and with random weights.

    Together they turn (N, 3, h, w) images into (N, 150, h / 8, w / 8) logits. The name is of the authors' release, ENCODER-DECODER.

    Raises:
        KeyError: unknown encoder or decoder.
    """
    body, head = name.split("-")
    encoder = ENCODERS[body]()
    return nn.Sequential(encoder, DECODERS[head](encoder.channels)).eval()


ENCODERS: dict[str, Callable[[], DilatedResNet | DilatedMobileNet]] = {
    "resnet50dilated": partial(DilatedResNet, Bottleneck, [3, 4, 6, 3]),
    "resnet18dilated": partial(DilatedResNet, BasicBlock, [2, 2, 2, 2]),
    "mobilenetv2dilated": DilatedMobileNet,
}
DECODERS = {"ppm_deepsup": PyramidPooling, "c1_deepsup": OneConvolution}
