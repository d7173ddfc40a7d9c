"""Checks of single masks: by hand, against independent libraries, and on networks whose use of the image is known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy import stats
from torch import nn

from citylens.explain import checks, grad_cam
from citylens.nets import masks, networks
from citylens.nets.names import NETWORKS

SIZE = 97


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_lose_their_weights_from_the_logits_down(name: str) -> None:
    network, other = (networks.build(name, classes=2, size=SIZE, padding="same", seed=seed) for seed in (0, 1))
    before = copy.deepcopy(network.state_dict())
    layers = []
    for layer in checks.randomised(network, other):
        layers.append(layer)
        now = network.state_dict()
        changed = {key for key in now if not torch.equal(now[key], before[key])}
        assert layers[-1] in {key.rpartition(".")[0] for key in changed}
        assert all(torch.equal(now[key], other.state_dict()[key]) for key in changed)
        if len(layers) == 1:
            assert {key.rpartition(".")[0] for key in changed} == {layer}
    assert layers[-1] in ("features.0", "conv1")
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


def test_similarity_is_spearmans() -> None:
    first, second = np.random.default_rng(0).integers(0, 9, (2, 5, 4, 4)).astype(np.float32)
    wanted = [stats.spearmanr(one.ravel(), two.ravel()).statistic for one, two in zip(first, second, strict=True)]
    np.testing.assert_allclose(checks.similarity(first, second), wanted, atol=1e-12)
    assert checks.similarity(first, np.ones_like(first)).tolist() == [0] * 5


@pytest.mark.parametrize("name", NETWORKS)
def test_hires_cam_equals_pytorch_grad_cam(name: str) -> None:
    network = networks.build(name, classes=2, size=SIZE, padding="same", seed=3).eval()
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1])
    body, head = networks.cut(network)
    found = grad_cam.hires_cam(body, head, images, classes)
    with HiResCAM(nn.Sequential(body, head), [body[-1]]) as reference:
        layers = reference(images, [ClassifierOutputTarget(int(one)) for one in classes])
    # The library divides by the maximum of each image's mask after min-max; so do these lines, on the map's own cells.
    positive = masks.normalise(found.numpy(), SIZE)
    np.testing.assert_allclose(positive, layers, atol=2e-3)
    if name == "resnet18":
        torch.testing.assert_close(found, grad_cam.grad_cam(body, head, images, classes)[0], atol=1e-5, rtol=1e-4)


def test_strongest_pixels_are_hidden_and_shown() -> None:
    images = torch.zeros(1, 3, 4, 4)
    images[..., 0] = 1.0
    weighted = np.zeros((1, 4, 4), np.float32)
    weighted[0, :, 0] = 1.0
    ties = np.zeros_like(weighted)
    without, alone = checks.hidden(images, weighted, 0.25, ties)
    assert (alone[..., 0] == 1).all() and (without[..., 1:] == 0).all()
    assert (without[..., 0] < 1).all() and (alone[..., 1:] > 0).any()
    for share, whole in ((0.0, 0), (1.0, 1)):
        assert torch.equal(checks.hidden(images, weighted, share, ties)[whole], images)
    ties[0, 3] = 1.0
    dark, _ = checks.hidden(images, weighted - 1, 0.25, ties)  # column 0 is still the strongest
    assert torch.equal(dark, without)
    below, _ = checks.hidden(images, np.zeros_like(weighted), 0.25, ties)
    assert (below[..., :3, 0] == 1).all() and (below[..., 3, 0] < 1).all()
    assert checks.area([1.0] * len(checks.SHARES)) == pytest.approx(1)
    assert checks.area(np.array(checks.SHARES)) == pytest.approx(0.5)


def test_curves_are_those_of_a_loop_over_pixels() -> None:
    """One image, a network that adds up pixels, and the order of pixels by hand."""
    size, generator = 6, np.random.default_rng(0)
    images = torch.from_numpy(generator.random((1, 3, size, size), np.float32))
    order = generator.permutation(size * size)
    weighted = np.empty((1, size, size), np.float32)
    weighted.ravel()[order] = np.arange(size * size, 0, -1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 2)).eval()
    table = checks.curves(network, images, torch.tensor([1]), {"own": weighted, "random": weighted}, at_once=1)
    blurred = checks._blurred(images)
    for share in checks.SHARES:
        found = {"deletion": images.clone(), "insertion": blurred.clone()}
        for pixel in order[: round(share * size * size)]:
            row, column = divmod(int(pixel), size)
            found["deletion"][0, :, row, column] = blurred[0, :, row, column]
            found["insertion"][0, :, row, column] = images[0, :, row, column]
        (own,) = table[(table["order"] == "own") & (table["share"] == share)].to_dict("records")
        for kind, image in found.items():
            assert own[kind] == pytest.approx(float(torch.softmax(network(image), 1)[0, 1].detach()), abs=1e-6)


class Brightest(nn.Module):
    """Looks at the brightest pixel alone."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = images.amax(dim=(1, 2, 3))
        return torch.stack([40 * bright - 32, torch.zeros_like(bright)], 1)


def test_the_mask_of_the_image_itself_wins_where_the_network_uses_it() -> None:
    count, size = 24, 32
    generator = np.random.default_rng(0)
    places = generator.integers(0, 4, (count, 2)) * 8
    images, own = torch.zeros(count, 3, size, size), np.zeros((count, size, size), np.float32)
    for row, (down, across) in enumerate(places):
        images[row, :, down : down + 8, across : across + 8] = 1
        own[row, down : down + 8, across : across + 8] = 1
    orders = {"own": own, "swapped": own[generator.permutation(count)]}
    orders["random"] = checks.random_masks(count, 4, size, generator)
    table = checks.curves(Brightest(), images, torch.zeros(count, dtype=torch.int64), orders, at_once=7)
    cities, spots = np.repeat(["a", "b"], count // 2), np.arange(count).astype(str)
    found = checks.summary(table, cities, spots)
    for kind in ("deletion", "insertion"):
        for other in ("swapped", "random"):
            assert found[kind][f"gain {other} low"] > 0, (kind, other)
    same = checks.summary(table.replace({"order": {"swapped": "own", "own": "swapped"}}), cities, spots)
    assert same["insertion"]["gain swapped"] == pytest.approx(-found["insertion"]["gain swapped"])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("padding", ["none", "same"])
def test_centres_are_those_of_the_receptive_fields(name: str, padding: str) -> None:
    """With one channel, equal weights and poolings that take means, the gradient covers exactly the receptive field."""
    size = 353
    body, _ = networks.cut(networks.build(name, classes=2, size=SIZE, padding=padding))
    linear = nn.Sequential(*(_linear(layer) for layer in body))
    images = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    cells = linear.double()(images)
    cell = cells.shape[-1] // 2
    (gradient,) = torch.autograd.grad(cells[0, 0, cell, cell], images)
    touched = torch.nonzero(gradient[0, 0].sum(0)).flatten()
    if touched[0] > 0 and touched[-1] < size - 1:
        start, step = checks.centres(body)
        assert start + cell * step == (touched[0] + touched[-1]) / 2
    else:
        assert name == "resnet18"  # whose field is larger than the image


def _linear(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        same = nn.Conv2d(1, 1, layer.kernel_size, layer.stride, layer.padding, bias=False)
        nn.init.constant_(same.weight, 1 / layer.kernel_size[0])
        return same
    if isinstance(layer, nn.MaxPool2d):
        return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
    if isinstance(layer, nn.ReLU | nn.BatchNorm2d):
        return nn.Identity()
    return nn.Sequential(*(_linear(part) for name, part in layer.named_children() if name != "downsample"))


def test_cells_lie_where_their_fields_have_their_centres() -> None:
    """ResNet18 at 97 px has centres at 0, 32, 64 and 96; plain upsampling puts them at 11.6, 35.9, 60.1 and 84.4."""
    body, _ = networks.cut(networks.build("resnet18", classes=2, size=97))
    assert checks.centres(body) == (0, 32)
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 1, 2] = 1
    mask = checks.registered(maps, body, 97, "minmax")[0]
    assert np.unravel_index(mask.argmax(), mask.shape) == (32, 64)
    assert mask[32, 48] == pytest.approx(0.5) and mask[32, 80] == pytest.approx(0.5)
    plain = masks.normalise(maps, 97)[0]
    assert np.unravel_index(plain.argmax(), plain.shape) == (36, 60)
