"""register: the networks into MLflow's registry, a registered model a network, a version a seed.

Reads models/train and reports/train; writes reports/register/networks.json, which says what is to be in the registry. The registry
itself is filled from it as the stage is tracked, and by `citylens sync`; it gets the model that the network's own training run
logged, once. Alone: `citylens register`. Costs a second a gigabyte of weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from citylens.adapters import files, md5s
from citylens.adapters.tracker import Run
from citylens.settings import InputError, Settings, key

NETWORKS = Path("reports/register/networks.json")


def run(settings: Settings, tracker: Run) -> None:
    networks: dict[str, dict[str, Any]] = {}
    for network, seed in settings.study.trained:
        networks.setdefault(network, {})[key(network, seed)] = _described(settings.register.prefix, network, seed)
    files.write_json(NETWORKS, networks)


def _described(prefix: str, network: str, seed: int) -> dict[str, Any]:
    weights = Path("models/train") / key(network, seed) / "network.safetensors"
    scores = files.read_json(Path("reports/train") / key(network, seed) / "scores.json")
    md5 = md5s.of(weights)
    if not md5:
        raise InputError(f"{weights}: no such file; `dvc repro` makes it, `dvc pull` fetches it")
    chosen = {name: scores[name] for name in ("accuracy", "majority_accuracy", "images")}
    return {"name": f"{prefix}-{network}", "seed": seed, "weights_md5": md5, "cities": list(scores["recall"]), **chosen}


def track(settings: Settings, tracker: Run) -> None:
    networks = files.read_json(NETWORKS)
    tracker.file(NETWORKS)
    for by_key in networks.values():
        tracker.metrics({f"accuracy_{name}": network["accuracy"] for name, network in by_key.items()})
    enter(tracker)


def enter(tracker: Run) -> None:
    """Every network of networks.json that the registry lacks, into it."""
    for by_key in files.read_json(NETWORKS).values():
        for name, network in by_key.items():
            tags = {"citylens.key": name, "citylens.seed": network["seed"], "citylens.accuracy": network["accuracy"]}
            tracker.register(network["name"], network["weights_md5"], tags)
