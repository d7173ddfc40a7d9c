"""train: train one network with one seed.

Reads data/prepare. Writes models/train/KEY/network.safetensors, and to reports/train/KEY: history.csv, and scores.json and
confusion.csv of the test images. After each epoch but the last it saves its state in .citylens/train/KEY, from which a stopped run goes on.
Run alone: `citylens train vgg11 0`; by several processes: `torchrun --nproc-per-node 2 --no-python citylens train vgg11 0`, or on the
Ray cluster of `engine`. Cost per image and epoch, at 112 px on two cores: vgg11 0.12 s, resnet18 0.03 s, simple 0.02 s,
simpler 0.03 s.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from citylens import engine
from citylens.errors import InputError
from citylens.io import files, md5s, progress
from citylens.io.logged import Logged
from citylens.nets import checkpoints, memory, networks
from citylens.nets.names import key
from citylens.settings.schema import SPLITS, Settings, Train
from citylens.train import training, workers

PREPARED = Path("data/prepare")
MODELS, REPORTS, STATES = Path("models/train"), Path("reports/train"), Path(".citylens/train")

OnEpoch = Callable[[int, dict[str, float]], object]
"""Takes the number of an epoch and its results, with `training_speed` in training images per second, validation included."""


def run(settings: Settings, network: str, seed: int, on_epoch: OnEpoch = lambda epoch, values: None) -> None:
    """Train one network with one seed; `on_epoch` takes the results of each epoch."""
    if settings.engine.kind == "ray" and not workers.by_torchrun():
        for epoch in engine.run_together(_work, (settings, network, seed), settings.engine):
            on_epoch(*epoch)
        return
    with workers.joined():
        _work(lambda epoch: on_epoch(*epoch), settings, network, seed)


def _work(send: Callable[[tuple[int, dict[str, float]]], object], settings: Settings, network: str, seed: int) -> None:
    """Train, maybe as one of several processes; the first one alone sends the results of each epoch and writes."""
    name, plan, prepare = key(network, seed), settings.train.of(network), settings.prepare
    index = files.read_table(PREPARED / "index.csv", ["city", "label", "split"])
    pixels, labels = files.open_array(PREPARED / "images.npy"), index["label"].to_numpy(np.int64)
    rows = {split: np.flatnonzero(index["split"] == split) for split in SPLITS}
    learnt = labels.copy()
    if plan.labels == "shuffled":
        learnt[rows["training"]] = np.random.default_rng(seed).permutation(labels[rows["training"]])
    _check_parts(rows, plan.batch_size)
    images = training.Images(pixels, learnt, rows["training"], rows["validation"])
    cities = tuple(index.drop_duplicates("label").sort_values("label")["city"])
    card = checkpoints.Card(
        network,
        cities,
        prepare.size,
        prepare.resize,
        plan.padding,
        *training.INPUTS[plan.input],
        plan.dense_relu,
        plan.last_pooling,
        plan.initialisation,
    )
    pretrained = Path(plan.path) / f"{network}.safetensors" if plan.start == "pretrained" else None

    work = training.Training(_untrained(card, pretrained, seed, plan.dropout), images, plan, seed, networks.device())
    history = _train(work, STATES / name, _fingerprint(plan, card, pretrained), send)
    logits = work.predict(rows["test"])
    if workers.rank():
        return

    files.write_table(REPORTS / name / "history.csv", pd.DataFrame(history))
    _write_scores(REPORTS / name, logits, labels[rows["test"]], card.cities)
    checkpoints.write_network(MODELS / name / "network.safetensors", work.network, card)
    shutil.rmtree(STATES / name, ignore_errors=True)


def _check_parts(rows: dict[str, np.ndarray], batch_size: int) -> None:
    """Check that each of several workers has an image of every batch.

    Raises:
        InputError: a batch is too small.
    """
    least = min(len(rows["training"]) % batch_size or batch_size, len(rows["validation"]), len(rows["test"]))
    if least < workers.count():
        raise InputError(
            f"engine.workers: {workers.count()} train together, and a batch has {least} image(s); allowed: {least} or fewer"
        )


def _untrained(card: checkpoints.Card, pretrained: Path | None, seed: int, dropout: float) -> torch.nn.Module:
    # On a GPU, VGG11's pooling has no deterministic gradient; there, equal runs differ in the last digits.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        network = checkpoints.untrained(card, seed, dropout)
    except ValueError as error:
        raise InputError(f"{card.network}: {error}") from None
    if pretrained:
        tensors, _ = checkpoints.read_tensors(pretrained)
        checkpoints.load_weights(network, networks.with_own_head(network, tensors), pretrained)
    return network


def _fingerprint(plan: Train, card: checkpoints.Card, pretrained: Path | None) -> str:
    """Return a text that differs for other settings, data, code and pretrained weights, on which a training's result depends."""
    code = (__file__, training.__file__, workers.__file__, networks.__file__)
    read = (PREPARED / "index.csv", PREPARED / "images.npy", *code)
    return repr((plan, card, workers.count(), [md5s.of(path) for path in read], pretrained and md5s.of(pretrained)))


def _train(
    work: training.Training,
    folder: Path,
    fingerprint: str,
    send: Callable[[tuple[int, dict[str, float]]], object],
) -> list[dict[str, float]]:
    """Train the epochs still to do, saving the state after each; return the results of all epochs.

    Raises:
        InputError: the loss is no number; memory ran out; or another process began to train the network, and goes on.
    """
    name, plan, images, first = folder.name, work.plan, len(work.images.training), workers.rank() == 0
    claim, own = folder / "claim.txt", secrets.token_hex(8)
    if first:
        files.write_text(claim, own)
    history = _resume(work, folder / "state.safetensors", fingerprint)
    try:
        with progress.bar(f"train {name}", plan.epochs * images, shown=first) as advance:
            advance(work.done * images)
            start = time.perf_counter()
            for epoch in work.epochs(advance):
                values, speed = asdict(epoch), images / (time.perf_counter() - start)
                results = {name: value for name, value in values.items() if name not in ("epoch", "learning_rate")}
                if first:
                    send((epoch.epoch, results | {"training_speed": speed}))
                # Where a cluster's head is gone, Ray's workers live on for a while, beside those of the next run.
                lost = first and not (claim.is_file() and claim.read_text() == own)
                if workers.total(torch.tensor(float(lost)), work.device):
                    raise InputError(f"{name}: another process has begun to train it, and goes on; this one ends")
                if (
                    first
                    and plan.keep == "best"
                    and all(epoch.validation_loss < old["validation_loss"] for old in history)
                ):
                    checkpoints.write_tensors(folder / "best.safetensors", work.network.state_dict(), {})
                history.append(values)
                if first and work.done < plan.epochs:
                    metadata = {"fingerprint": fingerprint, "done": str(work.done), "epochs": json.dumps(history)}
                    checkpoints.write_tensors(folder / "state.safetensors", work.state(), metadata)
                start = time.perf_counter()
    except training.Diverged as error:
        kept = f"; {folder} keeps the network of epoch {work.done}" if work.done else ""
        raise InputError(f"{name}: {error}; a smaller train.learning_rate may help{kept}") from None
    except memory.OutOfMemory as error:
        raise InputError(f"{name}: train.batch_size: {error}; allowed: a smaller one") from None
    if work.at_once < plan.batch_size:
        print(f"{name}: out of memory with {plan.batch_size} images; a batch went in halves", file=sys.stderr)
    workers.wait()
    if plan.keep == "best":
        work.network.load_state_dict(checkpoints.read_tensors(folder / "best.safetensors")[0])
    return history


def _resume(work: training.Training, path: Path, fingerprint: str) -> list[dict[str, float]]:
    """Restore a stopped run of the same settings, data and code; return the results of its epochs, none without such a run."""
    if not path.is_file():
        return []
    tensors, metadata = checkpoints.read_tensors(path)
    if metadata.get("fingerprint") != fingerprint:
        return []
    work.restore(tensors, int(metadata["done"]))
    return list(json.loads(metadata["epochs"]))


def _write_scores(folder: Path, logits: torch.Tensor, labels: np.ndarray, cities: tuple[str, ...]) -> None:
    loss, accuracy = training.score(logits, labels)
    counts = training.confusion(logits, labels)
    images = counts.sum(axis=1)
    scores = {"accuracy": accuracy, "loss": loss, "majority_accuracy": images.max() / images.sum()}
    scores |= {"recall": dict(zip(cities, counts.diagonal() / images, strict=True)), "images": len(labels)}
    files.write_json(folder / "scores.json", scores)
    cells = [(actual, guess, int(counts[i, j])) for i, actual in enumerate(cities) for j, guess in enumerate(cities)]
    files.write_table(folder / "confusion.csv", pd.DataFrame(cells, columns=["actual", "predicted", "images"]))


def logged(network: str, seed: int) -> Logged:
    """Return the training's curves and test scores, and the network."""
    name = key(network, seed)
    scores = files.read_json(REPORTS / name / "scores.json")
    metrics = {f"test_{score}": scores[score] for score in ("accuracy", "loss", "majority_accuracy")}
    metrics |= {f"test_recall_{city}": value for city, value in scores["recall"].items()}
    history = REPORTS / name / "history.csv"
    return Logged(
        networks={name: metrics},
        history=files.read_table(history).drop(columns="learning_rate"),
        tables=(history, REPORTS / name / "confusion.csv"),
        splits=SPLITS,
        weights=MODELS / name / "network.safetensors",
    )
