"""Compare training from disk with one batch in memory, with a plain loop over torchvision's ImageFolder, and with channels last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import places
import torch
from timing import Row, medians, ratio, turns
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from citylens.nets import networks
from citylens.nets.names import NETWORKS
from citylens.train import training

SIZE, IMAGES = 97, 64


def rows() -> Iterator[Row]:
    """Measure an epoch of 64 images at the default study's 97 px."""
    channels = []
    for name in NETWORKS:
        with places.place() as project:
            pixels = places.prepared(project, IMAGES, SIZE)
            places.folder_of_jpegs(project, IMAGES, 320, 240)
            took = turns(_ways(name, pixels))
        disk, share = ratio(took, "memory", "disk", ".1%")
        reference, faster = ratio(took, "reference", "disk")
        seconds = medians(took)
        yield Row(
            f"training, {name}, from disk",
            "one batch in memory",
            "95 %",
            f"{share}; {IMAGES / seconds['disk']:.0f} images/s",
            disk >= 0.95,
            costs=({"stage": f"train {name}", "side": SIZE, "seconds": seconds["disk"] / IMAGES},),
            seconds=seconds,
        )
        bar = 3.0 if torch.cuda.is_available() and name == "resnet18" else 1.0
        yield Row(
            f"training, {name}",
            "a plain loop over torchvision's ImageFolder, same batch, no worker processes",
            f"{bar:.1f} times",
            faster,
            reference >= bar,
        )
        channels.append((name, *ratio(took, "disk", "channels last")))
    if not torch.cuda.is_available():
        yield Row("training, resnet18, on a GPU", "the same loop", "3.0 times", "not run: no GPU", None)
    yield Row(
        "training, channels last",
        "the loop as it is",
        "1.15 times on two networks, or why not",
        ", ".join(f"{name} {text}" for name, _, text in channels),
        sum(found >= 1.15 for _, found, _ in channels) >= 2,
        "not used: see docs/performance.md",
    )


def _ways(name: str, pixels: np.ndarray) -> dict[str, object]:
    # At a learning rate above 0, the network learns the one batch by heart; on an Intel Xeon its epochs took nearly twice as long then.
    plan = replace(places.settings().train, learning_rate=0.0)
    labels, every = np.arange(IMAGES, dtype=np.int64) % 2, np.arange(IMAGES)

    def trained(pixels: np.ndarray, rows: np.ndarray, memory_format: torch.memory_format) -> object:
        network = _network(name).to(memory_format=memory_format)
        own = training.Images(pixels, labels, rows, rows[:1])
        work = training.Training(network, own, plan, 0, networks.device())
        return lambda: work._epoch(1, lambda images: None)

    held = np.array(pixels[: plan.batch_size])
    return {
        "disk": trained(pixels, every, torch.contiguous_format),
        "memory": trained(held, every % plan.batch_size, torch.contiguous_format),
        "channels last": trained(pixels, every, torch.channels_last),
        "reference": _reference(name, plan.batch_size),
    }


def _network(name: str) -> torch.nn.Module:
    return networks.build(name, classes=2, size=SIZE, padding="same")


def _reference(name: str, batch_size: int) -> object:
    network = _network(name).to(networks.device())
    optimiser = torch.optim.Adam(network.parameters(), lr=0.0)
    scaling = transforms.Normalize(*training.INPUTS["imagenet"])
    steps = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.ToTensor(), scaling])
    loader = DataLoader(datasets.ImageFolder("jpegs", steps), batch_size, shuffle=True)

    def epoch() -> None:
        network.train()
        for images, labels in loader:
            optimiser.zero_grad()
            logits = network(images.to(networks.device()))
            loss = functional.cross_entropy(logits, labels.to(networks.device()))
            loss.backward()
            optimiser.step()
            loss.item()

    return epoch
