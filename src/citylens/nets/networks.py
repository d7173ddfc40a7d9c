"""The networks (paper, table 1): how they are built, cut for Grad-CAM, and fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from citylens.nets.names import NETWORKS, SHALLOW


class Shallow(nn.Module):
    """Convolutions, each with a ReLU and 2 x 2 max pooling, then fc-4096, fc-100, fc-classes (paper, table 1).

    Takes (N, 3, size, size) float32, gives logits (N, classes) float32.
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
            few = f"images of {size} x {size} px leave nothing to convolve"
            raise ValueError(f"{few}; a larger prepare.size or train.padding: same is needed")
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(channels * side * side, 4096), nn.ReLU(), nn.Linear(4096, 100), nn.ReLU(), nn.Linear(100, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.classifier(torch.flatten(self.features(images), 1))


def build(name: str, *, classes: int, size: int, padding: str = "none", seed: int = 0) -> nn.Module:
    """Return a network with random weights, the same for the same seed; torch's own generator keeps its state.

    Its input has `size` x `size` pixels. Only shallow networks use `padding`, "none" or "same"; table 1 does not state it.

    Raises:
        ValueError: the name is unknown, or the input is too small for the network.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; allowed: {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SHALLOW:
            return Shallow(SHALLOW[name], classes=classes, size=size, padding=padding)
        from torchvision import models

        return cast(nn.Module, models.get_model(name, num_classes=classes))


def split(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return the network in two parts, cut after its last convolution and ReLU, the layer that Grad-CAM explains.

    The first part turns images into activations (N, K, h, w), the second turns them into logits (N, classes). The parts share
    the network's weights. Networks with `features` are cut after them, and before a pooling at their end (VGG, Shallow); others
    (ResNet) before the last two modules.
    """
    if hasattr(network, "features"):
        convolutions, *pools, classifier = network.children()
        features = cast(nn.Sequential, convolutions)
        end = len(features) - isinstance(features[-1], nn.MaxPool2d)
        return features[:end], nn.Sequential(*features[end:], *pools, nn.Flatten(), classifier)
    *body, pool, classifier = network.children()
    return nn.Sequential(*body), nn.Sequential(pool, nn.Flatten(), classifier)


def with_own_head(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the given weights, but the network's own last layer if theirs has another number of classes."""
    own = network.state_dict()
    last = list(own)[-2:]
    kept = [name for name in last if name in weights and weights[name].shape[1:] == own[name].shape[1:]]
    return dict(weights) | {name: own[name] for name in kept if weights[name].shape != own[name].shape}


def device() -> torch.device:
    """Return the GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_input(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Return images (N, H, W, 3) uint8 RGB as a network's input (N, 3, H, W) float32: (pixel / 255 - mean) / std per channel."""
    scaled = images.permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return ((scaled - scaled.new_tensor(mean).view(shape)) / scaled.new_tensor(std).view(shape)).contiguous()
