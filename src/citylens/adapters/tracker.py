"""Runs of the stages in MLflow, as a stage sees them.

A stage writes what it has to say to a process beside it, which imports MLflow (some seconds) while the stage works, and
which notices when the stage dies. Tracking is best effort: what fails there costs one warning, never the stage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from citylens.settings import Settings

PATIENCE = 900  # seconds for what is still to be sent when the stage has ended; a network on its way to a far server


class Run(Protocol):
    """What a stage can log. Nothing here raises for what fails in the tracking."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings beside those that dvc.yaml names, which every run has; nested mappings become dotted names."""

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, at a step such as the epoch; nested mappings become dotted names, what is no number is left out."""

    def table(self, path: Path | str) -> None:
        """A CSV file, as it is and as a table that MLflow's pages show."""

    def file(self, path: Path | str, folder: str = "") -> None:
        """A file, or all files of a folder."""

    def figure(self, path: Path | str) -> None:
        """A PNG image."""

    def dataset(self, name: str, digest: str) -> None:
        """A version of data that the run used, beside the stage's dependencies; its digest has 36 characters at most."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Texts by name."""

    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None:
        """A network's safetensors file as a model that MLflow loads, serves and registers."""

    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
        """The logged model with these weights as a version of the registered model `name`; twice gives one version."""


class Silent:
    """Logs nothing."""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None: ...
    def table(self, path: Path | str) -> None: ...
    def file(self, path: Path | str, folder: str = "") -> None: ...
    def figure(self, path: Path | str) -> None: ...
    def dataset(self, name: str, digest: str) -> None: ...
    def tags(self, values: Mapping[str, Any]) -> None: ...
    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None: ...
    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None: ...


class Beside:
    """Hands everything to the process beside the stage, one line of JSON a call: [method, [arguments], {keywords}]."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe: IO[str] | None = pipe

    def _send(self, method: str, *arguments: Any, **keywords: Any) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.write(json.dumps([method, arguments, keywords], default=_plain) + "\n")
            self._pipe.flush()
        except OSError:  # the process beside has ended, and said why
            self._pipe = None

    def params(self, values: Mapping[str, Any]) -> None:
        self._send("params", values)

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        self._send("metrics", values, step)

    def table(self, path: Path | str) -> None:
        self._send("table", path)

    def file(self, path: Path | str, folder: str = "") -> None:
        self._send("file", path, folder)

    def figure(self, path: Path | str) -> None:
        self._send("figure", path)

    def dataset(self, name: str, digest: str) -> None:
        self._send("dataset", name, digest)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._send("tags", values)

    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None:
        self._send("network", weights, key=key, cities=cities, size=size, metrics=metrics)

    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
        self._send("register", name, weights_md5, tags)

    def end(self, status: str) -> None:
        """The last line; status is FINISHED, FAILED or KILLED."""
        self._send("end", status)


def _plain(value: Any) -> Any:
    """What json does not know: numpy's numbers as numbers, all else, such as paths, as text."""
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def start(stage: str, settings: Settings) -> Iterator[Run]:
    """A run of a DVC stage (`train@vgg11-0`) that ends with the block.

    An exception of the block marks the run FAILED, Ctrl-C marks it KILLED, and either goes on its way.
    """
    if address(settings) == "off":
        yield Silent()
        return
    command = [
        sys.executable,
        "-m",
        "citylens.adapters.tracking",
        stage,
        json.dumps([settings.tracking.experiment, address(settings)]),
    ]
    source = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdin is not None
    run = Beside(process.stdin)
    try:
        yield run
    except BaseException as error:
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        run.end("FINISHED")
    finally:
        _wait(process)


def _wait(process: subprocess.Popen[str]) -> None:
    try:
        process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
    if process.returncode:
        print(
            f"tracking: ended with status {process.returncode}; the results are on disk, `citylens sync` logs them later",
            file=sys.stderr,
        )


def address(settings: Settings) -> str | None:
    """Where runs go: CITYLENS_TRACKING before params.yaml's; `off` for nowhere, None for the database in the project's folder."""
    return os.environ.get("CITYLENS_TRACKING") or settings.tracking.address
