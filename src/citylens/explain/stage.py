"""explain: compute the Grad-CAM map of one trained network on every test image.

Reads data/prepare and models/train/KEY. Writes data/explain/KEY: masks.npy (N, h, w) float32, the maps before the ReLU at the
network's own size; untrained.npy, the same of the network as it was before training, random weights of the same seed; and
index.csv, one row per test image. Writes reports/explain/KEY, checks of `explain.checked` test images: layers.csv, curves.csv and
checks.json. Run alone: `citylens explain vgg11 0`. Costs about two forward passes per image, and about 60 per checked image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from citylens.engine import map_shards
from citylens.errors import InputError
from citylens.explain import checks, grad_cam
from citylens.io import files, progress
from citylens.io.logged import Logged
from citylens.nets import checkpoints, masks, memory, networks
from citylens.nets.names import key
from citylens.nets.shards import shards
from citylens.settings.schema import Explain, Settings
from citylens.stats.swaps import swapper

PREPARED, EXPLAINED, REPORTS = Path("data/prepare"), Path("data/explain"), Path("reports/explain")
WORKER = 2 << 30  # bytes that a network and a batch need
_TWIN = 1_000_003
"""Added to a network's seed for the random weights that replace its own, so that it shares none with the network before training."""


def run(settings: Settings, network: str, seed: int) -> None:
    """Explain every test image for one trained network."""
    name = key(network, seed)
    index = files.read_table(PREPARED / "index.csv", ["id", "city", "spot", "heading", "label", "split"])
    test = index[index["split"] == "test"]
    path = Path("models/train") / name / "network.safetensors"
    model, card = checkpoints.load_network(path)

    cities, rows, labels = np.asarray(card.cities), test.index.to_numpy(), test["label"].to_numpy(np.int64)
    with files.whole_folder(EXPLAINED / name) as folder:
        logits, finite, dead = _explain(path, None, rows, labels, folder / "masks.npy", settings)
        if not finite.all():
            said = f"NaN or infinity for {(~finite).sum()} of {len(test)} test images; first: {test['id'][~finite].iloc[0]}"
            raise InputError(f"{name}: the network or its Grad-CAM map gives {said}; allowed: finite numbers")
        _, _, dead_untrained = _explain(path, seed, rows, labels, folder / "untrained.npy", settings)
        predicted = logits.argmax(1)
        table = test[["id", "city", "spot", "heading"]].assign(
            predicted=cities[predicted],
            explained=cities[test["label"] if settings.explain.score == "actual" else predicted],
            probability=torch.softmax(torch.from_numpy(logits), 1).numpy().max(axis=1),
            dead=dead.astype(int),
            dead_untrained=dead_untrained.astype(int),
        )
        found = _checked(model, card, test, files.open_array(folder / "masks.npy"), seed, settings)
        files.write_table(folder / "index.csv", table)
    with files.whole_folder(REPORTS / name) as folder:
        for file, content in found.items():
            (files.write_json if file.endswith(".json") else files.write_table)(folder / file, content)


def _explain(
    path: Path, untrained: int | None, rows: np.ndarray, labels: np.ndarray, target: Path, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the maps of some images, (N, h, w) float32, into a file, as they come.

    Args:
        path: of the trained network.
        untrained: None, or the seed of the network as it was before training, which is then explained.
        rows: (N,) the images' places in the packed images.
        labels: (N,) their cities.
        target: the file.

    Returns:
        The logits (N, classes) float32; (N,) whether all numbers of an image are finite; and (N,) whether its mask is dead.
    """
    plan, found = settings.explain, []
    parts, given = shards(len(rows), plan.batch_size), (path, untrained, rows, labels, plan)
    mapped = map_shards(_explaining, given, parts, settings.engine, memory=WORKER, network=True)
    try:
        first = next(mapped)
        with (
            files.growing_array(target, (len(rows), *first[0].shape[1:]), "float32") as maps,
            progress.bar(f"explain {path.parent.name}", len(rows)) as advance,
        ):
            for part, (own, logits) in zip(parts, chain([first], mapped), strict=True):
                maps[part] = own
                finite = np.isfinite(own).all(axis=(1, 2)) & np.isfinite(logits).all(axis=1)
                found.append((logits, finite, masks.dead(own)))
                advance(len(own))
    except memory.OutOfMemory as error:
        raise InputError(f"explain.batch_size: {error}; allowed: a smaller one") from None
    logits, finite, dead = (np.concatenate(own) for own in zip(*found, strict=True))
    return logits, finite, dead


def _explaining(
    path: Path, untrained: int | None, rows: np.ndarray, labels: np.ndarray, plan: Explain
) -> Callable[[slice], tuple[np.ndarray, np.ndarray]]:
    """Return a function that gives the maps and the logits of a shard of the images; for the arguments see `_explain`."""
    model, card = checkpoints.load_network(path)
    if untrained is not None:
        model = checkpoints.untrained(card, untrained).to(networks.device())
    pixels, device = files.open_array(PREPARED / "images.npy"), networks.device()
    body, head = (part.eval() for part in networks.cut(model, plan.layer))  # once: threads share them

    def explained(part: slice) -> tuple[np.ndarray, np.ndarray]:
        torch.set_num_threads(1)  # of this thread: sums of float32 depend on how many share them
        images = networks.to_input(torch.from_numpy(pixels[rows[part]]).to(device), card.mean, card.std)
        own = torch.tensor(labels[part], device=device) if plan.score == "actual" else None
        maps, logits = grad_cam.grad_cam(body, head, images, own)
        return maps.cpu().numpy(), logits.cpu().numpy()

    def explaining(shard: slice) -> tuple[np.ndarray, np.ndarray]:
        start, images = shard.start, shard.stop - shard.start
        batches = memory.in_batches(
            lambda batch: explained(slice(start + batch.start, start + batch.stop)), images, plan.batch_size
        )
        maps, logits = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return maps, logits

    return explaining


def _checked(
    model: torch.nn.Module, card: checkpoints.Card, test: pd.DataFrame, maps: np.ndarray, seed: int, settings: Settings
) -> dict[str, Any]:
    """Return the checks of some test images, evenly spread over the test set, by file name. The model loses its weights."""
    plan, generator = settings.explain, np.random.default_rng(seed)
    rows = np.unique(np.linspace(0, len(test) - 1, min(plan.checked, len(test))).round().astype(int))
    some = test.iloc[rows]
    cities, spots = some["city"].to_numpy(), some["spot"].to_numpy(str)
    swapped = swapper(test["city"], test["spot"].astype(str), test["heading"])(generator)[rows]
    pixels, device = files.open_array(PREPARED / "images.npy"), networks.device()
    images = networks.to_input(torch.from_numpy(pixels[some.index.to_numpy()]).to(device), card.mean, card.std)
    classes = torch.tensor(some["label"].to_numpy(np.int64), device=device)
    body, head = networks.cut(model, plan.layer)
    normalised = partial(masks.normalise, size=card.size, how=plan.normalise)

    own, others = normalised(maps[rows]), normalised(maps[swapped])
    random = checks.random_masks(len(rows), maps.shape[1], card.size, generator)
    curves = checks.curves(model, images, classes, {"own": own, "swapped": others, "random": random}, plan.batch_size)
    batches = zip(images.split(plan.batch_size), classes.split(plan.batch_size), strict=True)
    hires = torch.cat([grad_cam.hires_cam(body, head, *batch) for batch in batches]).cpu().numpy()
    registered = checks.registered(maps[rows], body, card.size, plan.normalise)
    twin = checkpoints.untrained(card, seed + _TWIN)
    layers = checks.similarities(model, twin.to(device), maps[rows], images, classes, plan)
    numbers = {
        "images": len(rows),
        "similar_last": float(layers["similarity"].iloc[0]),
        "similar_all": float(layers["similarity"].iloc[-1]),
        "similar_swapped": float(checks.similarity(maps[rows], maps[swapped]).mean()),
        "hires": checks.disagreement(own, normalised(hires)),
        "registered": checks.disagreement(own, registered),
        "swapped": checks.disagreement(own, others),
    }
    means = curves.groupby(["order", "share"], as_index=False)[["deletion", "insertion"]].mean()
    return {
        "layers.csv": layers,
        "curves.csv": means,
        "checks.json": numbers | checks.summary(curves, cities, spots),
    }


def logged(network: str, seed: int) -> Logged:
    """Return the numbers of explained images and of dead masks, and the checks."""
    name = key(network, seed)
    index = files.read_table(EXPLAINED / name / "index.csv")
    numbers = {"explained_images": float(len(index)), "dead_masks": float(index["dead"].sum())}
    found = files.read_json(REPORTS / name / "checks.json")
    numbers |= {name: found[name] for name in ("similar_all", "similar_swapped", "hires", "registered", "swapped")}
    numbers |= {f"{kind}_gain": found[kind]["gain swapped"] for kind in ("deletion", "insertion")}
    return Logged(
        networks={name: numbers},
        tables=(REPORTS / name / "layers.csv", REPORTS / name / "curves.csv"),
        splits=("test",),
    )
