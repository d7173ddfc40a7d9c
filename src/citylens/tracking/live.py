"""Logs a training while it runs: curves, system metrics and, at its end, the network.

Tracking must not harm a training: a store that is down or slow costs seconds and one warning, and `register` logs later what is missing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil

from citylens.io import md5s
from citylens.io.logged import Logged
from citylens.io.masking import masked
from citylens.io.yaml_files import read_yaml
from citylens.nets.names import key
from citylens.settings.schema import Settings
from citylens.tracking import datasets, runs, stores
from citylens.versions import pipeline

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

PROCESS = "citylens.process"
SAMPLE = 2  # seconds between two samples of the system metrics


class LiveRun:
    """A training's run in MLflow; after the first failure it logs nothing more."""

    def __init__(self, settings: Settings, network: str, seed: int) -> None:
        self.name = f"train@{key(network, seed)}"
        self._run: runs.Run | None = None
        self._monitor: SystemMetricsMonitor | None = None
        self._seen: set[int] = set()
        self._safely(partial(self._begin, settings, network, seed))

    def _begin(self, settings: Settings, network: str, seed: int) -> None:
        experiment = stores.connect(stores.store(stores.address(settings.tracking)), settings.tracking.experiment)
        run = runs.begin(experiment, self.name, {PROCESS: this_process()})
        self._run = run
        runs.write_item(run, (network, seed), datasets.prepared(pipeline.recorded()))
        run.params(_parameters(self.name))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the numbers of an epoch."""
        if self._run:
            self._safely(partial(self._epoch, self._run, number, values))

    def _epoch(self, run: runs.Run, number: int, values: Mapping[str, float]) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        runs.write_epoch(run, number, values)
        self._seen.add(number)
        # MLflow's page Compare opens with the metric logged first: not with the processor's load.
        if self._monitor is None:
            address = run.experiment.store.address
            self._monitor = SystemMetricsMonitor(run.id, sampling_interval=SAMPLE, tracking_uri=address)
            self._monitor.start()

    def finish(self, logged: Logged) -> None:
        """Log the final numbers and the network; the run then waits for `register` to log what it was made from."""
        with stores.timeout(stores.LATER_ANSWERS):
            self._safely(partial(self._finish, logged))
        self.end("FINISHED")

    def _finish(self, logged: Logged) -> None:
        if self._run:
            md5 = datasets.prepared(pipeline.recorded())
            runs.write_history(self._run, logged, self._seen)  # the epochs before a stop, of a continued training
            runs.write_results(self._run, self.name, logged, datasets.splits(md5) if md5 else {})
            outs = pipeline.declared()[self.name].outs
            self._run.tags({f"dvc.out.{path}": md5s.of(path) for path in outs})

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        if self._monitor:
            with contextlib.suppress(Exception):
                self._monitor.finish()
        if self._run:
            self._safely(partial(self._run.end, status))

    def _safely(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:
            self._run = None
            reason = masked(" ".join(str(error).split()))[:300] or type(error).__name__
            print(f"tracking: {reason}; the training goes on, and `citylens sync` logs it later", file=sys.stderr)


@contextmanager
def training(settings: Settings, network: str, seed: int) -> Iterator[LiveRun | None]:
    """Give a training's run, which ends as FAILED or KILLED if the block raises; None where tracking is off."""
    if stores.address(settings.tracking) == stores.OFF:
        yield None
        return
    with stores.timeout(stores.FIRST_ANSWER):
        run = LiveRun(settings, network, seed)
        try:
            yield run
        except BaseException as error:
            run.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise


def _parameters(stage: str) -> dict[str, object]:
    """Return the values of the parameters that dvc.yaml names for a stage."""
    values = read_yaml("params.yaml")
    declared = pipeline.declared()[stage].params
    return {name: pipeline.look_up(values, name) for names in declared.values() for name in names}


def this_process() -> str:
    """Return a text that tells this process from any other."""
    return f"{platform.node()} {os.getpid()} {psutil.Process().create_time()}"


def is_gone(process: str) -> bool:
    """Return whether a process of this machine has ended; a process of another machine counts as running."""
    node, number, created = process.rsplit(" ", 2)
    if node != platform.node():
        return False
    try:
        return psutil.Process(int(number)).create_time() != float(created)
    except psutil.NoSuchProcess:
        return True
