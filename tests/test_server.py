"""MLflow on PostgreSQL and S3, as in deploy/compose.yaml, holds what the database in the folder holds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from clones import Clone, wait_for
from mlflow import MlflowClient

pytestmark = pytest.mark.integration
PASSWORD = "correct horse: battery/staple@100%"
LIVE = "train@simpler-0"
# Tags that name a run, an hour, or a tree that was committed meanwhile.
OWN = ("mlflow.", "citylens.synced", "citylens.git.dirty", "citylens.process")
# Metrics that only a stage that runs can log.
MEASURED = ("training_speed", "system/")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Team]:
    with servers.team(tmp_path_factory.mktemp("team"), PASSWORD) as team:
        yield team


@pytest.fixture(scope="module")
def study(team: servers.Team, finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study tracked in its folder; a network once more on the server as it trains; the other runs synced there."""
    clone = finished.copy(tmp_path_factory.mktemp("served") / "study", without=())
    there = {"CITYLENS_TRACKING": team.address, "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}  # a busy machine is no outage
    clone.run("dvc", "repro", "--force", "--single-item", LIVE, **there)
    assert clone.outputs() == finished.outputs()
    made = clone.run("citylens", "sync", **there)
    assert LIVE in made and "explain@simpler-0" in made  # the training's own run was completed
    assert "sync: 0 run(s) made" in clone.run("citylens", "sync", **there)
    return clone


def _addresses(team: servers.Team, study: Clone) -> tuple[str, str]:
    return f"sqlite:///{study.folder}/mlflow.db", team.address


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith(OWN)}


def _files(client: Any, run: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for entry in client.list_artifacts(run, folder):
        found |= _files(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def _everything(address: str) -> dict[str, Any]:
    """All that a store has of the last run of each stage, without ids and times."""
    client, runs = MlflowClient(address, address), dict[str, Any]()
    experiment = client.get_experiment_by_name("citylens")
    for run in client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]):
        history = {
            name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if not name.startswith(MEASURED)
        }
        runs[run.data.tags["citylens.name"]] = {
            "status": run.info.status,
            "params": run.data.params,
            "metrics": history,
            "tags": _tags(run.data.tags),
            "data": sorted((data.dataset.name, data.dataset.digest) for data in run.inputs.dataset_inputs),
            "files": _files(client, run.info.run_id),
        }
    return runs


def test_the_server_holds_what_the_folder_holds(team: servers.Team, study: Clone) -> None:
    here, there = map(_everything, _addresses(team, study))
    assert set(here) == set(there)
    for name in here:
        for kind in here[name]:
            if here[name]["tags"]["citylens.stage"] == "reproduction" and kind == "metrics":
                assert set(here[name][kind]) == set(there[name][kind])
            else:
                assert here[name][kind] == there[name][kind], (name, kind)


def test_the_registry_is_the_same_and_its_networks_load(team: servers.Team, study: Clone, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 50, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    seen = []
    for address in _addresses(team, study):
        versions = MlflowClient(address, address).search_model_versions("name = 'citylens-simpler'")
        found = {one.tags["citylens.key"]: one for one in versions}
        assert set(found) == {"simpler-0", "simpler-1"}
        tags = {key: _tags(one.tags) for key, one in found.items()}
        seen.append((tags, _predicted(address, str(found["simpler-1"].version), tmp_path)))
    assert seen[0] == seen[1]


LOAD = """
import sys
import mlflow, numpy as np
network = mlflow.pyfunc.load_model(f"models:/citylens-simpler/{sys.argv[1]}", suppress_warnings=True)
print(network.predict(np.load("images.npy")).drop(columns="mask").to_json())
"""


def _predicted(address: str, version: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_REGISTRY_URI": address}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", LOAD, version]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_artefacts_lie_in_s3(team: servers.Team, study: Clone) -> None:
    assert list(team.folder.glob("s3/mlflow/**/network.safetensors"))
    assert list(team.folder.glob("s3/mlflow/**/fig6_masks.png"))


def test_the_password_is_on_no_command_line_and_in_no_log(team: servers.Team, study: Clone) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
    assert any(b"rclone\0serve\0s3" in command for command in commands)
    assert not any(PASSWORD.encode() in command for command in commands)
    logs = list(team.folder.glob("*.log"))
    assert {log.stem for log in logs} == {"postgres", "s3", "mlflow"}
    assert not any(PASSWORD in log.read_text(errors="replace") for log in logs)


STARTER = """
import os, signal, sys
from pathlib import Path
import servers
signal.signal(signal.SIGINT, signal.default_int_handler)  # In the background, SIGINT is inherited as ignored.
with servers.s3(Path(sys.argv[1]), "bucket") as store:
    print(store.address.rpartition(":")[2], flush=True)
    os.kill(os.getpid(), int(sys.argv[2]))
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_servers_end_with_the_tests(tmp_path: Path, number: signal.Signals) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not here")
    command = [sys.executable, "-c", STARTER, str(tmp_path), str(int(number))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert ended.returncode == -number
    wait_for(lambda: not servers.listens(int(ended.stdout)), "the end of the S3 server")
