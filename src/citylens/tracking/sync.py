"""Makes MLflow show what dvc.lock records: missing runs are made from the results on disk, and networks are registered.

The stage `register` does this at the end of each `dvc repro`, and `citylens sync` after a `dvc pull` or an outage. An entry of
dvc.lock and its run have the same fingerprint, so that a second time adds nothing. On one machine a lock lets one process at a time
do this. On a server two machines may make the same run; both look afterwards, and the oldest complete one stays.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from citylens.errors import InputError
from citylens.io import files
from citylens.io.logged import Logged
from citylens.io.yaml_files import read_optional_yaml
from citylens.settings.schema import Settings
from citylens.tracking import datasets, live, models, runs, stores
from citylens.tracking.stores import Experiment
from citylens.versions import git, pipeline
from citylens.versions.pipeline import Entry

STUDY = "report"
"""The stage whose run stands for the whole study."""
NETWORKS = Path("reports/register/networks.json")


def sync(settings: Settings) -> list[str]:
    """Make the missing runs and registry entries.

    Returns:
        The names of the stages whose runs were made or completed. Stages whose results are not on disk are printed.

    Raises:
        InputError: tracking is off, or the store cannot be reached.
    """
    address = stores.address(settings.tracking)
    if address == stores.OFF:
        raise InputError("CITYLENS_TRACKING is off; allowed for sync: an MLflow address, or unset")
    where = stores.store(address)
    with stores.reached(where):
        experiment = stores.connect(where, settings.tracking.experiment)
        with stores.timeout(stores.LATER_ANSWERS), stores.lock(where, "sync"):
            _close_dead_trainings(experiment)
            made = _make_runs(experiment)
            _register(experiment)
    return made


def _make_runs(experiment: Experiment) -> list[str]:
    recorded = pipeline.recorded()
    tracked = [recorded[name] for name in pipeline.declared() if name in recorded and _logged_of(name)]
    # The study's run comes first, because the others are shown under it; networks need their models before others name them.
    order = {STUDY: 0, "train": 1}
    tracked.sort(key=lambda entry: order.get(pipeline.module_and_item(entry.name)[0], 2))
    missing = [entry for entry in tracked if not _run_of(experiment, entry)]
    if not missing:
        return []
    prepared = datasets.prepared(recorded)
    splits = datasets.splits(prepared) if prepared and Path(datasets.PREPARED).exists() else {}
    return [
        entry.name
        for entry in missing
        if _is_here(entry) and not _run_of(experiment, entry) and _make(experiment, entry, recorded.get(STUDY), splits)
    ]


def _logged_of(name: str) -> Callable[..., Logged] | None:
    """Return the function that says what a stage's run shows; None for stages without a run."""
    module = f"citylens.{pipeline.module_and_item(name)[0]}.stage"
    if importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), "logged", None)


def _run_of(experiment: Experiment, entry: Entry) -> str | None:
    """Return the entry's run, the oldest complete one. Delete its twins, which other machines made at the same time."""
    wanted = f"tags.`{runs.FINGERPRINT}` = '{entry.fingerprint()}'"
    found = experiment.client.search_runs([experiment.id], wanted)
    if not found:
        return None
    found.sort(key=lambda run: (run.info.status != "FINISHED", run.info.start_time, run.info.run_id))
    kept = str(found[0].info.run_id)
    for twin in found[1:]:
        if twin.info.status == "FINISHED":  # One that runs still looks for itself when it has ended.
            print(f"tracking: {entry.name} was logged twice; the younger run is deleted", file=sys.stderr)
            runs.delete_twin(experiment, twin, kept)
    return kept


def _is_here(entry: Entry) -> bool:
    if pipeline.present(entry):
        return True
    missing = [path for path in entry.outs if not Path(path).exists()]
    if missing:
        print(f"{entry.name}: outputs are not here ({missing[0]}); `dvc pull` fetches them")
    else:
        print(f"{entry.name}: outputs are not those of dvc.lock; `dvc repro` or `dvc checkout` makes them so")
    return False


def _make(experiment: Experiment, entry: Entry, study: Entry | None, splits: Mapping[str, datasets.Split]) -> bool:
    """Complete the run that a training has logged itself, or make a run from the results on disk."""
    stage, item = pipeline.module_and_item(entry.name)
    logged_of = _logged_of(entry.name)
    if logged_of is None:
        return False
    logged = logged_of(*item)
    run = _live_run(experiment, entry)
    if run is not None:
        runs.write_origin(run, entry)
        return _run_of(experiment, entry) == run.id
    tags = {"citylens.synced": "true"} if os.environ.get("DVC_STAGE") is None else {}
    tags |= {"mlflow.runName": _study_name()} if stage == STUDY else {}
    # Trainings stand beside the studies, so that the first page shows and compares them; the rest folds up under its study.
    parent = _run_of(experiment, study) if study and stage not in (STUDY, "train") else None
    run = runs.begin(experiment, entry.name, tags, parent)
    try:
        runs.write_history(run, logged)
        runs.write_results(run, entry.name, logged, splits)
        if stage == STUDY:
            run.params(read_optional_yaml("params.yaml") or {})
        # Before the end: after it, the other machine may delete this run.
        if study and parent and parent != (now := _run_of(experiment, study)):
            run.tags({runs.PARENT: now})
        runs.write_origin(run, entry)
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")
    return _run_of(experiment, entry) == run.id


def _live_run(experiment: Experiment, entry: Entry) -> runs.Run | None:
    """Return the run that a training has logged while it ran, if its results are those of the entry."""
    if pipeline.module_and_item(entry.name)[0] != "train":
        return None
    weights = next(path for path in entry.outs if path.startswith("models/"))
    wanted = f"tags.`citylens.name` = '{entry.name}' and tags.`dvc.out.{weights}` = '{entry.outs[weights]}'"
    found = experiment.client.search_runs([experiment.id], f"{wanted} and attributes.status = 'FINISHED'")
    own = [run for run in found if runs.FINGERPRINT not in run.data.tags]
    return runs.opened(experiment, own[0]) if own else None


def _study_name() -> str:
    """Return the name of a DVC experiment; in the workspace, the commit and a digest of params.yaml, such as `3f4392b-9c01d2e`."""
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        return experiment
    digest = hashlib.sha256(Path("params.yaml").read_bytes()).hexdigest()[:7]
    return "-".join(filter(None, (git.state().get("commit", "")[:7], digest)))


def _close_dead_trainings(experiment: Experiment) -> None:
    """End the runs of trainings that were killed without a chance to end them."""
    running = "tags.`citylens.stage` = 'train' and attributes.status = 'RUNNING'"
    for run in experiment.client.search_runs([experiment.id], running):
        process = run.data.tags.get(live.PROCESS)
        if process and live.is_gone(process):
            experiment.client.set_terminated(run.info.run_id, "KILLED")


def _register(experiment: Experiment) -> None:
    """Register the networks of `register` that the registry lacks."""
    if not NETWORKS.exists():
        return
    for by_key in files.read_json(NETWORKS).values():
        for name, network in by_key.items():
            tags = {"citylens.key": name, "citylens.seed": network["seed"], "citylens.accuracy": network["accuracy"]}
            models.register(experiment, network["name"], network["weights_md5"], tags)
