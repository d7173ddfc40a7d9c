"""Networks as MLflow models, and their versions in the registry. A model is the weights and the project's code; nothing is pickled."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.io import md5s
from citylens.tracking import stores
from citylens.tracking.stores import Experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

LOADER = "citylens.tracking.served"
"""The module whose `_load_pyfunc` makes the network from the weights."""
NEEDED = ("mlflow", "torch", "torchvision", "safetensors", "numpy", "pandas", "opencv-python-headless", "pyyaml")
WEIGHTS = "citylens.weights.md5"
VERSIONS = "mlflow.modelVersions"
TRIES = 3
"""How often registering is tried, at most."""
CHAMPION, CHALLENGER = "champion", "challenger"
CROWNED = "citylens.crowned"
"""The tag of a version that is or was champion."""
EXAMPLE_SIDE = 32  # pixels


def log_network(experiment: Experiment, run: str, weights: Path, key: str) -> str:
    """Log a trained network as a model of the run, with signature, input example and requirements.

    Args:
        run: id of the run.
        weights: the network's safetensors file.
        key: the trained network's name, such as `vgg11-0`.

    Returns:
        The model's id.
    """
    import mlflow
    import numpy as np

    from citylens.nets import checkpoints

    _, card = checkpoints.read_network(weights)
    package = Path(__file__).resolve().parents[1]
    with mlflow.start_run(run_id=run):
        info = mlflow.pyfunc.log_model(
            name=key,
            loader_module=LOADER,
            data_path=str(weights),
            code_paths=[str(package)],
            signature=signature(card.cities),
            input_example=np.zeros((1, EXAMPLE_SIDE, EXAMPLE_SIDE, 3), np.uint8),
            pip_requirements=[f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in NEEDED],
            model_type=card.network,
            params={"network": card.network, "size": card.size, "resize": card.resize},
            tags={
                WEIGHTS: md5s.of(weights),
                "citylens.key": key,
                "citylens.cities": json.dumps(card.cities, ensure_ascii=False),
            },
        )
    model = experiment.client.get_logged_model(info.model_id)
    folder = stores.local_folder(model.artifact_location, experiment.store.address)
    if folder is not None:
        link(weights, folder / "data" / weights.name)
    return str(model.model_id)


def link(source: Path, target: Path) -> None:
    """Make a hard link to a file, which costs no space; or a copy, where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy(source, target)


def signature(cities: tuple[str, ...]) -> ModelSignature:
    """Return the model's signature: images in; city, its probabilities, mask and whether that is dead out.

    MLflow casts what comes over HTTP to the dtype of the signature, so that 0.5 would become 0. It passes objects on as they are,
    and `Served.predict` checks them.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "city"),
        *(ColSpec(DataType.float, f"probability of {city}") for city in cities),
    ]
    columns += [ColSpec(Array(Array(DataType.float)), "mask"), ColSpec(DataType.boolean, "dead")]
    return ModelSignature(Schema([TensorSpec(np.dtype(object), (-1,))]), Schema(columns))


def logged_networks(experiment: Experiment, keys: Iterable[str]) -> dict[str, str]:
    """Return the ids of the logged models that hold the workspace's trained networks, by the networks' names."""
    weights = {key: Path("models/train") / key / "network.safetensors" for key in keys}
    found = {key: _holding(experiment, md5s.of(path)) for key, path in weights.items() if path.exists()}
    return {key: models[0].model_id for key, models in found.items() if models}


def _holding(experiment: Experiment, weights_md5: str) -> list[Any]:
    """Return the logged models with these weights, the oldest first."""
    logged = experiment.client.search_logged_models([experiment.id], f"tags.`{WEIGHTS}` = '{weights_md5}'")
    # A filter by status finds nothing in the SQL store, which keeps the status as a number.
    ready = [model for model in logged if str(model.status) == "READY"]
    return sorted(ready, key=lambda model: (model.creation_timestamp, model.model_id))


def register(experiment: Experiment, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
    """Make the logged model with these weights a version of the registered model, once; it may become the challenger.

    Two machines may do so at once: a server numbers versions, the first one stays, and its twins are deleted. A step fails where the
    other machine has just deleted what it names, or where the server's database locks; then all is looked at again.
    """
    from mlflow.exceptions import MlflowException

    client = experiment.client
    with stores.made_once():
        client.create_registered_model(name, description=f"{name.rpartition('-')[2]}: one version per trained network.")
    for left in reversed(range(TRIES)):
        try:
            there = registered(client, name, weights_md5) or _made(experiment, name, weights_md5, tags)
            if there:
                _name_version(client, there)
                challenge(client, there)
        except MlflowException:
            if not left:
                raise
            time.sleep(1)
        else:
            return


def _made(experiment: Experiment, name: str, weights_md5: str, tags: Mapping[str, Any]) -> ModelVersion | None:
    """Make a version; return the first one with these weights, or None where no run holds them."""
    client, there = experiment.client, None
    while there is None:  # The model may go meanwhile, with the younger of two runs.
        found = _holding(experiment, weights_md5)
        if not found:
            print(
                f"tracking: no run holds the network of {name} {weights_md5}; `citylens sync` logs it", file=sys.stderr
            )
            return None
        model = found[0]
        client.create_model_version(
            name,
            f"models:/{model.model_id}",
            model.source_run_id,
            tags={WEIGHTS: weights_md5}
            | _source_tags(client, model.source_run_id)
            | {key: str(value) for key, value in tags.items()},
            model_id=model.model_id,
            description=f"{tags['citylens.key']}, test accuracy {tags['citylens.accuracy']:.1%}; its run names data, code and settings.",
        )
        there = _only(client, name, weights_md5)
    return there


def _name_version(client: MlflowClient, version: ModelVersion) -> None:
    """Name the version at its logged model. MLflow's pages need this tag; its client writes it in `register_model` alone."""
    model = client.get_logged_model(_model_of(version))
    named, own = json.loads(model.tags.get(VERSIONS, "[]")), {"name": version.name, "version": version.version}
    if own not in named:
        others = [one for one in named if one["name"] != version.name]
        client.set_logged_model_tags(model.model_id, {VERSIONS: json.dumps([*others, own])})


def registered(client: MlflowClient, name: str, weights_md5: str) -> ModelVersion | None:
    """Return the first version of the registered model that has these weights and whose logged model is there, or None."""
    return next((version for version in _twins(client, name, weights_md5) if _is_whole(client, version)), None)


def _only(client: MlflowClient, name: str, weights_md5: str) -> ModelVersion | None:
    """Return what `registered` does; delete the other versions with these weights, but for those that are or were champion."""
    from mlflow.exceptions import MlflowException

    first = registered(client, name, weights_md5)
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if first is None:
        return None
    for twin in _twins(client, name, weights_md5):
        if str(twin.version) not in (str(first.version), str(champion)) and CROWNED not in twin.tags:
            with contextlib.suppress(MlflowException):  # The other machine may have deleted it.
                client.delete_model_version(name, str(twin.version))
    return first


def _twins(client: MlflowClient, name: str, weights_md5: str) -> list[ModelVersion]:
    """Return all versions with these weights, in the order of their numbers."""
    there = client.search_model_versions(f"name = '{name}'")
    return sorted((one for one in there if one.tags.get(WEIGHTS) == weights_md5), key=lambda one: int(one.version))


def _is_whole(client: MlflowClient, version: ModelVersion) -> bool:
    """Return whether the version's logged model is there; it goes with the younger of two runs made at once."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_logged_model(_model_of(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _model_of(version: ModelVersion) -> str:
    return str(version.source).removeprefix("models:/")


def challenge(client: MlflowClient, version: ModelVersion) -> None:
    """Give the alias `challenger` to a version just registered, unless challenger or champion is its retrained twin and no worse.

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
    settings = {name: value for name, value in data.params.items() if name != "seed"}
    return settings, {name: value for name, value in data.tags.items() if name.startswith(made_from)}


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


def _source_tags(client: MlflowClient, source: str | None) -> dict[str, str]:
    """What the run that trained the network says of the versions of its data and code."""
    wanted = ("dvc.dep.", "citylens.dvc.code", "citylens.git.dirty", "mlflow.source.git.commit")
    if source is None:
        return {}
    return {name: value for name, value in client.get_run(source).data.tags.items() if name.startswith(wanted)}
