"""Choices that the paper leaves open, each a setting: the other choice does what it says, and the default is the one before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerGradCam
from configured import mapping as profile
from torch import nn

from citylens.explain import grad_cam
from citylens.nets import checkpoints, masks, networks
from citylens.prepare import stage as prepare
from citylens.settings import parser
from citylens.train import training

SIZE = 97


def card(**changes: object) -> checkpoints.Card:
    return checkpoints.Card("simpler", ("a", "b"), SIZE, "stretch", "none", *training.INPUTS["imagenet"], **changes)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vgg11", lambda network: network.features[18]),
        ("resnet18", lambda network: network.layer4[1].bn2),
        ("simple", lambda network: network.features[-3]),
    ],
)
def test_the_layer_before_the_relu(name: str, layer: object) -> None:
    network = networks.build(name, classes=2, size=SIZE, padding="same", seed=1).eval()
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    body, head = networks.cut(network, "convolution")
    torch.testing.assert_close(head(body(images)), network(images))
    assert (body(images) < 0).any() and not (networks.cut(network)[0](images) < 0).any()
    if name != "resnet18":  # whose activations before the ReLU are a sum that no module gives out
        classes = torch.tensor([0, 1])
        wanted = LayerGradCam(network, layer(network)).attribute(images, target=classes)[:, 0]
        torch.testing.assert_close(grad_cam.grad_cam(body, head, images, classes)[0], wanted.detach())


def test_shallow_networks_without_relu_between_dense_layers_and_without_the_last_pooling() -> None:
    plain, linear, unpooled = (
        checkpoints.untrained(card(**changes)) for changes in ({}, {"dense_relu": False}, {"last_pooling": False})
    )
    relus = [sum(isinstance(layer, nn.ReLU) for layer in network.classifier) for network in (plain, linear)]
    assert relus == [2, 0] and list(plain.state_dict()) == list(linear.state_dict())
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in linear.state_dict().items())
    body, head = networks.cut(unpooled)
    images = torch.rand(1, 3, SIZE, SIZE)
    assert body(images).shape == networks.cut(plain)[0](images).shape
    assert unpooled.classifier[0].in_features == body(images).numel() > plain.classifier[0].in_features
    torch.testing.assert_close(head(body(images)), unpooled(images))


def test_initialisation_and_dropout() -> None:
    network = checkpoints.untrained(card(initialisation="xavier"))
    weights = network.classifier[0].weight
    assert weights.abs().max().item() == pytest.approx((6 / sum(weights.shape)) ** 0.5, rel=1e-3)
    assert not network.classifier[0].bias.any()
    vgg = networks.build("vgg11", classes=2, size=64, dropout=0.0)
    assert [layer.p for layer in vgg.classifier if isinstance(layer, nn.Dropout)] == [0.0, 0.0]


@pytest.mark.parametrize(("name", "black", "white"), [("half", -1, 1), ("unit", 0, 1)])
def test_inputs_are_scaled(name: str, black: float, white: float) -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 3)
    found = networks.to_input(pixels, *training.INPUTS[name])
    assert found[:, 0, 0, 0].tolist() == [black, white]


def test_the_explanation_with_or_without_the_threshold_itself() -> None:
    values = np.array([0.4, 0.5, 0.6])
    assert masks.inside(values, 0.5).tolist() == [False, True, True]
    assert masks.inside(values, 0.5, "above").tolist() == [False, False, True]


def test_splits_of_all_cities_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cities that both call their spots 0 to 9: one spot of either city falls into one split, and the shares are those of all."""
    monkeypatch.chdir(tmp_path)
    rows = [(city, str(spot)) for city in ("a", "b") for spot in range(10) for _ in range(2)]
    manifest = pd.DataFrame(rows, columns=["city", "spot"]).assign(heading=0.0, path="x")
    manifest["id"] = manifest.index.astype(str)
    counts = {}
    for by_city in (True, False):
        mapping = profile("demo")
        mapping["prepare"] |= {"by_city": by_city, "shares": [0.6, 0.2, 0.2]}
        index = prepare._index(manifest, np.zeros((40, 48, 48, 3), np.uint8), parser.parse(mapping).prepare)
        assert (index.groupby(["city", "spot"])["split"].nunique() == 1).all()
        assert index["split"].value_counts().to_dict() == {"training": 24, "validation": 8, "test": 8}
        counts[by_city] = index.groupby(["city", "split"]).size()
    assert (counts[True].xs("test", level="split") == 4).all() and not counts[True].equals(counts[False])
