"""MLflow as a projection of dvc.lock: whatever runs are missing there are made from what lies on disk.

A stage that DVC restores (`dvc pull`, the run cache) does not run, and so logs nothing; a server that was down has missed what
was logged. Each entry of dvc.lock has a fingerprint, and the run that belongs to it carries the same.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens import settings as project
from citylens.adapters import masking, places, runs, tracker, versions
from citylens.adapters.versions import read_yaml
from citylens.settings import InputError, Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient


Recorded = Mapping[str, versions.Entry]


def sync(settings: Settings) -> list[str]:
    """Makes the missing runs and registry entries; a second time makes none.

    Returns:
        the names of the stages whose runs were made. Those whose results are not in the workspace are printed.

    Raises:
        InputError: tracking is off, or the store cannot be reached.
    """
    address = tracker.address(settings)
    if address == "off":
        raise InputError("CITYLENS_TRACKING is off; allowed for sync: an MLflow address, or unset")
    where, experiment = places.place(address), settings.tracking.experiment
    places.hush()
    with reached(where):
        client, identity = places.connect(where, experiment)
        recorded = versions.recorded()
        entries = [entry for entry in _tracked(recorded) if not _run_of(client, identity, entry)]
    made = [entry.name for entry in entries if _here(entry) and _make(where, settings, entry, recorded)]
    if "register" not in made:
        with reached(where):
            _register(client, identity, recorded)
    return made


@contextmanager
def reached(where: places.Place) -> Iterator[None]:
    """MLflow's failures, as what the user can do something about; who asks for a sync would rather wait than ask again."""
    try:
        with places.patient():
            yield
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = masking.masked(" ".join(str(error).split()))[:300]
        raise InputError(f"tracking at {masking.masked(where.address)} failed: {reason}") from None


def _tracked(recorded: Recorded) -> list[versions.Entry]:
    """Entries of dvc.lock whose stage is in dvc.yaml and has something to track, in the order of dvc.yaml."""
    known = (recorded[name] for name in versions.declared() if name in recorded)
    return [entry for entry in known if _tracks(versions.module_and_item(entry.name)[0])]


def _tracks(module: str) -> bool:
    """Whether a stage's module defines `track`; read, not imported, since some import for seconds."""
    found = importlib.util.find_spec(f"citylens.stages.{module}")
    if found is None or found.origin is None:
        return False
    tree = ast.parse(Path(found.origin).read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == "track" for node in tree.body)


def _run_of(client: MlflowClient, experiment: str, entry: versions.Entry) -> str | None:
    wanted = f"tags.`citylens.fingerprint` = '{entry.fingerprint()}'"
    found = client.search_runs([experiment], wanted, max_results=1)
    return str(found[0].info.run_id) if found else None


def _here(entry: versions.Entry) -> bool:
    if versions.present(entry):
        return True
    missing = [path for path in entry.outs if not Path(path).exists()]
    if missing:
        print(f"{entry.name}: outputs are not here ({missing[0]}); `dvc pull` fetches them")
    else:
        print(f"{entry.name}: outputs are not those of dvc.lock; `dvc repro` or `dvc checkout` makes them so")
    return False


def _make(where: places.Place, settings: Settings, entry: versions.Entry, recorded: Recorded) -> bool:
    """Whether it could be made."""
    try:
        known = _settings_of(entry, recorded)
    except InputError as error:
        print(f"{entry.name}: made with settings that are none today ({error}); `dvc repro` makes it anew")
        return False
    name, item = versions.module_and_item(entry.name)
    module = importlib.import_module(f"citylens.stages.{name}")
    with reached(where):
        run = runs.begin(where, settings.tracking.experiment, entry.name, {"citylens.synced": "true"})
        try:
            run.describe(entry)
            module.track(known, run, *item)
            run.conclude(entry)
        except BaseException as error:
            run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        run.end("FINISHED")
    return True


def _settings_of(entry: versions.Entry, recorded: Recorded) -> Settings:
    """params.yaml as it was when the entry was made, as far as dvc.lock knows: its own parameters before those of other stages.

    Where those do not fit together, stages having run at different times, the rest is today's.
    """
    try:
        return _with([*recorded.values(), entry])
    except InputError:
        return _with([entry])


def _with(entries: list[versions.Entry]) -> Settings:
    values = read_yaml("params.yaml")
    for entry in entries:
        for key, value in entry.params.get("params.yaml", {}).items():
            _put(values, key.split("."), value)
    return project.parse(values)


def _put(values: Any, path: list[str], value: Any) -> None:
    *sections, name = path
    for section in sections:
        values = values.get(section) if isinstance(values, Mapping) else None
    if isinstance(values, dict) and name in values:
        values[name] = value


def _register(client: MlflowClient, experiment: str, recorded: Recorded) -> None:
    """What the registry lacks, from the results of the stage `register`; the stage's own run says so."""
    entry = recorded.get("register")
    if entry is None or "register" not in versions.declared() or not versions.present(entry):
        return
    run = _run_of(client, experiment, entry)
    if run is not None:
        importlib.import_module("citylens.stages.register").enter(runs.resume(client, experiment, run))
