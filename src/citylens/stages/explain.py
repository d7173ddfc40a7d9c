"""explain: Grad-CAM of one trained network on every test image.

Reads data/prepare and models/train/KEY; writes data/explain/KEY: masks.npy (N, h, w) float32, the maps before the ReLU at the
network's own size, and index.csv, a row a test image. Alone: `citylens explain vgg11 0`. Costs about a forward pass an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from citylens.adapters import checkpoints, files, progress
from citylens.adapters.tracker import Run
from citylens.science import grad_cam, masks, memory, networks
from citylens.settings import InputError, Settings, key

PREPARED = Path("data/prepare")


def run(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    index = files.read_table(PREPARED / "index.csv", ["id", "city", "label", "split"])
    test = index[index["split"] == "test"]
    loaded = _load(Path("models/train") / key(network, seed) / "network.safetensors")
    labels = np.array(test["label"], np.int64) if settings.explain.score == "true" else None
    batches = list(_explain(loaded, test.index.to_numpy(), labels, settings.explain.batch_size))
    maps, logits = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    predicted = logits.argmax(1)
    cities = np.asarray(loaded[2].cities)
    table = pd.DataFrame({"id": test["id"], "city": test["city"], "predicted": cities[predicted]})
    table["explained"] = cities[predicted if labels is None else labels]
    table["probability"] = torch.softmax(torch.from_numpy(logits), 1).numpy().max(axis=1)
    table["dead"] = masks.dead(maps).astype(int)
    with files.whole_folder(Path("data/explain") / key(network, seed)) as folder:
        files.write_array(folder / "masks.npy", maps)
        files.write_table(folder / "index.csv", table)


def _load(path: Path) -> tuple[torch.nn.Module, torch.nn.Module, checkpoints.Card]:
    tensors, card = checkpoints.read_network(path)
    with torch.device("meta"):  # without random weights that would be thrown away
        network = networks.build(card.network, classes=len(card.cities), size=card.size, padding=card.padding)
    checkpoints.load_weights(network, tensors, path)
    return *networks.split(network.to(networks.device()), card.network), card


def _explain(
    network: tuple[torch.nn.Module, torch.nn.Module, checkpoints.Card],
    rows: np.ndarray,
    labels: np.ndarray | None,
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Maps (n, h, w) and logits (n, classes) of one batch after the other."""
    body, head, card = network
    pixels, device = files.open_array(PREPARED / "images.npy"), networks.device()
    with progress.bar(f"explain {card.network}", len(rows)) as advance:
        start, size = 0, batch_size
        while start < len(rows):
            part = slice(start, start + size)
            images = networks.to_input(torch.from_numpy(pixels[rows[part]]).to(device), card.mean, card.std)
            classes = None if labels is None else torch.from_numpy(labels[part]).to(device)
            try:
                maps, logits = grad_cam.grad_cam(body, head, images, classes)
            except Exception as error:
                size = _halved(error, size, batch_size)
                continue
            yield maps.cpu().numpy(), logits.cpu().numpy()
            start += len(images)
            advance(len(images))


def _halved(error: Exception, size: int, asked: int) -> int:
    try:
        return memory.halved(error, size, asked)
    except memory.OutOfMemory as reason:
        raise InputError(f"explain.batch_size: {reason}; allowed: a smaller one") from None


def track(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    index = files.read_table(Path("data/explain") / key(network, seed) / "index.csv")
    tracker.metrics({"images": len(index), "dead_masks": int(index["dead"].sum())})
