"""Runs in MLflow: one per entry of dvc.lock, with its parameters, data versions, numbers, tables and figures."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.io.files import read_table
from citylens.io.logged import Logged
from citylens.nets.names import key
from citylens.tracking import models, pages, stores
from citylens.tracking.datasets import PREPARED, Split, version
from citylens.tracking.stores import Experiment
from citylens.versions import git
from citylens.versions.pipeline import Entry, digest, module_and_item, recorded, rendered_from

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

FINGERPRINT = "citylens.fingerprint"
RENDERED_FROM = f"dvc.dep.{PREPARED}.rendered_from"
"""The tag with a digest of what the study's images were rendered from, see `pipeline.rendered_from`."""
PARENT = "mlflow.parentRunId"
FIRST = "validation_accuracy"
"""The metric that the page Compare draws at first: it is the one that was logged first."""
BATCH = 100  # parameters or tags that MLflow takes at once
_FOREIGN = re.compile(r"[^/\w.\- :]")


@dataclass(frozen=True)
class Run:
    """A run that can be written to. Every method raises what MLflow raises."""

    experiment: Experiment
    id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings; nested mappings become dotted names."""
        import mlflow

        texts = {_name(name): _text(value)[:6000] for name, value in _flat(values)}
        for part in _parts(texts):
            mlflow.log_params(part, run_id=self.id)

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        for part in _parts({_name(name): str(value)[:8000] for name, value in values.items()}):
            self.experiment.client.log_batch(self.id, tags=[RunTag(*tag) for tag in part.items()])

    def metrics(
        self, values: Mapping[str, Any], step: int = 0, model: str | None = None, data: Split | None = None
    ) -> None:
        """Log numbers at a step; nested mappings become dotted names, and what is not a number is left out.

        Args:
            model: id of the logged model that the numbers belong to.
            data: the images on which they were measured.
        """
        import mlflow

        # A slash would open a section of its own on the page of charts.
        numbers = {_name(n).replace("/", "_"): float(value) for n, value in _flat(values) if isinstance(value, Real)}
        of = data.as_input().dataset if data else None
        for part in _parts(numbers):
            mlflow.log_metrics(part, step, run_id=self.id, model_id=model, dataset=of)

    def table(self, path: Path) -> None:
        """Log a CSV file, and the same as a table that MLflow's pages show."""
        self.file(path, "tables")
        self.experiment.client.log_table(self.id, read_table(path), f"tables/{path.stem}.json")

    def file(self, path: Path, folder: str | None = None) -> None:
        """Log a file, or a folder with all its files."""
        if path.is_dir():
            self.experiment.client.log_artifacts(self.id, str(path), f"{folder or ''}/{path.name}".lstrip("/"))
        else:
            self.experiment.client.log_artifact(self.id, str(path), folder)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        self.experiment.client.set_terminated(self.id, status)


def begin(experiment: Experiment, name: str, tags: Mapping[str, str], parent: str | None = None) -> Run:
    """Make a run of a stage.

    Args:
        name: the stage's name in dvc.yaml, such as `train@vgg11-0`, or that of a command.
        tags: `mlflow.runName` among them names the run otherwise.
        parent: id of the run that MLflow's pages fold this one under.
    """
    from mlflow.tracking.context.registry import resolve_tags

    stage, item = module_and_item(name)
    command = " ".join(map(str, ("citylens", stage, *item)))
    own = {"citylens.stage": stage, "citylens.name": name, "mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    own |= _code_version() | ({PARENT: parent} if parent else {})
    own |= {"mlflow.runColor": pages.colour(*item)} if stage == "train" else {}
    title = tags.get("mlflow.runName", name)
    run = opened(
        experiment, experiment.client.create_run(experiment.id, tags=resolve_tags(own | dict(tags)), run_name=title)
    )
    if note := pages.note(stage, experiment.id, run.id):
        run.tags({"mlflow.note.content": note})
    return run


def opened(experiment: Experiment, run: MlflowRun) -> Run:
    """Return a run of MLflow's as one that can be written to.

    Raises:
        ValueError: a server on another machine names a folder of this one for the run's files.
    """
    stores.local_folder(run.info.artifact_uri, experiment.store.address)
    return Run(experiment, run.info.run_id)


def delete_twin(experiment: Experiment, twin: MlflowRun, kept: str) -> None:
    """Delete a run that was made twice, with its network; the runs under it move under the run that is kept."""
    from mlflow.exceptions import MlflowException

    for child in experiment.client.search_runs([experiment.id], f"tags.`{PARENT}` = '{twin.info.run_id}'"):
        with contextlib.suppress(MlflowException):  # The other machine may have deleted it.
            experiment.client.set_tag(child.info.run_id, PARENT, kept)
    with contextlib.suppress(MlflowException):
        for output in twin.outputs.model_outputs if twin.outputs else []:
            experiment.client.delete_logged_model(output.model_id)
        experiment.client.delete_run(twin.info.run_id)


def write_results(run: Run, name: str, logged: Logged, splits: Mapping[str, Split]) -> None:
    """Log what a stage found: numbers, tables, figures and its network.

    Args:
        name: the stage's name in dvc.yaml.
        splits: the splits of data/prepare, by context.
    """
    from mlflow.exceptions import MlflowException

    _, item = module_and_item(name)
    own, test = key(*item) if len(item) == 2 else "", splits.get("test")
    used = [splits[context].as_input() for context in logged.splits if context in splits]
    if used:
        try:
            run.experiment.client.log_inputs(run.id, used)
        except MlflowException:  # Another machine has made the same dataset at this moment. Now it is there.
            run.experiment.client.log_inputs(run.id, used)
    if logged.weights is not None:
        models.log_network(run.experiment, run.id, logged.weights, own)
    known = models.logged_networks(run.experiment, logged.networks)
    run.metrics(logged.metrics, data=test)
    for network, numbers in logged.networks.items():
        end = "" if network == own else f" {network}"  # The run of one network needs no name behind its numbers.
        run.metrics({f"{number}{end}": value for number, value in numbers.items()}, model=known.get(network), data=test)
    if logged.weights is None and known:
        from mlflow.entities import LoggedModelInput

        run.experiment.client.log_inputs(run.id, models=[LoggedModelInput(model) for model in known.values()])
    for path in logged.tables:
        run.table(path)
    for path in logged.figures:
        run.file(path, "figures")
    for path in logged.files:
        run.file(path)


def write_history(run: Run, logged: Logged, seen: Collection[int] = ()) -> None:
    """Log the numbers of all epochs but those that were seen."""
    for row in [] if logged.history is None else logged.history.to_dict("records"):
        number = int(row.pop("epoch"))
        if number not in seen:
            write_epoch(run, number, row)


def write_epoch(run: Run, number: int, values: Mapping[str, Any]) -> None:
    """Log the numbers of an epoch."""
    run.metrics({name: values[name] for name in sorted(values, key=lambda name: name != FIRST)}, step=number)


def write_item(run: Run, item: tuple[Any, ...], data: str | None) -> None:
    """Log what tells a run from its neighbours: network, seed and version of the data.

    Args:
        data: md5 of data/prepare, None for a stage that does not read it.
    """
    named = {"network": item[0], "seed": item[1]} if len(item) == 2 else {}
    run.params(named | ({"data": version(data)} if data else {}))


def write_origin(run: Run, entry: Entry) -> None:
    """Log what a stage's results were made from: parameters, and versions of data and code.

    The fingerprint comes last: a run that has one is complete.
    """
    _, item = module_and_item(entry.name)
    code = {path: md5 for path, md5 in entry.deps.items() if path.startswith("src/")}
    write_item(run, item, entry.deps.get(PREPARED))
    run.params({name: value for values in entry.params.values() for name, value in values.items()})
    run.tags({f"dvc.dep.{path}": md5 for path, md5 in entry.deps.items() if path not in code})
    if PREPARED in entry.deps:
        run.tags({RENDERED_FROM: rendered_from(recorded())})
    run.tags({f"dvc.out.{path}": md5 for path, md5 in entry.outs.items()})
    run.tags({"citylens.dvc.code": digest(code), FINGERPRINT: entry.fingerprint()})


def _code_version() -> dict[str, str]:
    state = git.state()
    tags = {"mlflow.source.git.commit": state["commit"], "citylens.git.dirty": state["dirty"]} if state else {}
    return tags | ({"dvc.experiment": os.environ["DVC_EXP_NAME"]} if os.environ.get("DVC_EXP_NAME") else {})


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _parts(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rest = iter(values.items())
    while part := dict(islice(rest, BATCH)):
        yield part


def _name(name: str) -> str:
    """MLflow refuses most punctuation in names, and more than 250 characters."""
    return _FOREIGN.sub("_", str(name))[:250]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)
