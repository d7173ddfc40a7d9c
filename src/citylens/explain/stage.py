"""explain: compute the Grad-CAM map of one trained network on every test image.

Reads data/prepare and models/train/KEY. Writes data/explain/KEY: masks.npy (N, h, w) float32, the maps before the ReLU at the
network's own size, and index.csv, one row per test image. Run alone: `citylens explain vgg11 0`. Costs about a forward pass per
image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from citylens.errors import InputError
from citylens.explain import grad_cam
from citylens.io import files, progress
from citylens.io.logged import Logged
from citylens.nets import checkpoints, masks, memory, networks
from citylens.nets.names import key
from citylens.settings.schema import Explain, Settings

PREPARED, EXPLAINED = Path("data/prepare"), Path("data/explain")


def run(settings: Settings, network: str, seed: int) -> None:
    """Explain every test image for one trained network."""
    name = key(network, seed)
    index = files.read_table(PREPARED / "index.csv", ["id", "city", "label", "split"])
    test = index[index["split"] == "test"]
    model, card = checkpoints.load_network(Path("models/train") / name / "network.safetensors")

    maps, logits = _explain(model, card, test, settings.explain)
    broken = ~(np.isfinite(maps).all(axis=(1, 2)) & np.isfinite(logits).all(axis=1))
    if broken.any():
        said = f"NaN or infinity for {broken.sum()} of {len(test)} test images; first: {test['id'][broken].iloc[0]}"
        raise InputError(f"{name}: the network or its Grad-CAM map gives {said}; allowed: finite numbers")
    predicted, cities = logits.argmax(1), np.asarray(card.cities)
    table = test[["id", "city"]].assign(
        predicted=cities[predicted],
        explained=cities[test["label"] if settings.explain.score == "true" else predicted],
        probability=torch.softmax(torch.from_numpy(logits), 1).numpy().max(axis=1),
        dead=masks.dead(maps).astype(int),
    )

    with files.whole_folder(EXPLAINED / name) as folder:
        files.write_array(folder / "masks.npy", maps)
        files.write_table(folder / "index.csv", table)


def _explain(
    model: torch.nn.Module, card: checkpoints.Card, test: pd.DataFrame, plan: Explain
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (N, h, w) and the logits (N, classes) of the test images, both float32."""
    pixels, device = files.open_array(PREPARED / "images.npy"), networks.device()
    rows, labels = test.index.to_numpy(), torch.tensor(test["label"].to_numpy(np.int64), device=device)
    body, head = networks.split(model)

    def explained(batch: slice) -> tuple[np.ndarray, np.ndarray]:
        images = networks.to_input(torch.from_numpy(pixels[rows[batch]]).to(device), card.mean, card.std)
        maps, logits = grad_cam.grad_cam(body, head, images, labels[batch] if plan.score == "true" else None)
        advance(len(images))
        return maps.cpu().numpy(), logits.cpu().numpy()

    try:
        with progress.bar(f"explain {card.network}", len(rows)) as advance:
            batches = list(memory.in_batches(explained, len(rows), plan.batch_size))
    except memory.OutOfMemory as error:
        raise InputError(f"explain.batch_size: {error}; allowed: a smaller one") from None
    maps, logits = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return maps, logits


def logged(network: str, seed: int) -> Logged:
    """Return the numbers of explained images and of dead masks."""
    index = files.read_table(EXPLAINED / key(network, seed) / "index.csv")
    counts = {"explained_images": float(len(index)), "dead_masks": float(index["dead"].sum())}
    return Logged(networks={key(network, seed): counts}, splits=("test",))
