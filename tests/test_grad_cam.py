"""Grad-CAM: counted by hand, and against pytorch-grad-cam and Captum on the four networks."""

from __future__ import annotations

from pathlib import Path

import configured
import numpy as np
import pytest
import torch
import yaml
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from citylens import cli
from citylens.errors import InputError
from citylens.explain import grad_cam
from citylens.nets import masks, networks
from citylens.nets.names import NETWORKS

SIZE = 112
TARGETS = {
    "vgg11": lambda network: network.features[19],
    "resnet18": lambda network: network.layer4[-1],
    "simple": lambda network: network.features[-2],
    "simpler": lambda network: network.features[-2],
}
"""The module whose output Grad-CAM weighs: the last convolution after its ReLU."""


@pytest.fixture(scope="module", params=NETWORKS)
def explained(request: pytest.FixtureRequest) -> dict:
    network = networks.build(request.param, classes=2, size=SIZE, seed=3).eval()
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1, 0])
    maps, logits = grad_cam.grad_cam(*networks.cut(network), images, classes)
    return {
        "name": request.param,
        "network": network,
        "images": images,
        "classes": classes,
        "maps": maps,
        "logits": logits,
    }


def test_maps_have_the_cells_that_are_said_before_training(explained: dict) -> None:
    sides = networks.map_sides([explained["name"]], size=SIZE, padding="none")
    assert explained["maps"].shape[1:] == (sides[explained["name"]],) * 2


def test_coarse_maps_are_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    mapping = configured.mapping("demo")
    mapping["prepare"]["size"] = 96
    Path("params.yaml").write_text(yaml.safe_dump(mapping))
    with pytest.raises(InputError, match=r"at 96 px .* cells: resnet18 3 x 3; allowed: 4 x 4 or more"):
        cli._check(accept=False)


def test_counted_by_hand() -> None:
    """Two 2 x 2 activation maps; class 1's score is 3 x (sum of the first) - 1 x (top left of the second)."""
    images = torch.tensor([[[[1.0, 2.0], [0.0, 1.0]], [[4.0, 0.0], [8.0, 0.0]]]])
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        head[1].weight[:] = torch.tensor([[0.0] * 8, [3.0, 3, 3, 3, -1, 0, 0, 0]])
    maps, logits = grad_cam.grad_cam(torch.nn.Identity(), head, images, torch.tensor([1]))
    assert logits.tolist() == [[0.0, 8.0]]
    # Mean gradients: 3 and -1/4.
    assert maps.tolist() == [[[2.0, 6.0], [-2.0, 3.0]]]


def test_equals_captum(explained: dict) -> None:
    layer = TARGETS[explained["name"]](explained["network"])
    reference = LayerGradCam(explained["network"], layer).attribute(explained["images"], target=explained["classes"])[
        :, 0
    ]
    torch.testing.assert_close(explained["maps"], reference.detach(), atol=1e-5, rtol=1e-5)


def test_masks_equal_pytorch_grad_cam(explained: dict) -> None:
    layer = TARGETS[explained["name"]](explained["network"])
    with GradCAM(explained["network"], [layer]) as reference:
        targets = [ClassifierOutputTarget(int(number)) for number in explained["classes"]]
        expected = reference(explained["images"], targets)
    low, high = (edge(axis=(1, 2), keepdims=True) for edge in (expected.min, expected.max))
    alive = (high > low).ravel()
    assert alive.any()
    ours = masks.normalise(explained["maps"].numpy(), SIZE)
    np.testing.assert_allclose(ours[alive], ((expected - low) / np.maximum(high - low, 1e-12))[alive], atol=1e-5)
    assert (masks.dead(explained["maps"].numpy()) == ~alive).all()


def test_logits_are_a_forward_pass_and_the_network_is_left_alone(explained: dict) -> None:
    network = explained["network"]
    with torch.no_grad():
        torch.testing.assert_close(network(explained["images"]), explained["logits"], atol=1e-6, rtol=1e-6)
    network.zero_grad(set_to_none=True)  # the references above leave gradients
    network.train()
    grad_cam.grad_cam(*networks.cut(network), explained["images"])
    assert all(module.training for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()


@pytest.mark.parametrize(
    ("name", "side", "parameters"),
    [("simple", 18, 43.7), ("simpler", 42, 174.4), ("vgg11", 14, 128.8), ("resnet18", 7, 11.2)],
)
def test_networks_are_the_papers(name: str, side: int, parameters: float) -> None:
    """Table 1 at 224 x 224: the side of the last convolution's map, and the number of parameters in millions."""
    network = networks.build(name, classes=2, size=224)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)
    body, _ = networks.cut(network.eval())
    with torch.no_grad():
        assert body(torch.zeros(1, 3, 224, 224)).shape[2:] == (side, side)


def test_too_small_an_input_is_refused() -> None:
    with pytest.raises(ValueError, match="64 x 64 px"):
        networks.build("simple", classes=2, size=64)


def test_an_unknown_network_is_refused() -> None:
    assert set(networks.SHALLOW) < set(NETWORKS)
    with pytest.raises(ValueError, match=f"unknown network 'vgg'; allowed: {', '.join(NETWORKS)}"):
        networks.build("vgg", classes=2, size=64)
