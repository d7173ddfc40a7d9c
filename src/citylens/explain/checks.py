"""Checks of single masks: do they depend on what the network has learnt, and do they show what the network uses in the image?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from citylens.explain import grad_cam
from citylens.nets import masks, networks
from citylens.settings.schema import Explain
from citylens.stats.intervals import mean_interval

SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
"""The shares of an image's pixels after which the curves of deletion and insertion have a point."""
_BLUR = 0.1  # standard deviation of the blur that hides pixels, as a share of the image's side

Maps = NDArray[np.float32]


def randomised(network: nn.Module, other: nn.Module) -> Iterator[str]:
    """Replace the network's weights by another's, layer by layer from the logits down, and yield the name of each layer replaced.

    A layer is a convolution or a dense layer, with the normalisation behind it. This is the cascading randomisation of Adebayo et
    al., "Sanity checks for saliency maps" (2018), section 3.1.

    Args:
        network: is changed in place.
        other: of the same architecture, with random weights.
    """
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    own, random = network.state_dict(), other.state_dict()
    owner, belongs = "", {}
    for name in own:
        module = name.rpartition(".")[0]
        owner = module if module in layers else owner
        belongs[name] = owner
    for layer in reversed(layers):
        with torch.no_grad():
            for name, weights in own.items():
                if belongs[name] == layer:
                    weights.copy_(random[name])
        yield layer


def similarity(first: Maps, second: Maps) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of two maps of each image, over the map's cells; (N, h, w) give (N,).

    Maps are compared before the ReLU, whose zeros have no ranks. Where one of two maps is constant, the correlation is 0.
    """
    return (masks.ranks(first) * masks.ranks(second)).sum(axis=1)


def hidden(images: torch.Tensor, weighted: Maps, share: float, ties: Maps) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images without the share of their pixels where the mask is strongest, and with these pixels alone.

    Hidden pixels show the blurred image, which keeps colours and leaves no objects.

    Args:
        images: (N, 3, S, S) float32.
        weighted: (N, S, S) masks.
        share: in [0, 1]; of S x S pixels, rounded.
        ties: (N, S, S); among pixels of equal mask, such as those of mask 0, the higher ones count as stronger.
    """
    size = images.shape[-1]
    order = np.lexsort((-ties.reshape(len(ties), -1), -weighted.reshape(len(weighted), -1)))
    strongest = np.zeros(order.shape, np.float32)
    np.put_along_axis(strongest, order[:, : round(share * size * size)], 1, axis=1)
    chosen = torch.from_numpy(strongest).view(-1, 1, size, size).to(images.device)
    blurred = _blurred(images)
    return blurred * chosen + images * (1 - chosen), images * chosen + blurred * (1 - chosen)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    width = _BLUR * images.shape[-1]
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    found = np.stack([cv2.GaussianBlur(image, (0, 0), width, borderType=cv2.BORDER_REFLECT) for image in pixels])
    return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous().to(images.device)


def area(curve: ArrayLike) -> NDArray[np.float64]:
    """Return the area under curves (..., points) over `SHARES`, by the trapezoidal rule, in [0, 1] for probabilities."""
    return np.asarray(np.trapezoid(np.asarray(curve, float), SHARES, axis=-1))


def random_masks(images: int, side: int, size: int, generator: np.random.Generator) -> Maps:
    """Return random masks (images, size, size) as smooth as those of maps with `side` cells per side."""
    cells = generator.random((images, side, side), np.float32)
    return np.stack([masks.upsample(values, size) for values in cells])


def registered(maps: Maps, body: nn.Module, size: int, how: str) -> Maps:
    """Return the weighted masks with each cell at the centre of its receptive field, (N, size, size) in [0, 1].

    `nets.masks.normalise` puts the cells at equal distances over the whole image instead, as the paper does. Without padding, and
    with steps that do not divide the image, the two places differ.

    Args:
        maps: (N, h, h) before the ReLU.
        body: the network up to the target layer.
        size: side of the images, in pixels.
        how: "minmax" or "max", as in `normalise`.
    """
    start, step = centres(body)
    place = ((np.arange(size, dtype=np.float32) - start) / step).astype(np.float32)
    across, down = np.meshgrid(place, place)
    found = np.zeros((len(maps), size, size), np.float32)
    for mask, values in zip(found, np.maximum(maps, 0), strict=True):
        mask[:] = cv2.remap(values.astype(np.float32), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return masks.normalise(found, size, how)


def centres(body: nn.Module) -> tuple[float, float]:
    """Return where the receptive field of the first cell has its centre, and how far apart the centres are, in pixels.

    Pixel 0 is the centre of the first pixel. Source: Araujo, Norris and Sim, "Computing receptive fields of convolutional neural
    networks" (Distill, 2019), eq. 4. Shortcuts around layers are left out, since their centres are those of the layers.
    """
    start, step = 0.0, 1.0
    for name, layer in body.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
            kernel, stride, padding = (
                value if isinstance(value, int) else int(value[0])
                for value in (layer.kernel_size, layer.stride, layer.padding)
            )
            start += ((kernel - 1) / 2 - padding) * step
            step *= stride
    return start, step


def curves(
    network: nn.Module, images: torch.Tensor, classes: torch.Tensor, orders: Mapping[str, Maps], at_once: int
) -> pd.DataFrame:
    """Return how sure the network is of a class while pixels are hidden or shown, those of the highest mask first.

    Args:
        network: gives logits.
        images: (N, 3, S, S) float32, normalised.
        classes: (N,) int64, the class whose probability is followed.
        orders: (N, S, S) masks by name; `random` is one of them, and decides among equal pixels of the others.
        at_once: images per batch.

    Returns:
        One row per image, order and share: image (row), order, share, deletion and insertion, probabilities in [0, 1].
    """
    rows = []
    for name, weighted in orders.items():
        for share in SHARES:
            without, alone = hidden(images, weighted, share, orders["random"])
            found = {"deletion": _probabilities(network, without, classes, at_once)}
            found["insertion"] = _probabilities(network, alone, classes, at_once)
            rows.append(pd.DataFrame({"image": range(len(images)), "order": name, "share": share} | found))
    return pd.concat(rows, ignore_index=True)


def _probabilities(
    network: nn.Module, images: torch.Tensor, classes: torch.Tensor, at_once: int
) -> NDArray[np.float64]:
    with torch.no_grad():
        logits = torch.cat([network.eval()(batch) for batch in images.split(at_once)])
    chances = torch.softmax(logits, 1).gather(1, classes.unsqueeze(1)).squeeze(1)
    return np.asarray(chances.double().cpu())


def summary(table: pd.DataFrame, cities: ArrayLike, spots: ArrayLike) -> dict[str, dict[str, float]]:
    """Return the areas under the curves of each order, and how much better the network's own mask is than each other order.

    Args:
        table: as `curves` returns it, with the order `own`.
        cities, spots: (N,) of the images.

    Returns:
        For `deletion` and `insertion`: the mean area by order (own, swapped, random), and `gain NAME`, `gain NAME low`, `gain NAME
        high`: the mean difference to another order and its 95 % interval over spots, positive where the own mask is better; no
        interval where the images of a city are of one spot. A good mask has a small area of deletion, a large one of insertion.
    """
    found: dict[str, dict[str, float]] = {}
    for kind, sign in (("deletion", -1), ("insertion", 1)):
        wide = table.pivot(index=["order", "image"], columns="share", values=kind)
        areas = {str(order): area(rows.to_numpy()) for order, rows in wide.groupby("order")}
        numbers = {order: float(values.mean()) for order, values in areas.items()}
        for order in sorted(set(areas) - {"own"}):
            gain = sign * (areas["own"] - areas[order])
            ends = zip(("low", "high"), mean_interval(gain, cities, spots), strict=True)
            numbers |= {f"gain {order}": float(gain.mean())}
            numbers |= {f"gain {order} {end}": value for end, value in ends if np.isfinite(value)}
        found[kind] = numbers
    return found


def disagreement(first: Maps, second: Maps) -> float:
    """Return the mean absolute difference of two sets of masks, (N, S, S) in [0, 1]."""
    return float(np.abs(first - second).mean())


def similarities(
    network: nn.Module, other: nn.Module, maps: Maps, images: torch.Tensor, classes: torch.Tensor, plan: Explain
) -> pd.DataFrame:
    """Return how alike the maps stay while layers lose what they have learnt: depth, layer, similarity (mean over images).

    The network is changed. Arguments as in `randomised` and `curves`; `maps` are those of the trained network.
    """
    rows = []
    for depth, layer in enumerate(randomised(network, other), start=1):
        body, head = networks.cut(network, plan.layer)
        batches = zip(images.split(plan.batch_size), classes.split(plan.batch_size), strict=True)
        now = torch.cat([grad_cam.grad_cam(body, head, *batch)[0] for batch in batches]).cpu().numpy()
        rows.append({"depth": depth, "layer": layer, "similarity": float(similarity(maps, now).mean())})
    return pd.DataFrame(rows)
