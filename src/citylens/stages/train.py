"""train: one network with one seed.

Reads data/prepare; writes models/train/KEY/network.safetensors, and reports/train/KEY: history.csv, scores.json and confusion.csv of
the test images. After each epoch the state lies in .citylens/train/KEY, from which a stopped run goes on. Alone: `citylens train
vgg11 0`. Costs per image and epoch, at 112 px on two cores: vgg11 0.12 s, resnet18 0.03 s, simple 0.02 s, simpler 0.03 s.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from citylens.adapters import checkpoints, files, progress
from citylens.adapters.tracker import Run
from citylens.science import memory, networks, training
from citylens.settings import InputError, Settings, Train, key

PREPARED = Path("data/prepare")


def run(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    index = files.read_table(PREPARED / "index.csv", ["city", "label", "split"])
    pixels = files.open_array(PREPARED / "images.npy")
    card = _card(network, index, settings)
    rows = {name: np.flatnonzero(index["split"] == name) for name in ("training", "validation", "test")}
    labels = index["label"].to_numpy(np.int64)
    images = training.Images(pixels, labels, rows["training"], rows["validation"])
    work = _start(card, images, settings.train, seed)
    history = _train(
        work,
        Path(".citylens/train") / key(network, seed),
        _fingerprint(settings.train, card),
        tracker,
        settings.train.keep,
    )
    logits = training.predict(work.network, pixels, rows["test"], work.at_once, work.device)
    folder = Path("reports/train") / key(network, seed)
    files.write_table(folder / "history.csv", history.drop(columns="speed"))
    _write_scores(folder, logits, labels[rows["test"]], card.cities)
    checkpoints.write_network(Path("models/train") / key(network, seed) / "network.safetensors", work.network, card)
    shutil.rmtree(Path(".citylens/train") / key(network, seed), ignore_errors=True)


def _card(network: str, index: pd.DataFrame, settings: Settings) -> checkpoints.Card:
    cities = tuple(index.drop_duplicates("label").sort_values("label")["city"])
    plan = settings.prepare
    return checkpoints.Card(
        network, cities, plan.size, plan.resize, settings.train.padding, training.MEAN, training.STD
    )


def _start(card: checkpoints.Card, images: training.Images, plan: Train, seed: int) -> training.Training:
    try:
        network = networks.build(
            card.network, classes=len(card.cities), size=card.size, padding=card.padding, seed=seed
        )
    except ValueError as error:
        raise InputError(f"{card.network}: {error}") from None
    if plan.start == "pretrained":
        path = Path(plan.path) / f"{card.network}.safetensors"
        tensors, _ = checkpoints.read_tensors(path)
        checkpoints.load_weights(network, networks.with_own_head(network, tensors), path)
    # On a GPU, VGG11's pooling has no deterministic gradient; there, equal runs differ in the last digits.
    torch.use_deterministic_algorithms(True, warn_only=True)
    fields = {name: getattr(plan, name) for name in ("epochs", "batch_size", "learning_rate", "decay", "decay_every")}
    return training.Training(
        network, images, training.Plan(flip=plan.augment == "flip", seed=seed, **fields), networks.device()
    )


def _train(work: training.Training, state: Path, fingerprint: str, tracker: Run, keep: str) -> pd.DataFrame:
    epochs = _resume(work, state / "state.safetensors", fingerprint)
    best = min((epoch["validation_loss"] for epoch in epochs), default=np.inf)
    with progress.bar(f"train {state.name}", work.plan.epochs * len(work.images.training)) as advance:
        advance(work.done * len(work.images.training))
        try:
            for epoch in work.epochs(advance):
                epochs.append(asdict(epoch))
                tracker.metrics(
                    {name: value for name, value in epochs[-1].items() if name != "epoch"}, step=epoch.epoch
                )
                if keep == "best" and epoch.validation_loss < best:
                    best = epoch.validation_loss
                    checkpoints.write_tensors(state / "best.safetensors", work.network.state_dict(), {})
                if work.done < work.plan.epochs:
                    metadata = {"fingerprint": fingerprint, "done": str(work.done), "epochs": json.dumps(epochs)}
                    checkpoints.write_tensors(state / "state.safetensors", work.state(), metadata)
        except training.Diverged as error:
            kept = f"; {state} keeps the network of epoch {work.done}" if work.done else ""
            raise InputError(f"{state.name}: {error}{kept}") from None
        except memory.OutOfMemory as error:
            raise InputError(f"{state.name}: train.batch_size: {error}; allowed: a smaller one") from None
    if work.at_once < work.plan.batch_size:
        print(
            f"{state.name}: out of memory with {work.plan.batch_size} images; a batch went in halves", file=sys.stderr
        )
    if keep == "best":
        work.network.load_state_dict(checkpoints.read_tensors(state / "best.safetensors")[0])
    return pd.DataFrame(epochs)


def _resume(work: training.Training, path: Path, fingerprint: str) -> list[dict[str, float]]:
    """Takes up a stopped run, if there is one of the very same data, settings and code."""
    if not path.is_file():
        return []
    tensors, metadata = checkpoints.read_tensors(path)
    if metadata.get("fingerprint") != fingerprint:
        shutil.rmtree(path.parent)
        return []
    work.restore(tensors, int(metadata["done"]))
    return list(json.loads(metadata["epochs"]))


def _fingerprint(plan: Train, card: checkpoints.Card) -> str:
    parts = [repr(plan), repr(card)]
    sources = [
        PREPARED / "index.csv",
        PREPARED / "images.npy",
        *(Path(file) for file in (__file__, training.__file__, networks.__file__)),
    ]
    if plan.start == "pretrained":
        sources.append(Path(plan.path) / f"{card.network}.safetensors")
    for path in sources:
        with path.open("rb") as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _write_scores(folder: Path, logits: torch.Tensor, labels: np.ndarray, cities: tuple[str, ...]) -> None:
    loss, accuracy = training.score(logits, labels)
    counts = training.confusion(logits, labels)
    recall = {city: counts[place, place] / counts[place].sum() for place, city in enumerate(cities)}
    majority = counts.sum(axis=1).max() / counts.sum()
    scores = {
        "accuracy": accuracy,
        "loss": loss,
        "majority_accuracy": majority,
        "recall": recall,
        "images": len(labels),
    }
    files.write_json(folder / "scores.json", scores)
    cells = [(actual, guess, int(counts[i, j])) for i, actual in enumerate(cities) for j, guess in enumerate(cities)]
    files.write_table(folder / "confusion.csv", pd.DataFrame(cells, columns=["actual", "predicted", "images"]))


def track(settings: Settings, tracker: Run, network: str, seed: int) -> None:
    folder = Path("reports/train") / key(network, seed)
    for row in files.read_table(folder / "history.csv").to_dict("records"):
        tracker.metrics({str(name): value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))
    scores = files.read_json(folder / "scores.json")
    tracker.metrics({f"test_{name}": scores[name] for name in ("accuracy", "loss", "majority_accuracy")})
    tracker.metrics({f"test_recall_{city}": value for city, value in scores["recall"].items()})
    for name in ("history.csv", "confusion.csv"):
        tracker.table(folder / name)
    tracker.network(
        Path("models/train") / key(network, seed) / "network.safetensors",
        key=key(network, seed),
        cities=tuple(scores["recall"]),
        size=settings.prepare.size,
        metrics={"test_accuracy": scores["accuracy"]},
    )
