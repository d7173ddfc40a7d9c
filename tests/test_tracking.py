"""Runs, models and registry in a real MLflow database, made by stages under a real DVC."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from citylens import settings
from citylens.adapters import git, md5s, places, runs, tracker, versions
from citylens.settings import InputError

ROOT = Path(__file__).parents[1]
CITIES = ("Mallorca", "Zürich (old)")
PIPELINE = """
stages:
  train:
    matrix:
      network: ${study.networks}
      seed: ${study.seeds}
    cmd: mkdir -p models reports && cp -r made/${item.network}-${item.seed}/* .
    deps:
      - made/${item.network}-${item.seed}
      - src/code.py
    params:
      - train.epochs
      - train.learning_rate
    outs:
      - models/train/${item.network}-${item.seed}
    metrics:
      - reports/train/${item.network}-${item.seed}/scores.json:
          cache: false
    plots:
      - reports/train/${item.network}-${item.seed}/history.csv:
          cache: false
      - reports/train/${item.network}-${item.seed}/confusion.csv:
          cache: false
  register:
    cmd: PYTHON -m citylens.cli register
    deps:
      - models/train
      - reports/train
      - src/code.py
    params:
      - register
      - study
    metrics:
      - reports/register/networks.json:
          cache: false
"""


def _write_network(folder: Path, seed: int) -> None:
    from citylens.adapters import checkpoints
    from citylens.science import networks

    network = networks.build("simple", classes=2, size=96, seed=seed)
    card = checkpoints.Card("simple", CITIES, 96, "stretch", "none", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    checkpoints.write_network(folder / f"models/train/simple-{seed}/network.safetensors", network, card)
    reports = folder / f"reports/train/simple-{seed}"
    reports.mkdir(parents=True)
    scores = {
        "accuracy": 0.75,
        "loss": 0.5,
        "majority_accuracy": 0.5,
        "recall": dict.fromkeys(CITIES, 0.75),
        "images": 8,
    }
    (reports / "scores.json").write_text(json.dumps(scores))
    (reports / "confusion.csv").write_text("actual,predicted,images\nMallorca,Mallorca,4\n")
    columns = "epoch,learning_rate,training_loss,training_accuracy,validation_loss,validation_accuracy\n"
    (reports / "history.csv").write_text(columns + "1,0.1,0.9,0.5,0.9,0.5\n2,0.1,0.5,0.7,0.6,0.7\n")


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A folder with two trained networks and a register stage, reproduced once by DVC; only register logs as it runs."""
    folder = tmp_path_factory.mktemp("project")
    for seed in (0, 1):
        _write_network(folder / f"made/simple-{seed}", seed)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"] = {"networks": ["simple"], "seeds": [0, 1]}
    params["train"]["learning_rate"] = 0.00001
    params["report"]["thumbnail_network"] = "simple"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "dvc.yaml").write_text(PIPELINE.replace("PYTHON", sys.executable))
    (folder / "src").mkdir()
    (folder / "src/code.py").write_text("pass\n")
    (folder / ".gitignore").write_text(".citylens/\nmlflow.db*\nmlartifacts/\nmade/\n")
    shutil.copy(ROOT / ".dvcignore", folder)
    dvc = str(Path(sys.executable).with_name("dvc"))
    as_someone = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["git", "init", "-q"], [dvc, "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True, env=_environment())
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n[cache]\n    type = hardlink,copy\n")
    for command in (
        ["git", "add", "."],
        [*as_someone, "commit", "-qm", "first"],
        [dvc, "repro", "-q"],
    ):
        subprocess.run(command, cwd=folder, check=True, env=_environment())
    return folder


def _environment(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW", "CITYLENS", "PYTEST", "PYTHONDONT"))
    }
    return kept | {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"} | more


@pytest.fixture(scope="session")
def client(project):
    return places.connect(places.place(None, project), "citylens")[0]


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.delenv("CITYLENS_TRACKING", raising=False)
    return project


def _runs(client, stage: str):
    (experiment,) = [found for found in client.search_experiments() if found.name == "citylens"]
    return [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["citylens.name"] == stage]


def test_a_run_and_its_entry_in_dvc_lock_match_both_ways(here, client):
    (run,) = _runs(client, "register")
    entry = versions.recorded(here)["register"]
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert tags["citylens.fingerprint"] == entry.fingerprint()
    assert tags["citylens.stage"] == "register"
    assert tags["dvc.dep.models/train"] == entry.deps["models/train"]
    assert tags["dvc.out.reports/register/networks.json"] == entry.outs["reports/register/networks.json"]
    assert tags["mlflow.source.git.commit"] == git.state(here)["commit"]
    assert "citylens.synced" not in tags
    assert run.data.params["register.prefix"] == "citylens"
    assert json.loads(run.data.params["study.seeds"]) == [0, 1]
    assert {(data.dataset.name, data.dataset.digest) for data in run.inputs.dataset_inputs} == {
        ("models/train", entry.deps["models/train"]),
        ("reports/train", entry.deps["reports/train"]),
    }


@pytest.fixture(scope="session")
def synced(project, client):
    """The names sync returned, the first and the second time."""
    from citylens.sync import sync

    before = Path.cwd()
    os.chdir(project)
    try:
        loaded = settings.load()
        return sync(loaded), sync(loaded)
    finally:
        os.chdir(before)


def test_sync_makes_what_is_missing_and_nothing_twice(here, client, synced):
    assert synced == (["train@simple-0", "train@simple-1"], [])
    (run,) = _runs(client, "train@simple-1")
    tags = run.data.tags
    assert tags["citylens.synced"] == "true"
    assert (tags["citylens.network"], tags["citylens.seed"]) == ("simple", "1")
    assert tags["citylens.fingerprint"] == versions.recorded(here)["train@simple-1"].fingerprint()
    assert run.data.params["train.learning_rate"] == "1e-05"
    assert run.data.metrics["test_accuracy"] == 0.75
    assert run.data.metrics["test_recall_Zürich _old_"] == 0.75
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "training_loss")] == [0.9, 0.5]
    files = [file.path for file in client.list_artifacts(run.info.run_id, "tables")]
    assert sorted(files) == [
        "tables/confusion.csv",
        "tables/confusion.json",
        "tables/history.csv",
        "tables/history.json",
    ]
    assert json.loads(tags["mlflow.loggedArtifacts"])[0] == {"path": "tables/history.json", "type": "table"}


def test_settings_of_a_stage_that_ran_before_the_others_are_told(here):
    """dvc.lock may hold a study without the network that an older entry names, and settings that are none any more."""
    from citylens import sync

    entry = versions.recorded(here)["train@simple-0"]
    old = dataclasses.replace(entry, params={"params.yaml": {"report.thumbnail_network": "vgg11"}})
    recorded = {"report": old, entry.name: entry}
    assert sync._settings_of(entry, recorded).train.learning_rate == 0.00001
    none = dataclasses.replace(entry, params={"params.yaml": {"train.learning_rate": "fast"}})
    assert not sync._make(places.place(None, here), settings.load(), none, recorded)


def test_networks_are_registered_once_with_their_versions(here, client, synced):
    found = client.search_model_versions("name = 'citylens-simple'")
    assert len(found) == 2
    version = min(found, key=lambda version: version.tags["citylens.seed"])
    (run,) = _runs(client, "train@simple-0")
    assert version.run_id == run.info.run_id
    assert version.tags["citylens.weights.md5"] == md5s.of("models/train/simple-0/network.safetensors")
    assert version.tags["citylens.fingerprint"] == run.data.tags["citylens.fingerprint"]
    assert version.tags["dvc.dep.made/simple-0"] == md5s.of("made/simple-0")
    assert version.tags["citylens.accuracy"] == "0.75"
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert model.source_run_id == run.info.run_id
    assert {metric.key: metric.value for metric in model.metrics} == {"test_accuracy": 0.75}


def test_weights_are_linked_from_the_workspace_and_dvc_to_mlflow(here, client, synced):
    weights = here / "models/train/simple-0/network.safetensors"
    (model,) = [
        file for file in here.glob("mlartifacts/models/*/artifacts/data/network.safetensors") if file.samefile(weights)
    ]
    md5 = md5s.of(weights)
    assert (
        model.stat().st_ino
        == weights.stat().st_ino
        == (here / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}").stat().st_ino
    )
    assert not [file for file in here.rglob("mlartifacts/**/*") if file.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_outputs_that_are_not_here_are_named(here, client, synced, capsys):
    from citylens.sync import sync

    (run,) = _runs(client, "train@simple-0")
    client.set_tag(run.info.run_id, "citylens.fingerprint", "another")
    scores = here / "reports/train/simple-0/scores.json"
    text = scores.read_text()
    try:
        scores.unlink()
        assert sync(settings.load()) == []
        assert (
            "train@simple-0: outputs are not here (reports/train/simple-0/scores.json); `dvc pull` fetches them"
            in capsys.readouterr().out
        )
        scores.write_text("{}")
        assert sync(settings.load()) == []
        assert "train@simple-0: outputs are not those of dvc.lock" in capsys.readouterr().out
    finally:
        scores.write_text(text)
        client.set_tag(run.info.run_id, "citylens.fingerprint", versions.recorded(here)["train@simple-0"].fingerprint())
    assert sync(settings.load()) == []


SERVE = """
import sys, json
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
rng = np.random.default_rng(0)
seen = model.predict(rng.integers(0, 256, (2, 70, 50, 3), dtype=np.uint8))
odd = model.get_raw_model().predict([rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((96, 96), (31, 200))])
import citylens
masks = [*seen["mask"], *odd["mask"]]
print(json.dumps({
    "source": citylens.__file__, "columns": list(seen), "cities": list(seen["city"]), "shapes": [mask.shape for mask in masks],
    "sums": [float(seen.filter(like="probability").sum(axis=1)[row]) for row in (0, 1)],
    "low": min(float(mask.min()) for mask in masks), "high": max(float(mask.max()) for mask in masks),
}))
"""


def test_a_model_serves_images_of_any_size_without_the_project(here, client, synced, tmp_path):
    version = client.search_model_versions("name = 'citylens-simple'")[0]
    folder = here / "mlartifacts" / "models" / version.source.removeprefix("models:/") / "artifacts"
    environment = _environment(
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false", MLFLOW_TRACKING_URI=places.place(None, here).address
    )
    del environment["PYTHONPATH"]
    command = [sys.executable, "-c", SERVE, f"models:/citylens-simple/{version.version}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["source"] == str(folder / "code/citylens/__init__.py")
    assert said["columns"] == ["city", *(f"probability of {city}" for city in CITIES), "mask", "dead"]
    assert set(said["cities"]) <= set(CITIES)
    assert said["shapes"] == [[70, 50], [70, 50], [96, 96], [31, 200]]
    assert said["sums"] == pytest.approx([1, 1], abs=1e-6)
    assert said["low"] == 0
    assert 0.9 < said["high"] <= 1


def test_the_served_network_is_the_one_of_the_study(here):
    import torch

    from citylens.adapters import checkpoints
    from citylens.science import networks
    from citylens.served import Served

    weights = here / "models/train/simple-0/network.safetensors"
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    tensors, card = checkpoints.read_network(weights)
    network = networks.build("simple", classes=2, size=96).eval()
    network.load_state_dict(tensors)
    with torch.no_grad():
        expected = network(networks.to_input(torch.from_numpy(images), card.mean, card.std)).softmax(1)
    seen = Served(str(weights)).predict(images)
    assert np.allclose(seen.filter(like="probability"), expected, atol=1e-6)
    for wrong in (images[0], images / 255, images[..., :1], []):
        with pytest.raises(ValueError, match="allowed"):
            Served(str(weights)).predict(wrong)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_is_down_costs_seconds_and_one_warning(here, free_port, tmp_path):
    result = tmp_path / "result"
    stage = f"""
from citylens import settings
from citylens.adapters import tracker
with tracker.start("train@simple-0", settings.load()) as run:
    for epoch in range(1000):
        run.metrics({{"loss": 1 / (epoch + 1)}}, step=epoch)
    open({str(result)!r}, "w").write("done")
"""
    environment = _environment(CITYLENS_TRACKING=f"http://127.0.0.1:{free_port}")
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", stage], cwd=here, env=environment, capture_output=True, text=True)
    assert time.monotonic() - start < 30
    assert done.returncode == 0, done.stderr
    assert result.read_text() == "done"
    (line,) = done.stderr.splitlines()
    assert line.startswith("tracking: ")
    assert line.endswith("; the results are on disk, `citylens sync` logs them later")


def test_a_database_that_nobody_answers_for_is_given_up_at_once(free_port):
    with pytest.raises(ConnectionRefusedError):
        places.connect(places.Place(f"postgresql://user:word@127.0.0.1:{free_port}/runs", None), "citylens")


def test_sync_says_which_server_is_down(here, free_port, monkeypatch):
    from citylens.sync import sync

    monkeypatch.setenv("CITYLENS_TRACKING", f"http://127.0.0.1:{free_port}")
    with pytest.raises(InputError, match=f"tracking at http://127.0.0.1:{free_port} failed"):
        sync(settings.load())
    monkeypatch.setenv("CITYLENS_TRACKING", "off")
    with pytest.raises(InputError, match="CITYLENS_TRACKING is off"):
        sync(settings.load())


def test_a_run_ends_as_its_stage_does(here, client):
    loaded = settings.load()
    stage = "import os\nfrom citylens import settings\nfrom citylens.adapters import tracker\n"
    stage += "with tracker.start('killed', settings.load()) as run:\n    os.kill(os.getpid(), 9)\n"
    subprocess.run([sys.executable, "-c", stage], cwd=here, env=_environment(), check=False)
    with pytest.raises(KeyboardInterrupt), tracker.start("stopped", loaded):
        with pytest.raises(ZeroDivisionError), tracker.start("failing", loaded):
            1 / 0  # noqa: B018
        raise KeyboardInterrupt
    for _ in range(100):  # the process beside outlives the stage by the seconds it needs
        ended = {name: [run.info.status for run in _runs(client, name)] for name in ("failing", "stopped", "killed")}
        if ended["killed"] in (["KILLED"], ["FAILED"]):
            break
        time.sleep(0.2)
    assert ended == {"failing": ["FAILED"], "stopped": ["KILLED"], "killed": ["KILLED"]}
    assert all("citylens.fingerprint" not in run.data.tags for name in ended for run in _runs(client, name))


COUNTED = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="servers cannot be counted here")


def _servers(folder: Path) -> list[int]:
    """Numbers of the processes whose command names the folder, less those forked from them; an ended one has no command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just gone
            if str(folder / ".citylens").encode() in path.read_bytes():
                found.append(os.getsid(int(path.parent.name)))
    return sorted(set(found))


def _is_gone(process: int) -> bool:
    """Whether a process has let go of its sockets too, which it does after its memory."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _ends(condition, seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.2)
    return condition()


STAGE = """
import sys
from pathlib import Path
import numpy as np
from citylens import settings
from citylens.adapters import tracker
with tracker.start(sys.argv[1], settings.load()) as run:
    for epoch in (1, 1, 2):
        run.metrics({"loss": np.float32(1 / epoch), "recall": {"Zürich (old)": 0.5}, "name": "no number"}, step=epoch)
    run.params({"more": {"numbers": (1, 2)}, "path": Path("a")})
    run.table("table.csv")
    run.figure("figure.png")
    run.file("folder", "all")
    run.file("large.bin")
    run.dataset("streets", "0" * 32 + ".dir")
    run.tags({"note": 1})
"""


def test_many_processes_at_once_on_a_fresh_database(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "folder/sub").mkdir(parents=True)
    for name, size in {"figure.png": 10, "folder/sub/a.txt": 10, "large.bin": 2_000_000}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,\n")
    commands = [[sys.executable, "-c", STAGE, f"stage-{number}"] for number in range(3)]
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=_environment(), stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    assert [process.communicate()[1] for process in started] == ["", "", ""]
    client, experiment = places.connect(places.place(None, tmp_path), "citylens")
    runs = client.search_runs([experiment])
    assert sorted(run.data.tags["citylens.name"] for run in runs) == ["stage-0", "stage-1", "stage-2"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    _check_all_was_logged(client, runs[0], tmp_path)


def _check_all_was_logged(client, run, folder):
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics == {"loss": 0.5, "recall.Zürich _old_": 0.5}
    assert run.data.params == {"more.numbers": "[1, 2]", "path": "a"}
    assert run.data.tags["note"] == "1"
    assert [data.dataset.digest for data in run.inputs.dataset_inputs] == ["0" * 32 + ".dir"]
    artifacts = folder / "mlartifacts" / run.info.run_id / "artifacts"
    found = sorted(path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file())
    assert found == ["all/folder/sub/a.txt", "figures/figure.png", "large.bin", "tables/table.csv", "tables/table.json"]
    assert (artifacts / "large.bin").samefile(folder / "large.bin")
    assert not (artifacts / "figures/figure.png").samefile(folder / "figure.png")
    assert json.loads((artifacts / "tables/table.json").read_text())["data"] == [[1, "x"], [2, None]]


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A project without a server, and one that soon ends when it comes."""
    folder = tmp_path / ("a long name " * 10)
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.setattr(tracker, "IDLE", 1)
    monkeypatch.delenv("CITYLENS_TRACKING", raising=False)
    monkeypatch.chdir(folder)
    return folder


def _track(stage: str) -> None:
    with tracker.start(stage, settings.load()) as run:
        run.metrics({"x": 1})


@COUNTED
def test_stages_share_the_server_of_their_project_while_it_is_there(bare, project, client, monkeypatch, capfd):
    _track("first")
    (server,) = _servers(bare)
    _track("second")
    assert _servers(bare) == [server]
    os.kill(server, 9)
    assert _ends(lambda: _is_gone(server))
    _track("third")
    monkeypatch.chdir(project)
    _track("elsewhere")
    theirs, experiment = places.connect(places.place(None, bare), "citylens")
    runs = [*theirs.search_runs([experiment], order_by=["start_time"]), *_runs(client, "elsewhere")]
    assert [run.data.tags["citylens.name"] for run in runs] == ["first", "second", "third", "elsewhere"]
    assert all((run.info.status, run.data.metrics) == ("FINISHED", {"x": 1}) for run in runs)
    assert _ends(lambda: not _servers(bare))
    assert capfd.readouterr().err == ""


def test_where_there_can_be_no_server_a_stage_has_a_process_of_its_own(here, client, monkeypatch, capfd):
    monkeypatch.setattr(tracker, "_made_from", lambda: "longer than a socket's address may be" * 5)
    _track("alone")
    (run,) = _runs(client, "alone")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"x": 1})
    assert capfd.readouterr().err == ""


@COUNTED
def test_a_server_that_dies_before_a_run_begins_costs_nothing(bare, capfd):
    with tracker.start("robbed", settings.load()):
        assert _ends(lambda: len(_servers(bare)) == 1)
        os.kill(*_servers(bare), 9)
    client, experiment = places.connect(places.place(None, bare), "citylens")
    (run,) = client.search_runs([experiment])
    assert run.data.tags["citylens.name"] == "robbed" and run.info.status == "FINISHED"
    assert capfd.readouterr().err == ""


def test_runs_of_a_temporary_experiment_copy_go_to_the_main_folder(tmp_path):
    copy = tmp_path / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    where = places.place(None, copy)
    assert where == places.place(None, tmp_path)
    assert where == places.Place(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts")
    assert places.place("sqlite:///runs/x.db", copy).address == f"sqlite:///{tmp_path}/runs/x.db"
    assert places.place("http://127.0.0.1:5000", copy) == places.Place("http://127.0.0.1:5000", None)


def test_the_silent_twin_and_the_real_ones_take_the_same(monkeypatch):
    import inspect

    names = {name for name in vars(tracker.Run) if not name.startswith("_")}
    assert len(names) == 9
    for name in names:
        wanted = list(inspect.signature(getattr(tracker.Run, name)).parameters)
        for kind in (tracker.Silent, tracker.Beside, runs.MlflowRun):
            assert list(inspect.signature(getattr(kind, name)).parameters)[: len(wanted)] == wanted, (kind, name)
    monkeypatch.setenv("CITYLENS_TRACKING", "off")
    with tracker.start("measure", settings.load(ROOT / "params.yaml")) as run:
        assert isinstance(run, tracker.Silent)
        run.metrics({"x": 1})
