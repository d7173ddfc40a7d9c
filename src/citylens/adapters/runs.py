"""MLflow's runs, each of which matches an entry of dvc.lock."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.adapters import git, parents, places, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

CODE = "src/"
LINKED_FROM = 1 << 20  # bytes; smaller files are copied, since an editor may change those in place
BATCH = 100  # params and tags that MLflow takes at once; it takes 1000 metrics
_FOREIGN = re.compile(r"[^/\w.\- :]")


@dataclass
class MlflowRun:
    """A run that is going on; every method raises what MLflow raises.

    `artifacts` is the run's folder where that is on this file system; `stage` and `parent` are those of a reproduction's run.
    """

    client: MlflowClient
    experiment: str
    id: str
    artifacts: Path | None
    stage: str = ""
    parent: MlflowRun | None = None
    _logged: dict[Any, Any] = field(default_factory=dict)

    def params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        new = {_name(name): _text(value) for name, value in _flat(values) if _name(name) not in self._logged}
        self._logged |= new
        entities = [Param(name, text[:6000]) for name, text in new.items()]
        for start in range(0, len(entities), BATCH):
            self.client.log_batch(self.id, params=entities[start : start + BATCH])

    def metrics(self, values: Mapping[str, Any], step: int | None = None, model: str | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = {_name(name): float(value) for name, value in _flat(values) if isinstance(value, Real)}
        # A stage logs as it goes and once more when all lies on disk: a value that is there already would draw a second point.
        new = {name: value for name, value in numbers.items() if self._logged.get((name, step, model)) != value}
        self._logged |= {(name, step, model): value for name, value in new.items()}
        entities = [Metric(name, value, now, step or 0, model_id=model) for name, value in new.items()]
        for start in range(0, len(entities), 10 * BATCH):
            self.client.log_batch(self.id, metrics=entities[start : start + 10 * BATCH])

    def tags(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        entities = [RunTag(_name(name), str(value)[:8000]) for name, value in values.items()]
        for start in range(0, len(entities), BATCH):
            self.client.log_batch(self.id, tags=entities[start : start + BATCH])

    def table(self, path: Path | str) -> None:
        from citylens.adapters.files import read_table

        self.file(path, "tables")
        self.client.log_table(self.id, read_table(path), f"tables/{Path(path).stem}.json")

    def figure(self, path: Path | str) -> None:
        self.file(path, "figures")

    def file(self, path: Path | str, folder: str = "") -> None:
        path = Path(path)
        if path.is_dir():
            for part in sorted(path.rglob("*")):
                if part.is_file():
                    self.file(part, "/".join(filter(None, (folder, path.name, *part.relative_to(path).parent.parts))))
        elif self.artifacts is not None and path.stat().st_size >= LINKED_FROM:
            places.link(path, self.artifacts / folder / path.name)
        else:
            with places.patient():
                self.client.log_artifact(self.id, str(path), folder or None)

    def dataset(self, name: str, digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput

        data = Dataset(name, digest[:36], "dvc", json.dumps({"path": name, "md5": digest}))
        self.client.log_inputs(self.id, [DatasetInput(data)])

    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None:
        from citylens.adapters import models

        model = models.log_network(self, Path(weights), key, tuple(cities), size)
        self.metrics(metrics, model=model)

    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
        from citylens.adapters import models

        models.register(self, name, weights_md5, tags)

    def describe(self, entry: versions.Entry) -> None:
        """Parameters, tags and datasets of a dvc.lock entry, of which the results may still be missing."""
        self.params({key: value for values in entry.params.values() for key, value in values.items()})
        code = {path: md5 for path, md5 in entry.deps.items() if path.startswith(CODE)}
        data = {path: md5 for path, md5 in entry.deps.items() if path not in code}
        self.tags({f"dvc.dep.{path}": md5 for path, md5 in data.items()} | {"citylens.dvc.code": versions.digest(code)})
        for path, md5 in data.items():
            self.dataset(path, md5 or "missing")

    def conclude(self, entry: versions.Entry) -> None:
        """Marks the run as the one of this entry, all of whose results are there."""
        self.tags(
            {f"dvc.out.{path}": md5 for path, md5 in entry.outs.items()} | {"citylens.fingerprint": entry.fingerprint()}
        )

    def end(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED; its parent, which gets the final numbers, with it."""
        self.client.set_terminated(self.id, status)
        if self.parent is not None:
            if status == "FINISHED":
                self.parent.metrics(parents.metrics(self.stage, self._final()))
            self.parent.end(status)

    def _final(self) -> dict[str, float]:
        """Metrics of the run as a whole: of no step, and not of a model."""
        return {
            key[0]: value for key, value in self._logged.items() if isinstance(key, tuple) and key[1:] == (None, None)
        }


def begin(where: places.Place, experiment: str, stage: str, tags: Mapping[str, str]) -> MlflowRun:
    """A new run of a DVC stage, with the tags that name it, under the run of its reproduction."""
    client, identity = places.connect(where, experiment)
    module, item = versions.module_and_item(stage)
    named = {"citylens.stage": module, "citylens.name": stage} | dict(tags)
    if len(item) == 2:
        named |= {"citylens.network": item[0], "citylens.seed": str(item[1])}
    code = _code_version()
    named |= code
    above = _parent(client, identity, stage, code)
    if above is not None:
        named[parents.PARENT] = above.id
    run = client.create_run(identity, run_name=stage, tags=named)
    folder = places.local_folder(run.info.artifact_uri, where.address)
    return MlflowRun(client, identity, run.info.run_id, folder, stage, above)


def _parent(client: MlflowClient, experiment: str, stage: str, code: Mapping[str, str]) -> MlflowRun | None:
    found = parents.parent(client, experiment, stage, code)
    if found is None:
        return None
    run = MlflowRun(client, experiment, found[0], None)
    if found[1]:
        run.params(versions.read_yaml("params.yaml") or {})
    return run


def resume(client: MlflowClient, experiment: str, run_id: str) -> MlflowRun:
    """A run that has ended, to be added to."""
    folder = places.local_folder(client.get_run(run_id).info.artifact_uri, client.tracking_uri)
    return MlflowRun(client, experiment, run_id, folder)


def _code_version() -> dict[str, str]:
    state = git.state()
    tags = {"mlflow.source.git.commit": state["commit"], "citylens.git.dirty": state["dirty"]} if state else {}
    if os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = os.environ["DVC_EXP_NAME"]
    return tags


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _name(name: str) -> str:
    """MLflow refuses most punctuation in names, and more than 250 characters."""
    return _FOREIGN.sub("_", str(name))[:250]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
