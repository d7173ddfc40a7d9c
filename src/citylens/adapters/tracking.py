"""MLflow's side of the tracker: runs that match entries of dvc.lock, and the process that makes them beside a stage."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.adapters import git, masking, parents, places, versions

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


def serve(path: str, idle: str) -> None:
    """Forks a process for each stage that connects to standard input, a listening socket, until none has for a while."""
    places.hush()
    with contextlib.suppress(Exception):  # whoever is forked fails in the same way, and says so
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")  # opens nothing that a fork must not share
    listener = socket.socket(fileno=0)
    listener.settimeout(float(idle))
    busy = True
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            with places.locked(Path(path).with_name("tracking.lock")):  # no stage is looking for the server now
                if not busy and not select.select([listener], [], [], 0)[0]:
                    Path(path).unlink()
                    return
            busy = _children()
        else:
            if os.fork() == 0:
                _attend(connection)
            connection.close()
            busy = True


def _children() -> bool:
    """Whether any are still at work."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _attend(connection: socket.socket) -> None:
    """The process beside one stage, whose standard error comes with the first byte."""
    try:
        _, (stderr,), *_ = socket.recv_fds(connection, 1, 1)
        os.dup2(stderr, 2)
        os.dup2(connection.fileno(), 0)
        main()
    finally:
        os._exit(0)  # what the server holds is not ours to put away


def main() -> None:
    """Makes the run that lines on standard input, a socket, describe; says once what failed, and then takes the rest in silence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage, which then says how the run ended
    places.hush()
    _say(str(os.getpid()))
    lines = _lines()
    try:
        _work(lines)
    except Exception as error:
        reason = masking.masked(" ".join(str(error).split())) or type(error).__name__
        print(f"tracking: {reason[:300]}; the results are on disk, `citylens sync` logs them later", file=sys.stderr)
    for _ in lines:
        pass
    _say("done")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the stage is gone
        os.write(0, text.encode())


def _lines() -> Iterator[str]:
    with contextlib.suppress(ConnectionResetError):  # a stage that was killed may not have read what we said
        yield from sys.stdin


def _work(lines: Iterator[str]) -> None:
    _, (stage, experiment, address, environment, folder), _ = json.loads(next(lines))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    entry = versions.begun(stage)
    run = begin(places.place(address), experiment, stage, {})
    try:
        if entry is not None:
            run.describe(entry)
        for line in lines:
            method, arguments, keywords = json.loads(line)
            if method == "end":
                if arguments == ["FINISHED"] and entry is not None:
                    run.conclude(versions.finished(entry))
                run.end(*arguments)
                return
            getattr(run, method)(*arguments, **keywords)
    except Exception:
        with contextlib.suppress(Exception):
            run.end("FAILED")
        raise
    run.end("KILLED")  # the stage is gone without a word


if __name__ == "__main__":
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
