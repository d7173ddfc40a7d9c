"""The four networks (paper, table 1): VGG11, ResNet18, Simple and Simpler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from torchvision.models import VGG, ResNet

SHALLOW = {
    "simple": ((5, 20), (7, 64), (5, 96), (7, 128)),
    "simpler": ((9, 20), (9, 64), (9, 96)),
}
NAMES = ("vgg11", "resnet18", *SHALLOW)


class Shallow(nn.Module):
    """Convolutions (kernel, channels), each with a ReLU and 2 x 2 max pooling, then fc-4096, fc-100, fc-classes.

    Takes (N, 3, size, size), gives logits (N, classes).
    """

    def __init__(self, layers: tuple[tuple[int, int], ...], *, classes: int, size: int, padding: str) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels, side = 3, size
        for kernel, filters in layers:
            margin = kernel // 2 if padding == "same" else 0
            blocks += [nn.Conv2d(channels, filters, kernel, padding=margin), nn.ReLU(), nn.MaxPool2d(2)]
            channels, last, side = filters, side + 2 * margin - kernel + 1, (side + 2 * margin - kernel + 1) // 2
        if side < 1 or last < 2:
            raise ValueError(
                f"images of {size} x {size} px leave nothing to convolve; a larger prepare.size or train.padding: same is needed"
            )
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, 4096), nn.ReLU(), nn.Linear(4096, 100), nn.ReLU(), nn.Linear(100, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))


def build(name: str, *, classes: int, size: int, padding: str = "none", seed: int = 0) -> nn.Module:
    """A network with random weights, the same for the same seed; torch's own generator stays as it was.

    Args:
        name: one of `NAMES`.
        classes: number of cities, 2 or more.
        size: side of the square input, in pixels.
        padding: "none" or "same", of the two shallow networks; table 1 states none.

    Raises:
        ValueError: unknown name, or the input is too small for the network.
    """
    if name not in NAMES:
        raise ValueError(f"unknown network {name!r}; allowed: {', '.join(NAMES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SHALLOW:
            return Shallow(SHALLOW[name], classes=classes, size=size, padding=padding)
        from torchvision import models

        return models.vgg11(num_classes=classes) if name == "vgg11" else models.resnet18(num_classes=classes)


def target_layer(network: nn.Module, name: str) -> nn.Module:
    """The module whose output Grad-CAM weighs: the last convolution after its ReLU."""
    if name == "vgg11":
        return cast("VGG", network).features[19]
    if name == "resnet18":
        return cast("ResNet", network).layer4[-1]
    return cast(Shallow, network).features[-2]


def split(network: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """The network cut after its target layer: images -> activations, activations -> logits. The parts share the weights."""
    if name == "resnet18":
        resnet = cast("ResNet", network)
        stem = (resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        body = nn.Sequential(*stem, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        return body, nn.Sequential(resnet.avgpool, nn.Flatten(), resnet.fc)
    features = cast(Shallow, network).features
    pool = [cast("VGG", network).avgpool] if name == "vgg11" else []
    return features[:-1], nn.Sequential(features[-1], *pool, nn.Flatten(), cast(nn.Module, network.classifier))


def with_own_head(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Given weights, but the network's own random last layer where the given one has another number of classes."""
    own = network.state_dict()
    last = list(own)[-2:]
    kept = [name for name in last if name in weights and weights[name].shape[1:] == own[name].shape[1:]]
    return dict(weights) | {name: own[name] for name in kept if weights[name].shape != own[name].shape}


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_input(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """(N, H, W, 3) uint8 RGB to the networks' input: (N, 3, H, W) float32, (pixel / 255 - mean) / std a channel."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return ((scaled - scaled.new_tensor(mean).view(shape)) / scaled.new_tensor(std).view(shape)).contiguous()
