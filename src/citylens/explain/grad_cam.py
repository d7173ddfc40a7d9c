"""Grad-CAM (Selvaraju et al., 2017) at the cost of about a forward pass: no gradient is computed below the target layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

AT_ONCE = 4
"""Images that pass below the cut at a time on a CPU. The activations of more crowd its cache (docs/performance.md)."""


def grad_cam(
    body: nn.Module, head: nn.Module, images: torch.Tensor, classes: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return the map :math:`\sum_k \alpha^c_k A^k` of each image, and the logits (Selvaraju et al., eq. 1 and 2).

    :math:`A^k` is activation map k of the target layer, :math:`\alpha^c_k` the mean gradient of class c's logit over it. The
    map's ReLU is the paper's :math:`L^c`.

    Args:
        body, head: the network cut after its target layer (`networks.cut`).
        images: (N, 3, H, W) float32, normalised.
        classes: (N,) int64, the class whose logit is explained; by default the predicted class.

    Returns:
        maps: (N, h, w) float32 at the target layer's own size, before the ReLU.
        logits: (N, classes) float32.
    """
    activations, gradients, logits = _gradients(body, head, images, classes)
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return (weights * activations).sum(dim=1), logits


def hires_cam(body: nn.Module, head: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    r"""Return the map :math:`\sum_k \partial y^c / \partial A^k \odot A^k` of each image, (N, h, w) float32, before the ReLU.

    Grad-CAM takes the mean of a map's gradient; HiResCAM keeps the gradient of each cell (Draelos and Carin, 2020, eq. 3). The two
    are equal where only a global average pooling and one dense layer follow the target layer, as in ResNet. Arguments as in
    `grad_cam`.
    """
    activations, gradients, _ = _gradients(body, head, images, classes)
    return (gradients * activations).sum(dim=1)


def _gradients(
    body: nn.Module, head: nn.Module, images: torch.Tensor, classes: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the target layer's activations, the gradients of the chosen logits with respect to them, and all logits."""
    with _evaluating(body, head):
        with torch.no_grad():
            parts = images.split(AT_ONCE) if images.device.type == "cpu" else [images]
            activations = torch.cat([body(part) for part in parts])
        with torch.enable_grad():
            activations.requires_grad_()
            logits = head(activations)
            chosen = logits.argmax(1) if classes is None else classes
            scores = logits.gather(1, chosen.unsqueeze(1)).sum()
            (gradients,) = torch.autograd.grad(scores, activations)
    return activations.detach(), gradients, logits.detach()


@contextmanager
def _evaluating(*parts: nn.Module) -> Iterator[None]:
    """Set the parts to evaluation mode, and afterwards each module back to the mode it was in."""
    modes = [(module, module.training) for part in parts for module in part.modules()]
    for part in parts:
        part.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
