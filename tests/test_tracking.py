"""Runs, models and registry in a real MLflow database, made by stages under a real DVC."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow.entities import LoggedModelStatus

from citylens.errors import InputError
from citylens.io import md5s
from citylens.settings import parser
from citylens.settings.schema import Tracking
from citylens.tracking import live, models, pages, runs, stores
from citylens.tracking import sync as sync_module
from citylens.tracking.sync import sync
from citylens.train import stage as train
from citylens.versions import git, pipeline

ROOT = Path(__file__).parents[1]
CITIES = ("Mallorca", "Zürich (old)")
PIPELINE = """
stages:
  prepare:
    cmd: mkdir -p data reports && cp -r made/prepare/* .
    deps:
      - made/prepare
    outs:
      - data/prepare
    plots:
      - reports/prepare/splits.csv:
          cache: false
  train:
    matrix:
      network: ${study.networks}
      seed: ${study.seeds}
    cmd: mkdir -p models reports && cp -r made/${item.network}-${item.seed}/* .
    deps:
      - made/${item.network}-${item.seed}
      - data/prepare
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
    outs:
      - reports/register
"""
TRAINED = ("train@simple-0", "train@simple-1")


def _write_network(folder: Path, seed: int) -> None:
    from citylens.nets import checkpoints, networks

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


def _write_prepared(folder: Path) -> None:
    (folder / "data/prepare").mkdir(parents=True)
    (folder / "reports/prepare").mkdir(parents=True)
    splits = ("training", "training", "validation", "test")
    rows = [f"{city}-{place},{city},{split}" for city in CITIES for place, split in enumerate(splits)]
    (folder / "data/prepare/index.csv").write_text("id,city,split\n" + "\n".join(rows) + "\n")
    np.save(folder / "data/prepare/images.npy", np.zeros((8, 96, 96, 3), np.uint8))
    (folder / "reports/prepare/splits.csv").write_text("split,city,images,spots\n")


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A folder with data, two trained networks and a register stage, reproduced once by DVC."""
    folder = tmp_path_factory.mktemp("project")
    for seed in (0, 1):
        _write_network(folder / f"made/simple-{seed}", seed)
    _write_prepared(folder / "made/prepare")
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
    for command in (["git", "add", "."], [*as_someone, "commit", "-qm", "first"], [dvc, "repro", "-q"]):
        subprocess.run(command, cwd=folder, check=True, env=_environment())
    return folder


def _environment(**more: str) -> dict[str, str]:
    left = ("MLFLOW", "CITYLENS", "PYTEST", "PYTHONDONT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left)}
    return kept | {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"} | more


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.delenv("CITYLENS_TRACKING", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project


@pytest.fixture
def experiment(here):
    return stores.connect(stores.store(None, here), "citylens")


def _runs(experiment, name: str):
    """The runs of a stage, the newest first."""
    return experiment.client.search_runs([experiment.id], f"tags.`citylens.name` = '{name}'")


def test_a_run_and_its_entry_in_dvc_lock_match_both_ways(here, experiment):
    (run,) = _runs(experiment, "train@simple-1")
    entry, tags = pipeline.recorded(here)["train@simple-1"], run.data.tags
    assert run.info.status == "FINISHED"
    assert tags["citylens.fingerprint"] == entry.fingerprint()
    assert tags["dvc.dep.data/prepare"] == entry.deps["data/prepare"]
    assert tags["dvc.out.models/train/simple-1"] == entry.outs["models/train/simple-1"]
    assert tags["mlflow.source.git.commit"] == git.state(here)["commit"]
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("citylens train simple 1", "LOCAL")
    assert tags["mlflow.user"] not in ("", "UNKNOWN") and "citylens.synced" not in tags
    own = {"network": "simple", "seed": "1", "data": entry.deps["data/prepare"][:8]}
    own["train.epochs"] = str(parser.load(here / "params.yaml").train.epochs)
    assert run.data.params == own | {"train.learning_rate": "1e-05"}
    note = run.data.tags["mlflow.note.content"]
    assert f"(#/experiments/{experiment.id}/runs/{run.info.run_id}/model-metrics?workflowType=machine_learning)" in note
    assert run.data.metrics["test_accuracy"] == 0.75
    assert run.data.metrics["test_recall_Zürich _old_"] == 0.75
    assert not [name for name in run.data.metrics if "/" in name or name == "learning_rate"]
    history = experiment.client.get_metric_history(run.info.run_id, "training_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.9), (2, 0.5)]
    files = [file.path for file in experiment.client.list_artifacts(run.info.run_id, "tables")]
    assert sorted(files) == [f"tables/{name}.{kind}" for name in ("confusion", "history") for kind in ("csv", "json")]
    assert {"path": "tables/history.json", "type": "table"} in json.loads(tags["mlflow.loggedArtifacts"])


def test_the_datasets_of_a_run_have_context_schema_profile_and_a_source_that_loads(here, experiment, tmp_path):
    import mlflow

    (run,) = _runs(experiment, "train@simple-0")
    inputs = {data.tags[0].value: data.dataset for data in run.inputs.dataset_inputs}
    assert set(inputs) == {"training", "validation", "test"}
    profile = json.loads(inputs["training"].profile)
    assert profile == {"num_rows": 4, "images of Mallorca": 2, "images of Zürich (old)": 2}
    assert "images" in json.loads(inputs["training"].schema)["mlflow_tensorspec"]["features"]
    md5 = pipeline.recorded(here)["train@simple-0"].deps["data/prepare"]
    assert inputs["test"].digest == md5[:8]
    source = mlflow.data.get_source(inputs["test"])
    assert md5s.of(source.load()) == md5s.of(source.load(str(tmp_path / "copy"))) == md5
    with pytest.raises(FileNotFoundError, match="is not in DVC's cache"):
        type(source)("data/prepare", f"{'0' * 32}.dir").load()


def test_a_saved_view_lists_the_trained_networks_and_draws_their_curves(here, experiment):
    data = _runs(experiment, "train@simple-1")[0].data
    tags = experiment.client.get_experiment(experiment.id).tags
    state = json.loads(json.loads(tags[f"mlflow.sharedViewState.{pages.TRAININGS}"])["state"])
    shown = {"metrics": data.metrics, "params": data.params, "attributes": {"Models": ""}}
    for column in state["selectedColumns"]:
        kind, name = column.replace("`", "").split(".", 1)
        assert name in shown[kind], column
    assert {chart["metricKey"] for chart in state["compareRunCharts"]} <= set(data.metrics)
    found = experiment.client.search_runs([experiment.id], state["searchFilter"])
    assert {run.data.tags["citylens.name"] for run in found} == set(TRAINED)
    assert len({run.data.tags["mlflow.runColor"] for run in found}) == len(TRAINED)
    assert f"viewStateShareKey={pages.TRAININGS}" in tags["mlflow.note.content"]


def test_what_a_user_wrote_of_the_experiment_stays(here, experiment):
    before = experiment.client.get_experiment(experiment.id).tags["mlflow.note.content"]
    experiment.client.set_experiment_tag(experiment.id, "mlflow.note.content", "mine")
    stores.connect(experiment.store, experiment.name)
    assert experiment.client.get_experiment(experiment.id).tags["mlflow.note.content"] == "mine"
    experiment.client.set_experiment_tag(experiment.id, "mlflow.note.content", before)


def test_sync_adds_nothing_twice_even_from_two_processes_at_once(here, experiment):
    assert sync(parser.load()) == []
    for name in TRAINED:
        (run,) = _runs(experiment, name)
        experiment.client.set_tag(run.info.run_id, runs.FINGERPRINT, "another")
    command = [sys.executable, "-m", "citylens.cli", "sync"]
    with ThreadPoolExecutor() as pool:
        done = list(
            pool.map(lambda _: subprocess.run(command, env=_environment(), capture_output=True, text=True), range(2))
        )
    assert sorted(one.stdout.splitlines()[0] for one in done) == ["sync: 0 run(s) made", "sync: 2 run(s) made"]
    for name in TRAINED:
        entry = pipeline.recorded(here)[name]
        new, old = _runs(experiment, name)
        assert new.data.tags[runs.FINGERPRINT] == entry.fingerprint()
        assert new.data.tags["citylens.synced"] == "true"
        assert (new.data.params, new.data.metrics) == (old.data.params, old.data.metrics)
        experiment.client.delete_run(old.info.run_id)


SYNC_IN_STEP = """
import sys, time
from pathlib import Path
from citylens import cli
from citylens.tracking import sync
make, meeting = sync._make, Path(sys.argv[1])
def in_step(experiment, entry, *rest):  # Both have looked and found no run of this entry; now both make it.
    (meeting / f"{entry.name} {sys.argv[2]}").touch()
    end = time.monotonic() + 30
    while entry.name.startswith("train") and len(list(meeting.glob(f"{entry.name} *"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return make(experiment, entry, *rest)
sync._make = in_step
sys.exit(cli.main(["sync"]))
"""


@pytest.mark.integration
def test_two_machines_that_sync_to_one_server_make_each_run_once(here, tmp_path, monkeypatch):
    """Two clones have no common lock."""
    import servers

    clones = [tmp_path / name for name in ("one", "other")]
    for clone in clones:
        shutil.copytree(here, clone, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", ".citylens"))
    (tmp_path / "meeting").mkdir()
    database = f"sqlite:///{tmp_path}/server.db"
    with servers.mlflow(tmp_path, servers.free_port(), database, tmp_path / "artefacts") as address:
        there = _environment(CITYLENS_TRACKING=address, MLFLOW_HTTP_REQUEST_TIMEOUT="60")
        started = [
            subprocess.Popen(
                [sys.executable, "-c", SYNC_IN_STEP, str(tmp_path / "meeting"), clone.name],
                cwd=clone,
                env=there,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for clone in clones
        ]
        said = [process.communicate() for process in started]
        assert [process.returncode for process in started] == [0, 0], "\n".join(error for _, error in said)
        assert "train@simple-0 was logged twice; the younger run is deleted" in said[0][1] + said[1][1]
        monkeypatch.chdir(clones[0])
        monkeypatch.setenv("CITYLENS_TRACKING", address)
        experiment = stores.connect(stores.store(address), "citylens")
        for name in TRAINED:
            (run,) = _runs(experiment, name)
            assert run.data.tags[runs.FINGERPRINT] == pipeline.recorded()[name].fingerprint()
        logged = experiment.client.search_logged_models([experiment.id])
        versions = experiment.client.search_model_versions("name = 'citylens-simple'")
        assert len(logged) == len(versions) == len(TRAINED)
        assert {version.source for version in versions} == {f"models:/{model.model_id}" for model in logged}
        assert sync(parser.load()) == []


def test_the_younger_of_two_runs_goes_with_its_network_and_leaves_its_place(here, experiment):
    entry = pipeline.Entry("report", "x", {}, {}, {"reports/report": "1"})
    twins = [runs.begin(experiment, "report", {runs.FINGERPRINT: entry.fingerprint()}) for _ in range(3)]
    under = runs.begin(experiment, "measure", {}, parent=twins[1].id)
    assert sync_module._run_of(experiment, entry) == twins[0].id
    for run in twins[:0:-1]:  # the first has not ended; of those that have, the older stays
        run.end("FINISHED")
    assert sync_module._run_of(experiment, entry) == twins[1].id
    assert len(_runs(experiment, "report")) == 2
    twins[0].end("FINISHED")
    assert sync_module._run_of(experiment, entry) == twins[0].id
    (left,) = _runs(experiment, "report")
    (moved,) = _runs(experiment, "measure")
    assert left.info.run_id == twins[0].id == moved.data.tags[runs.PARENT]
    for run in (twins[0], under):
        experiment.client.delete_run(run.id)


def test_a_version_that_two_machines_registered_is_one_and_has_its_network(here, experiment):
    """The lowest number stays; a version whose network went with a deleted run is made anew; a champion is left."""
    client, md5 = experiment.client, "0" * 32
    run = _runs(experiment, "train@simple-0")[0].info.run_id

    def log():
        model = client.create_logged_model(
            experiment.id, name="simple-9", source_run_id=run, tags={models.WEIGHTS: md5}
        )
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        return model.model_id

    def version(model):
        made = client.create_model_version("twins", f"models:/{model}", run, tags={models.WEIGHTS: md5}, model_id=model)
        return str(made.version)

    def register():
        models.register(experiment, "twins", md5, {"citylens.key": "simple-9", "citylens.accuracy": 0.5})
        return sorted((str(one.version), one.source) for one in client.search_model_versions("name = 'twins'"))

    first, second = log(), log()
    create = client.create_model_version
    with pytest.MonkeyPatch.context() as patch:  # the other machine is faster between look and creation

        def slower(*args, **how):
            patch.undo()
            version(second)
            return create(*args, **how)

        patch.setattr(client, "create_model_version", slower)
        assert register() == [("1", f"models:/{second}")]
    client.delete_logged_model(second)
    assert register() == [("3", f"models:/{first}")]
    assert client.get_registered_model("twins").aliases == {models.CHALLENGER: 3}
    client.set_registered_model_alias("twins", models.CHAMPION, "3")
    client.delete_logged_model(first)
    third = log()
    assert register() == [("3", f"models:/{first}"), ("4", f"models:/{third}")]
    client.delete_logged_model(third)
    fourth, fifth = log(), log()
    with pytest.MonkeyPatch.context() as patch:  # the other machine deletes the model between look and creation

        def gone(*args, **how):
            patch.undo()
            client.delete_logged_model(fourth)
            return create(*args, **how)

        patch.setattr(client, "create_model_version", gone)
        assert register() == [("3", f"models:/{first}"), ("5", f"models:/{fifth}")]
    client.delete_logged_model(fifth)
    client.delete_registered_model("twins")


def test_networks_are_registered_once_with_their_versions(here, experiment):
    found = experiment.client.search_model_versions("name = 'citylens-simple'")
    assert len(found) == 2
    version = min(found, key=lambda version: version.tags["citylens.seed"])
    assert version.tags["citylens.weights.md5"] == md5s.of("models/train/simple-0/network.safetensors")
    assert version.tags["dvc.dep.made/simple-0"] == md5s.of("made/simple-0")
    assert version.tags["citylens.accuracy"] == "0.75"
    assert "simple-0, test accuracy 75.0%" in version.description
    assert experiment.client.get_registered_model("citylens-simple").description
    model = experiment.client.get_logged_model(version.source.removeprefix("models:/"))
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "citylens-simple", "version": version.version}]
    values = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert values["test_accuracy"] == (0.75, "data/prepare test")


def test_weights_are_linked_from_the_workspace_and_dvc_to_mlflow(here, experiment):
    weights = here / "models/train/simple-0/network.safetensors"
    models = [
        file for file in here.glob("mlartifacts/models/*/artifacts/data/network.safetensors") if file.samefile(weights)
    ]
    md5 = md5s.of(weights)
    assert models and weights.samefile(here / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")
    assert not [file for file in here.rglob("mlartifacts/**/*") if file.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_outputs_that_are_not_here_are_named(here, experiment, capsys):
    (run,) = _runs(experiment, "train@simple-0")
    experiment.client.set_tag(run.info.run_id, runs.FINGERPRINT, "another")
    scores = here / "reports/train/simple-0/scores.json"
    text = scores.read_text()
    try:
        scores.unlink()
        assert sync(parser.load()) == []
        said = "train@simple-0: outputs are not here (reports/train/simple-0/scores.json); `dvc pull` fetches them"
        assert said in capsys.readouterr().out
        scores.write_text("{}")
        assert sync(parser.load()) == []
        assert "train@simple-0: outputs are not those of dvc.lock" in capsys.readouterr().out
    finally:
        scores.write_text(text)
        entry = pipeline.recorded(here)["train@simple-0"]
        experiment.client.set_tag(run.info.run_id, runs.FINGERPRINT, entry.fingerprint())
    assert sync(parser.load()) == []


def test_a_training_logs_itself_and_sync_adds_where_it_came_from(here, experiment, monkeypatch):
    """One run in the end, with curves, system metrics and network from the training, and versions from dvc.lock."""
    (before,) = _runs(experiment, "train@simple-0")
    monkeypatch.setattr(live, "SAMPLE", 0.2)
    with live.training(parser.load(), "simple", 0) as run:
        run.epoch(2, {"training_loss": 0.5})  # a continued training: an earlier one was stopped after epoch 1
        (seen, _) = _runs(experiment, "train@simple-0")
        assert seen.info.status == "RUNNING" and seen.data.metrics["training_loss"] == 0.5
        assert seen.data.params["train.learning_rate"] == "1e-05"
        time.sleep(1)
        run.finish(train.logged("simple", 0))
    assert sync(parser.load()) == []  # the entry has a run already
    experiment.client.delete_run(before.info.run_id)
    assert sync(parser.load()) == ["train@simple-0"]
    (run,) = _runs(experiment, "train@simple-0")
    assert run.info.run_id == seen.info.run_id and run.info.status == "FINISHED"
    history = experiment.client.get_metric_history(run.info.run_id, "training_loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 0.9), (2, 0.5)]
    assert run.data.params == before.data.params
    assert {name for name in run.data.metrics if name.startswith("test_")} == {
        name for name in before.data.metrics if name.startswith("test_")
    }
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert next(iter(run.data.metrics)) == "training_loss"  # the page Compare opens with the first one
    assert run.outputs.model_outputs and len(run.inputs.dataset_inputs) == 3
    assert run.data.tags[runs.FINGERPRINT] == before.data.tags[runs.FINGERPRINT]


def test_a_run_ends_as_its_training_does(here, experiment):
    settings, before = parser.load(), {run.info.run_id for run in _runs(experiment, "train@simple-1")}
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error), live.training(settings, "simple", 1):
            raise error
    code = "import os\nfrom citylens.settings import parser\nfrom citylens.tracking import live\n"
    code += "with live.training(parser.load(), 'simple', 1):\n    os.kill(os.getpid(), 9)\n"
    subprocess.run([sys.executable, "-c", code], env=_environment(), check=False)
    with live.training(settings, "simple", 1):
        sync(settings)  # closes the one that is gone, not the one that is at work
        ends = [run for run in _runs(experiment, "train@simple-1") if run.info.run_id not in before]
        assert sorted(run.info.status for run in ends) == ["FAILED", "KILLED", "KILLED", "RUNNING"]
    assert all(runs.FINGERPRINT not in run.data.tags for run in ends)
    for run in ends:
        experiment.client.delete_run(run.info.run_id)


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


def test_a_model_serves_images_of_any_size_without_the_project(here, experiment, tmp_path):
    version = experiment.client.search_model_versions("name = 'citylens-simple'")[0]
    folder = here / "mlartifacts" / "models" / version.source.removeprefix("models:/") / "artifacts"
    environment = _environment(
        MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false", MLFLOW_TRACKING_URI=stores.store(None, here).address
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


ASK = """
import json, os, sys
import mlflow, numpy as np
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
scoring_server.init(model)
def answer(body):
    text = body if isinstance(body, str) else json.dumps(body)
    try:
        given = scoring_server.invocations(text.encode(), "application/json", model, model.metadata.get_input_schema())
        return given.status, given.response
    except MlflowException as error:
        return error.get_http_status_code(), error.message.splitlines()[-1]
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (2, 40, 50, 3))
good, other, half = images.tolist(), rng.integers(0, 256, (31, 20, 3)).tolist(), (images / 255).tolist()
pixels = ([0.5] * 3, [1.0, 0, 255], [300, 0, 1], [-1, 0, 1], [True, 0, 1], [None, 0, 1], ["5", 0, 1], [10**30, 0, 1], [1, 2])
wrong = [{"inputs": half}, {"instances": half}, *({"inputs": [[[pixel]]]} for pixel in pixels), {"inputs": []}, {"inputs": 5}]
wrong += [{"dataframe_split": {"columns": ["images"], "data": [[image] for image in half]}}, '{"inputs": [[[[NaN, 0, 1]]]]}']
taken = [json.loads(answer(body)[1])["predictions"] for body in ({"inputs": good}, {"instances": good}, {"inputs": [good[0], other]})]
seen = model.get_raw_model().predict([*images.astype(np.uint8), np.array(other, np.uint8)])
print(json.dumps({
    "taken": [[[row["city"], np.shape(row["mask"])] for row in rows] for rows in taken],
    "in python": [[city, mask.shape] for city, mask in zip(seen["city"], seen["mask"])],
    "refused": [answer(body) for body in wrong],
    "many": answer({"inputs": [[[[0, 0, 0]]]] * 1000}),
}))
"""


def test_over_http_a_network_takes_whole_numbers_up_to_255_alone(here, experiment, tmp_path):
    """MLflow casts to the dtype of a signature: with uint8, an image of floats from 0 to 1 became a black one."""
    version = experiment.client.search_model_versions("name = 'citylens-simple'")[0]
    command = [sys.executable, "-c", ASK, f"models:/citylens-simple/{version.version}"]
    environment = _environment(MLFLOW_TRACKING_URI=stores.store(None, here).address)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    first, second, other = said["in python"]
    assert said["taken"] == [[first, second], [first, second], [first, other]]
    assert {status for status, _ in said["refused"]} == {400}
    assert "values of type float; allowed: (height, width, 3), whole numbers from 0 to 255" in said["refused"][0][1]
    assert said["many"] == [
        400,
        "Error: 1,000 images in one call; allowed over HTTP: 100, so send several calls",
    ]


def test_the_served_network_is_the_one_of_the_study(here):
    import torch

    from citylens.nets import checkpoints, networks
    from citylens.tracking.served import Served

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


def test_a_server_that_is_down_costs_one_warning(here, free_port, monkeypatch, capfd):
    monkeypatch.setenv("CITYLENS_TRACKING", f"http://127.0.0.1:{free_port}")
    with live.training(parser.load(), "simple", 0) as run:
        for epoch in range(1000):
            run.epoch(epoch, {"loss": 1 / (epoch + 1)})
        run.finish(train.logged("simple", 0))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tracking: ") and line.endswith("; the training goes on, and `citylens sync` logs it later")
    done = subprocess.run(
        [sys.executable, "-m", "citylens.cli", "register"],
        env=_environment(CITYLENS_TRACKING=f"http://127.0.0.1:{free_port}"),
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 0
    assert line.startswith("tracking at http://127.0.0.1") and line.endswith("`citylens sync` logs them later")


def test_a_database_that_nobody_answers_for_is_given_up_at_once(free_port):
    with pytest.raises(ConnectionRefusedError):
        stores.connect(stores.Store(f"postgresql://user:word@127.0.0.1:{free_port}/runs", None), "citylens")


def test_sync_says_which_server_is_down(here, free_port, monkeypatch):
    monkeypatch.setenv("CITYLENS_TRACKING", f"http://127.0.0.1:{free_port}")
    with pytest.raises(InputError, match=f"tracking at http://127.0.0.1:{free_port} failed"):
        sync(parser.load())
    monkeypatch.setenv("CITYLENS_TRACKING", "off")
    with pytest.raises(InputError, match="CITYLENS_TRACKING is off"):
        sync(parser.load())
    with live.training(parser.load(), "simple", 0) as run:
        assert run is None


def test_many_processes_open_a_fresh_database_at_once(tmp_path):
    code = "from citylens.tracking import runs, stores\n"
    code += "runs.begin(stores.connect(stores.store(None), 'citylens'), 'measure', {}).metrics({'x': 1})"
    commands = [[sys.executable, "-c", code]] * 3
    started = [
        subprocess.Popen(one, cwd=tmp_path, env=_environment(), stderr=subprocess.PIPE, text=True) for one in commands
    ]
    assert [process.communicate()[1] for process in started] == ["", "", ""]
    experiment = stores.connect(stores.store(None, tmp_path), "citylens")
    assert [run.data.metrics for run in experiment.client.search_runs([experiment.id])] == [{"x": 1}] * 3
    assert experiment.client.get_experiment(experiment.id).tags["mlflow.experimentKind"] == "custom_model_development"


def test_what_a_run_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "folder/sub/a.txt").write_text("a")
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,\n")
    experiment = stores.connect(stores.store(None), "citylens")
    run = runs.begin(experiment, "measure", {})
    run.table(Path("table.csv"))
    run.file(Path("folder"), "all")
    run.metrics({"recall": {"Zürich (old)": np.float32(0.5)}, "name": "no number", "a/b": 1})
    run.params(
        {"more": {"numbers": (1, 2)}, "path": Path("a")} | {f"setting {number}": number for number in range(150)}
    )
    files = Path(experiment.client.download_artifacts(run.id, ""))
    found = sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
    assert found == ["all/folder/sub/a.txt", "tables/table.csv", "tables/table.json"]
    assert json.loads((files / "tables/table.json").read_text())["data"] == [[1, "x"], [2, None]]
    data = experiment.client.get_run(run.id).data
    assert data.metrics == {"recall.Zürich _old_": 0.5, "a_b": 1}
    assert {name: data.params[name] for name in ("more.numbers", "path")} == {"more.numbers": "[1, 2]", "path": "a"}
    assert len(data.params) == 152


def test_runs_of_a_temporary_experiment_copy_go_to_the_main_folder(tmp_path):
    copy = tmp_path / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    where = stores.store(None, copy)
    assert where == stores.store(None, tmp_path)
    assert where == stores.Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlartifacts")
    assert stores.store("sqlite:///runs/x.db", copy).address == f"sqlite:///{tmp_path}/runs/x.db"
    assert stores.store("http://127.0.0.1:5000", copy) == stores.Store("http://127.0.0.1:5000", None)


def test_which_address_counts(monkeypatch):
    settings = parser.load(ROOT / "params.yaml").tracking
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.delenv("CITYLENS_TRACKING", raising=False)
    assert stores.address(settings) == "http://127.0.0.1:1"
    assert stores.address(type(settings)(settings.experiment, "http://127.0.0.1:2")) == "http://127.0.0.1:2"
    monkeypatch.setenv("CITYLENS_TRACKING", "off")
    assert stores.address(settings) == stores.OFF


@pytest.mark.parametrize(
    ("given", "expected"), [("OFF", "off"), (" off ", "off"), (" ", None), (" http://x ", "http://x")]
)
def test_off_is_off_in_any_case_and_blanks_are_nothing(monkeypatch, given, expected):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("CITYLENS_TRACKING", given)
    assert stores.address(Tracking("citylens", None)) == expected
