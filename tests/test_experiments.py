"""DVC experiments from its queue, several at once: every run is in the main folder's database, under its experiment."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from clones import Clone

from citylens.tracking import pages, stores

pytestmark = pytest.mark.integration
RATES = {"slow": 0.00002, "fast": 0.002}
UNTOUCHED = {"prepare", "segment", "validate_images", "validate_splits"}


@pytest.fixture(scope="module")
def study(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study of one network, made from the finished one of two and committed, and two experiments run by two workers."""
    clone = finished.copy(tmp_path_factory.mktemp("experiments") / "study")
    clone.run("citylens", "use", "smoke", "study.networks=[simpler]", "report.thumbnail_network=simpler")
    clone.reproduce()
    for setting in (("user.name", "test"), ("user.email", "test@example.org")):
        clone.run("git", "config", *setting)
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "results")
    for name, rate in RATES.items():
        clone.run("dvc", "exp", "run", "--queue", "--name", name, "--set-param", f"train.learning_rate={rate}")
    try:
        clone.run("dvc", "queue", "start", "--jobs", "2")
        until = time.monotonic() + 1500
        while _unfinished(clone) and time.monotonic() < until:
            time.sleep(10)  # to ask costs a second of a core
        status = clone.run("dvc", "queue", "status")
        assert status.count("Success") == len(RATES), status + "".join(
            clone.run("dvc", "queue", "logs", name) for name in RATES
        )
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    return clone


def _unfinished(clone: Clone) -> bool:
    status = clone.run("dvc", "queue", "status")
    return "Queued" in status or "Running" in status


def _runs(folder: Path, wanted: str = "") -> list[Any]:
    experiment = stores.connect(stores.store(None, folder), "citylens")
    return list(experiment.client.search_runs([experiment.id], wanted, max_results=5000))


def test_no_run_is_lost(study: Clone) -> None:
    stages = {run.data.tags["citylens.name"] for run in _runs(study.folder)}
    assert stages >= UNTOUCHED | {"report", "train@simpler-0", "train@simpler-1"}
    for name in RATES:
        runs = _runs(study.folder, f"tags.`dvc.experiment` = '{name}'")
        assert sorted(run.data.tags["citylens.name"] for run in runs) == sorted(stages - UNTOUCHED)
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert all("citylens.fingerprint" in run.data.tags for run in runs)
    assert "sync: 0 run(s) made" in study.run("citylens", "sync")


def test_an_experiment_is_one_study_with_its_settings_and_results(study: Clone) -> None:
    for name, rate in RATES.items():
        (above,) = _runs(study.folder, f"tags.`citylens.stage` = 'report' AND tags.`dvc.experiment` = '{name}'")
        below = _runs(study.folder, f"tags.`mlflow.parentRunId` = '{above.info.run_id}'")
        assert {run.data.tags["citylens.stage"] for run in below} >= {"explain", "measure", "compare", "embed"}
        assert above.info.run_name == name
        assert float(above.data.params["train.learning_rate"]) == rate
        (trained,) = _runs(
            study.folder, f"tags.`citylens.name` = 'train@simpler-1' AND tags.`dvc.experiment` = '{name}'"
        )
        assert float(trained.data.params["train.learning_rate"]) == rate
        assert above.data.metrics["accuracy simpler-1"] == trained.data.metrics["test_accuracy"]
        assert 8 <= len(above.data.metrics) <= 30


def test_dvc_shows_the_experiments_with_their_metrics(study: Clone) -> None:
    (baseline,) = [row for row in json.loads(study.run("dvc", "exp", "show", "--json")) if row.get("experiments")]
    shown = {experiment["name"]: experiment["revs"][0]["data"] for experiment in baseline["experiments"]}
    assert set(shown) == set(RATES)
    for name, data in shown.items():
        assert data["params"]["params.yaml"]["data"]["train"]["learning_rate"] == RATES[name]
        accuracy = data["metrics"]["reports/report/summary.json"]["data"]["accuracy"]
        (above,) = _runs(study.folder, f"tags.`citylens.stage` = 'report' AND tags.`dvc.experiment` = '{name}'")
        networks = [value for metric, value in above.data.metrics.items() if metric.startswith("accuracy simpler")]
        assert accuracy == pytest.approx(sum(networks) / len(networks))


def test_the_table_that_the_docs_recommend_can_be_read(study: Clone) -> None:
    page = (study.folder / "docs/operations/remotes.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("dvc exp show"))
    head, *_ = study.run(*shlex.split(command), "--md").splitlines()
    columns = [name.strip() for name in head.split("|")[1:-1]]
    changed = {"accuracy", "AR_architecture", "AR_retrained", "R_distance"}  # of so small a study, some may be the same
    assert columns[0] == "Experiment" and columns[-1] == "train.learning_rate" and changed.issuperset(columns[1:-1])
    assert len(columns) <= 6 and len(head) < 130


def test_the_workspace_is_one_study_too(study: Clone) -> None:
    studies = _runs(study.folder, "tags.`citylens.stage` = 'report'")
    (above,) = [run for run in studies if "dvc.experiment" not in run.data.tags]
    below = _runs(study.folder, f"tags.`mlflow.parentRunId` = '{above.info.run_id}'")
    assert {run.info.run_name for run in below} >= UNTOUCHED
    assert above.info.run_name.startswith(above.data.tags["mlflow.source.git.commit"][:7] + "-")
    for path in pages.LINKS["report"].values():
        assert (study.folder / "mlartifacts" / above.info.run_id / path).is_file(), path
