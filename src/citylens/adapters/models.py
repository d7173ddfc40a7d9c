"""Networks as MLflow models, and the registry. A model is the weights file and the project's code; nothing is pickled."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.adapters import md5s, places

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from citylens.adapters.runs import MlflowRun

LOADER = "citylens.served"  # its _load_pyfunc makes the network from the weights
NEEDED = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pandas", "opencv-python-headless", "pyyaml")
WEIGHTS = "citylens.weights.md5"
CHAMPION, CHALLENGER = "champion", "challenger"


def log_network(run: MlflowRun, weights: Path, key: str, cities: tuple[str, ...], size: int) -> str:
    """The network as a model of the run; on this file system its weights are linked, not copied.

    Returns:
        the model's id.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tags = {
        WEIGHTS: md5s.of(weights),
        "citylens.key": key,
        "citylens.cities": json.dumps(cities, ensure_ascii=False),
    }
    model = run.client.create_logged_model(
        run.experiment, name=key, source_run_id=run.id, tags=tags, params={"size": str(size)}
    )
    target = places.local_folder(model.artifact_location, run.client.tracking_uri)
    if target is not None:
        _write(target, model, weights, cities)
    else:
        with tempfile.TemporaryDirectory() as folder, places.patient():
            _write(Path(folder), model, weights, cities)
            run.client.log_model_artifacts(model.model_id, folder)
    run.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    run.client.log_outputs(run.id, [LoggedModelOutput(model.model_id, 0)])
    return str(model.model_id)


def _write(folder: Path, model: LoggedModel, weights: Path, cities: tuple[str, ...]) -> None:
    """The model's folder, by hand: MLflow's `save_model` copies the weights and spends seconds on comparing installed packages."""
    from mlflow import pyfunc
    from mlflow.models import Model

    package = Path(__file__).resolve().parents[1]
    shutil.copytree(package, folder / "code" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    places.link(weights, folder / "data" / weights.name)
    needed = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in NEEDED]
    (folder / "requirements.txt").write_text("\n".join(needed) + "\n")
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    )
    described = Model(model.artifact_location, model.source_run_id, model_uuid=model.model_id, model_id=model.model_id)
    described.signature = signature(cities)
    described.model_size_bytes = weights.stat().st_size
    pyfunc.add_to_model(
        described, loader_module=LOADER, data=f"data/{weights.name}", code="code", python_env="python_env.yaml"
    )
    described.save(folder / "MLmodel")


def signature(cities: tuple[str, ...]) -> ModelSignature:
    """Images (N, H, W, 3) uint8 in; city, a probability a city, the mask and whether it is dead out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "city"),
        *(ColSpec(DataType.float, f"probability of {city}") for city in cities),
    ]
    columns += [ColSpec(Array(Array(DataType.float)), "mask"), ColSpec(DataType.boolean, "dead")]
    return ModelSignature(Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]), Schema(columns))


def register(run: MlflowRun, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
    """The logged model with these weights as a version of the registered model, once; and it may become the challenger."""
    from mlflow.exceptions import MlflowException

    try:
        run.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    there = registered(run, name, weights_md5)
    if there is not None:
        challenge(run.client, there)
        return
    holding = f"tags.`{WEIGHTS}` = '{weights_md5}'"
    # A filter by status finds nothing in the SQL store, which keeps it as a number.
    logged = run.client.search_logged_models([run.experiment], holding)
    found = [model for model in logged if str(model.status) == "READY"]
    if not found:
        print(
            f"tracking: no run holds the network of {name} {weights_md5}; `citylens sync` makes it and registers it",
            file=sys.stderr,
        )
        return
    model = found[0]
    described = (
        {WEIGHTS: weights_md5}
        | _source_tags(run, model.source_run_id)
        | {key: str(value) for key, value in tags.items()}
    )
    # The registry looks the model up at MLflow's default address, whatever the client's: another in a copy of the folder.
    with places.setting("MLFLOW_TRACKING_URI", run.client.tracking_uri):
        version = run.client.create_model_version(
            name, f"models:/{model.model_id}", model.source_run_id, tags=described, model_id=model.model_id
        )
    challenge(run.client, version)


def registered(run: MlflowRun, name: str, weights_md5: str) -> ModelVersion | None:
    """The version of the registered model that has these weights."""
    versions_there = run.client.search_model_versions(f"name = '{name}'")
    return next((version for version in versions_there if version.tags.get(WEIGHTS) == weights_md5), None)


def challenge(client: MlflowClient, version: ModelVersion) -> None:
    """The alias `challenger` to a version just registered, unless challenger or champion is its retrained twin and no worse.

    Twins differ by their seed alone; the better one is that with the higher accuracy on the validation images. So the
    challenger is always of the study registered last, and test images choose nothing.
    """
    aliases = client.get_registered_model(version.name).aliases
    held = {alias: str(aliases[alias]) for alias in (CHAMPION, CHALLENGER) if alias in aliases}
    if held.get(CHAMPION) == str(version.version):
        return
    for number in held.values():
        rival = client.get_model_version(version.name, number)
        if _recipe(client, rival) == _recipe(client, version) and _validated(client, rival) >= _validated(
            client, version
        ):
            return
    client.set_registered_model_alias(version.name, CHALLENGER, str(version.version))


def _recipe(client: MlflowClient, version: ModelVersion) -> tuple[dict[str, str], dict[str, str]]:
    """All that made a network but its seed: settings, and the versions of data and code."""
    data = client.get_run(str(version.run_id)).data
    made_from = ("dvc.dep.", "citylens.dvc.code")
    return data.params, {name: value for name, value in data.tags.items() if name.startswith(made_from)}


def _validated(client: MlflowClient, version: ModelVersion) -> float:
    """Accuracy on the validation images after the epoch whose weights were kept; below all others where it is not known."""
    history = {
        name: {
            metric.step: metric.value for metric in client.get_metric_history(str(version.run_id), f"validation_{name}")
        }
        for name in ("accuracy", "loss")
    }
    if not history["accuracy"]:
        return -math.inf
    losses = history["loss"]
    best = client.get_run(str(version.run_id)).data.params.get("train.keep") == "best" and losses
    kept = min(losses, key=losses.__getitem__) if best else max(history["accuracy"])
    return float(history["accuracy"].get(kept, -math.inf))


def _source_tags(run: MlflowRun, source: str | None) -> dict[str, str]:
    """What the run that trained the network says of the versions of its data and code."""
    wanted = ("dvc.", "citylens.", "mlflow.source.git.commit")
    if source is None:
        return {}
    return {name: value for name, value in run.client.get_run(source).data.tags.items() if name.startswith(wanted)}
