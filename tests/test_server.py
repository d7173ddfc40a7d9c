"""MLflow on PostgreSQL and S3, as `citylens server` starts it, holds what the database in the folder holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from clones import Clone

from citylens import server
from citylens.adapters import places
from citylens.settings import InputError

pytestmark = pytest.mark.integration
PASSWORD = "correct horse: battery/staple@100%"
LIVE = ("measure", "train@simpler-0")
# What names a run, an hour, or a tree that was committed meanwhile.
OWN = ("mlflow.", "citylens.synced", "citylens.git.dirty")


@pytest.fixture(scope="module")
def plan() -> Iterator[server.Plan]:
    with servers.tracking(PASSWORD) as plan:
        yield plan


@pytest.fixture(scope="module")
def study(plan: server.Plan, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A study tracked in its folder; two of its stages once more on the server as they ran; the others synced there."""
    changes = ("study.networks=[simpler]", "report.thumbnail_network=simpler")
    clone = Clone(tmp_path_factory.mktemp("served") / "study", "smoke", *changes)
    clone.reproduce()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CITYLENS_TRACKING", plan.address)
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # a busy machine is no outage here
        for stage in LIVE:
            clone.run("dvc", "repro", "--force", "--single-item", stage)
        made = clone.run("citylens", "sync")
        assert "measure" not in made and "explain@simpler-0" in made
        assert "sync: 0 run(s) made" in clone.run("citylens", "sync")
    return clone


def _connected(address: str | None, folder: Path) -> tuple[Any, str]:
    return places.connect(places.place(address, folder), "citylens")


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith(OWN)}


def _files(client: Any, run: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for entry in client.list_artifacts(run, folder):
        found |= _files(client, run, entry.path) if entry.is_dir else {entry.path}
    return found


def _everything(client: Any, experiment: str) -> dict[str, Any]:
    """All that is in the store of the last run of each stage, less ids and times."""
    runs: dict[str, Any] = {}
    for run in client.search_runs([experiment], order_by=["attributes.start_time ASC"]):
        history = {
            name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if name != "speed"  # images a second, which only a stage that runs can tell
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


def test_the_server_holds_what_the_folder_holds(plan: server.Plan, study: Clone) -> None:
    here, there = (_everything(*_connected(address, study.folder)) for address in (None, plan.address))
    assert set(here) == set(there)
    for name in here:
        for kind in here[name]:
            if here[name]["tags"]["citylens.stage"] == "reproduction" and kind == "metrics":
                assert set(here[name][kind]) == set(there[name][kind])
            else:
                assert here[name][kind] == there[name][kind], (name, kind)


def test_the_registry_is_the_same_and_its_networks_load(plan: server.Plan, study: Clone, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 50, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    seen = {}
    for address in (None, plan.address):
        client, _ = _connected(address, study.folder)
        found = {one.tags["citylens.key"]: one for one in client.search_model_versions("name = 'citylens-simpler'")}
        tags = {key: _tags(one.tags) for key, one in found.items()}
        seen[address] = (
            tags,
            _predicted(places.place(address, study.folder).address, str(found["simpler-1"].version), tmp_path),
        )
    assert seen[None] == seen[plan.address]
    assert set(seen[None][0]) == {"simpler-0", "simpler-1"}


LOAD = """
import sys
import mlflow, numpy as np
network = mlflow.pyfunc.load_model(f"models:/citylens-simpler/{sys.argv[1]}", suppress_warnings=True)
print(network.predict(np.load("images.npy")).drop(columns="mask").to_json())
"""


def _predicted(address: str, version: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": address, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", LOAD, version]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_artefacts_lie_in_s3(plan: server.Plan, study: Clone) -> None:
    assert list(plan.folder.glob("s3/mlflow/**/network.safetensors"))
    assert list(plan.folder.glob("s3/mlflow/**/fig6_masks.png"))


def test_the_password_is_on_no_command_line_and_in_no_log(plan: server.Plan, study: Clone) -> None:
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.exists()]
    assert any(b"rclone\0serve\0s3" in command for command in commands)
    assert not any(PASSWORD.encode() in command for command in commands)
    logs = list(plan.folder.glob("*.log"))
    assert {log.stem for log in logs} == {"postgres", "s3", "mlflow"}
    assert not any(PASSWORD in log.read_text(errors="replace") for log in logs)
    assert list(plan.folder.glob("tmp*")) == []


def test_a_missing_password_and_a_wrong_one_are_refused(plan: server.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(server.PASSWORD, raising=False)
    with pytest.raises(InputError, match=f"{server.PASSWORD} is no password"), server.running(plan):
        pass
    monkeypatch.setenv(server.PASSWORD, "another password")
    with (
        pytest.raises(InputError, match=f"port {plan.port} cannot be had .*; --port takes another"),
        server.running(plan),
    ):
        pass
    with pytest.raises(InputError, match=f"PostgreSQL refuses: .* allowed for {server.PASSWORD}"):
        server._make_database(plan, "another password")


def test_a_first_start_that_was_stopped_and_a_crash_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    with servers.planned(PASSWORD) as plan:
        (plan.folder / "postgres.draft").mkdir()
        (plan.folder / "postgres.draft/PG_VERSION").write_text("15")  # as far as initdb came
        with server.running(plan) as started:
            client, _ = _connected(plan.address, plan.folder)
            client.create_experiment("kept")
            started["postgres"].kill()
        with server.running(plan):
            assert client.get_experiment_by_name("kept") is not None


def test_servers_end_with_who_started_them_even_when_that_is_killed(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not here")
    log = tmp_path / "log"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, log], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    process = Path("/proc") / starter.stdout.readline().strip()
    assert _runs(process)
    starter.kill()
    starter.wait()
    until = time.monotonic() + 20
    while _runs(process) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(process)


def _runs(process: Path) -> bool:
    try:
        return (process / "cmdline").read_bytes() != b""  # what died and waits to be collected has none
    except OSError:
        return False


STARTER = """
import sys, time
from pathlib import Path
from citylens.adapters import processes
with processes.server(["sleep", "600"], Path(sys.argv[1]), lambda: True) as process:
    cmdline = Path("/proc", str(process.pid), "cmdline")
    while not cmdline.read_bytes().startswith(b"sleep"):
        time.sleep(0.01)
    print(process.pid, flush=True)
    time.sleep(600)
"""
