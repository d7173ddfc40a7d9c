"""The networks (paper, table 1): how they are built, cut for Grad-CAM, and fed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import nn

from citylens.nets.names import NETWORKS, SHALLOW


class Shallow(nn.Module):
    """Convolutions, each with a ReLU and 2 x 2 max pooling, then fc-4096, fc-100, fc-classes (paper, table 1).

    Takes (N, 3, size, size) float32, gives logits (N, classes) float32. Table 1 does not state what the keywords set: the padding of
    the convolutions, "none" or "same", whether a ReLU follows the dense layers, and whether a pooling follows the last convolution.
    """

    def __init__(
        self,
        layers: tuple[tuple[int, int], ...],
        *,
        classes: int,
        size: int,
        padding: str,
        dense_relu: bool,
        last_pooling: bool,
    ) -> None:
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
        if not last_pooling:
            blocks, side = blocks[:-1], last
        self.features = nn.Sequential(*blocks)
        between = nn.ReLU if dense_relu else nn.Identity
        dense = (nn.Linear(channels * side * side, 4096), nn.Linear(4096, 100), nn.Linear(100, classes))
        self.classifier = nn.Sequential(dense[0], between(), dense[1], between(), dense[2])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.classifier(torch.flatten(self.features(images), 1))


def build(
    name: str,
    *,
    classes: int,
    size: int,
    padding: str = "none",
    dense_relu: bool = True,
    last_pooling: bool = True,
    dropout: float = 0.5,
    initialisation: str = "library",
    seed: int = 0,
) -> nn.Module:
    """Return a network with random weights, the same for the same seed; torch's own generator keeps its state.

    Args:
        name: one of `NETWORKS`.
        classes: number of logits.
        size: side of the input, in pixels.
        padding, dense_relu, last_pooling: of shallow networks, see `Shallow`.
        dropout: of VGG's dense layers while it trains.
        initialisation: "library", as torch and torchvision do, or "xavier", uniform (Glorot and Bengio, 2010), biases 0.
        seed: of the weights.

    Raises:
        ValueError: the name is unknown, or the input is too small for the network.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; allowed: {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in SHALLOW:
            network: nn.Module = Shallow(
                SHALLOW[name],
                classes=classes,
                size=size,
                padding=padding,
                dense_relu=dense_relu,
                last_pooling=last_pooling,
            )
        else:
            from torchvision import models

            options = {"dropout": dropout} if name.startswith("vgg") else {}
            network = models.get_model(name, num_classes=classes, **options)
        if initialisation == "xavier":
            network.apply(_xavier)
        return network


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def cut(network: nn.Module, layer: str = "relu") -> tuple[nn.Module, nn.Module]:
    """Return the network in two parts, cut after the layer that Grad-CAM explains, the last convolution with its ReLU.

    The first part turns images into activations (N, K, h, w), the second turns them into logits (N, classes). The parts share
    the network's weights. Networks with `features` are cut after them, and before a pooling at their end (VGG, Shallow); others
    (ResNet) before the last two modules, after their last block.

    Args:
        network: as `build` returns it.
        layer: "relu" cuts after the last ReLU, "convolution" before it.
    """
    if hasattr(network, "features"):
        convolutions, *pools, classifier = network.children()
        features = cast(nn.Sequential, convolutions)
        end = len(features) - isinstance(features[-1], nn.MaxPool2d)
        rest = (*features[end:], *pools, nn.Flatten(), classifier)
        if layer == "relu":
            return features[:end], nn.Sequential(*rest)
        # A ReLU of its own: torchvision's works in place, which a gradient at its input does not allow.
        return features[: end - 1], nn.Sequential(nn.ReLU(), *rest)
    *body, last, pool, classifier = network.children()
    if layer == "relu":
        return nn.Sequential(*body, last), nn.Sequential(pool, nn.Flatten(), classifier)
    *blocks, block = last.children()
    before = nn.Sequential(*body, *blocks, _BeforeRelu(block))
    return before, nn.Sequential(nn.ReLU(), pool, nn.Flatten(), classifier)


class _BeforeRelu(nn.Module):
    """ResNet's basic block without its last ReLU (torchvision's `BasicBlock.forward`)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        parts = dict(block.named_children())
        self.main = nn.Sequential(parts["conv1"], parts["bn1"], nn.ReLU(), parts["conv2"], parts["bn2"])
        self.downsample = parts.get("downsample", nn.Identity())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.main(values) + self.downsample(values))


def map_sides(names: Iterable[str], *, size: int, padding: str) -> dict[str, int]:
    """Return how many cells the Grad-CAM map of each network has per side, for images of `size` x `size` pixels."""
    sides = {}
    for name in names:
        with torch.device("meta"):  # no memory, no arithmetic
            body, _ = cut(build(name, classes=2, size=size, padding=padding).eval())
            sides[name] = int(body(torch.empty(1, 3, size, size)).shape[-1])
    return sides


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
