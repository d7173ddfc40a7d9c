"""register: list the networks for MLflow's registry, one registered model per network, one version per seed.

Reads models/train and reports/train. Writes reports/register/networks.json, from which the registry is filled when the stage is
tracked, and by `citylens sync`. Run alone: `citylens register`. Costs 1 s per gigabyte of weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.io import files, md5s
from citylens.nets.names import key
from citylens.settings.schema import Settings

NETWORKS = Path("reports/register/networks.json")


def run(settings: Settings) -> None:
    """Write which networks belong into the registry."""
    networks: dict[str, dict[str, Any]] = {}
    for network, seed in settings.study.trained:
        name, model = key(network, seed), f"{settings.register.prefix}-{network}"
        weights = Path("models/train") / name / "network.safetensors"
        scores = files.read_json(Path("reports/train") / name / "scores.json")
        md5 = md5s.of(weights)
        if not md5:
            raise InputError(f"{weights}: no such file; `dvc repro` makes it, `dvc pull` fetches it")
        known = {"name": model, "seed": seed, "weights_md5": md5, "accuracy": scores["accuracy"]}
        networks.setdefault(network, {})[name] = known
    files.write_json(NETWORKS, networks)
