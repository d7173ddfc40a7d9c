"""Champions, challengers and the log of promotions, in a real MLflow database; runs are made as the stage `train` makes them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelStatus

from citylens import cli
from citylens.errors import Incomparable, InputError
from citylens.io import md5s
from citylens.settings import parser
from citylens.tracking import live, models, promotion, runs, stores
from citylens.tracking.models import CHALLENGER, CHAMPION, WEIGHTS

ROOT = Path(__file__).parents[1]
MODEL = "citylens-resnet18"
DATA = "dvc.dep.data/prepare"


class Project:
    """A folder with a registry, in which networks are registered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = stores.store(None, folder)
        self.experiment = stores.connect(self.where, "citylens")
        self.client = self.experiment.client
        self.settings = parser.load(ROOT / "params.yaml")

    def network(
        self,
        accuracy: float,
        validation: float = 0.5,
        *,
        seed: int = 0,
        data: str = "d.dir",
        code: str = "a",
        again: int = 1,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Registers a trained network; the version's number."""
        weights = self.folder / f"{len(list(self.folder.glob('*.safetensors')))}.safetensors"
        weights.write_bytes(os.urandom(64))
        run = runs.begin(
            self.experiment, f"train@resnet18-{seed}", {DATA: data, "citylens.dvc.code": code, **(tags or {})}
        )
        run.params({"train.keep": "last"})
        run.metrics({"validation_accuracy": 0.9}, step=1)
        run.metrics({"validation_accuracy": validation}, step=2)
        run.metrics({"test_accuracy": accuracy, "test_majority_accuracy": 0.5})
        model = self.client.create_logged_model(
            self.experiment.id, name=f"resnet18-{seed}", source_run_id=run.id, tags={WEIGHTS: md5s.of(weights)}
        )
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        run.end("FINISHED")
        for _ in range(again):
            named = {"citylens.key": f"resnet18-{seed}", "citylens.seed": seed, "citylens.accuracy": accuracy}
            models.register(self.experiment, MODEL, md5s.of(weights), named)
        return str(max(self.numbers()))

    def numbers(self) -> list[int]:
        return [int(version.version) for version in self.client.search_model_versions(f"name = '{MODEL}'")]

    def aliases(self) -> dict[str, str]:
        return {name: str(number) for name, number in self.client.get_registered_model(MODEL).aliases.items()}

    def promote(self, **how: object) -> int:
        return promotion.promote(self.settings, "resnet18", "because", **how)

    def changes(self) -> list[tuple[str, str, str]]:
        return [(one.action, one.before, one.after) for one in promotion.changes(self.experiment, MODEL)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, since MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("fresh")
    stores.connect(stores.store(None, folder), "citylens")
    return folder / "mlflow.db"


@pytest.fixture
def project(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copy(fresh, tmp_path / "mlflow.db")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CITYLENS_TRACKING", raising=False)
    return Project(tmp_path)


def test_the_challenger_is_the_better_twin_of_the_study_registered_last(project: Project) -> None:
    worse, better = project.network(0.9, 0.6), project.network(0.7, 0.8, seed=1)
    assert project.aliases() == {CHALLENGER: better}
    assert project.network(0.99, 0.7, seed=2, again=2) == "3"
    assert project.aliases() == {CHALLENGER: better}
    other = project.network(0.6, 0.1, code="other")
    assert project.aliases() == {CHALLENGER: other}
    assert (worse, better, other) == ("1", "2", "4")


@pytest.mark.integration
def test_the_first_champion_needs_to_be_above_chance(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.network(0.5)
    assert project.promote() == 1
    assert CHAMPION not in project.aliases() and project.changes() == []
    project.network(0.51, code="b")
    assert project.promote() == 0
    assert project.aliases() == {CHAMPION: "2"}
    assert project.changes() == [("promote", "", "2")]


def test_a_better_challenger_and_a_worse_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.network(0.8)
    assert project.promote() == 0
    project.network(0.79, code="b")
    assert project.promote() == 1
    said = capsys.readouterr().out
    assert "regression" in said and "refused; version 1 of citylens-resnet18 stays" in said
    assert project.aliases() == {CHAMPION: "1", CHALLENGER: "2"}
    project.network(0.9, code="c")
    assert project.promote() == 0
    assert project.aliases() == {CHAMPION: "3"}
    assert project.promote(version="3") == 0 and "already" in capsys.readouterr().out
    assert project.changes() == [("promote", "", "1"), ("promote", "1", "3")]
    old, new = (project.client.get_model_version(MODEL, number).tags for number in ("1", "3"))
    assert old["citylens.replaced_by"] == "3" and old["citylens.promotion"] == new["citylens.promotion"]
    run = project.client.get_run(new["citylens.promotion"])
    assert run.data.tags["citylens.stage"] == "promote" and run.data.tags["citylens.reason"] == "because"
    assert run.data.params == {"action": "promote", "model": MODEL, "from": "1", "to": "3"}
    assert (run.data.metrics["from_test_accuracy"], run.data.metrics["to_test_accuracy"]) == (0.8, 0.9)


def test_a_champion_of_other_test_data_is_not_compared(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.network(0.8)
    project.promote()
    project.network(0.6, data="e.dir")
    with pytest.raises(Incomparable, match=r"tested on data/prepare d\.dir, version 2 on e\.dir; allowed: the same"):
        project.promote()
    assert cli.main(["promote", "resnet18", "--reason", "x"]) == 2
    assert project.aliases()[CHAMPION] == "1"
    assert project.promote(other_data=True) == 0
    assert "WARNING: the champion, version 1, was tested on" in capsys.readouterr().out


def test_data_rendered_on_another_processor_are_compared(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    made = {runs.RENDERED_FROM: "world, code and settings"}
    project.network(0.8, tags=made)
    project.promote()
    project.network(0.7, data="e.dir", tags=made)
    assert project.promote() == 1
    assert "regression" in capsys.readouterr().out
    project.network(0.9, data="f.dir", tags={runs.RENDERED_FROM: "another world"})
    with pytest.raises(Incomparable, match="version 3 on f"):
        project.promote()


def test_rollback_goes_back_one_by_one_and_is_logged(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for place in range(3):
        project.network(0.7 + place / 10, code=str(place))
        project.promote()
    for expected in ("2", "1"):
        promotion.rollback(project.settings, "resnet18", "it named fog birch")
        assert project.aliases()[CHAMPION] == expected
    with pytest.raises(InputError, match="version 1 was the first champion; nothing to roll back to"):
        promotion.rollback(project.settings, "resnet18", "more")
    assert project.promote(version="3") == 0
    promotion.rollback(project.settings, "resnet18", "again")
    assert project.aliases()[CHAMPION] == "1"
    assert cli.main(["promotions", "resnet18"]) == 0
    lines = capsys.readouterr().out.splitlines()[-7:]
    assert [line.split()[3] for line in lines] == ["promote"] * 3 + ["rollback"] * 2 + ["promote", "rollback"]
    assert lines[3].endswith("citylens-resnet18  3       2     0.9000           0.8000         it named fog birch")
    assert cli.main(["rollback", "vgg11", "--reason", "x"]) == 1
    assert "citylens-vgg11 has no champion" in capsys.readouterr().err


@pytest.mark.integration
def test_a_champion_set_by_hand_can_be_replaced_and_come_back(project: Project) -> None:
    project.network(0.7)
    project.promote()
    project.network(0.8, code="b")
    project.client.set_registered_model_alias(MODEL, CHAMPION, "2")
    with pytest.raises(InputError, match="version 2 was not made champion by `citylens promote`"):
        promotion.rollback(project.settings, "resnet18", "x")
    project.network(0.9, code="c")
    assert project.promote() == 0
    promotion.rollback(project.settings, "resnet18", "x")
    assert project.aliases()[CHAMPION] == "2"


@pytest.mark.integration
def test_a_promotion_that_died_in_the_middle(project: Project) -> None:
    """What was only meant does not count; what was done does, though its run never ended."""
    for place in range(2):
        project.network(0.7 + place / 10, code=str(place))
        project.promote()
    done = project.client.get_model_version(MODEL, "2").tags["citylens.promotion"]
    project.client.update_run(done, status="RUNNING")
    project.client.set_tag(done, live.PROCESS, f"{platform.node()} 1 0.0")
    meant = runs.begin(project.experiment, "promote", {})
    meant.tags({"citylens.number": 3, "citylens.action": "promote", "citylens.model": MODEL})
    meant.tags({"citylens.from": "2", "citylens.to": "1", "citylens.reason": "x"})
    promotion.rollback(project.settings, "resnet18", "x")
    assert project.aliases()[CHAMPION] == "1"


@pytest.mark.integration
def test_two_promotions_at_once_come_one_after_the_other(project: Project) -> None:
    project.network(0.7)
    project.promote()
    project.network(0.8, code="b")
    project.network(0.9, code="c")
    threads = [threading.Thread(target=project.promote, kwargs={"version": number}) for number in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert project.aliases()[CHAMPION] == "3"
    assert project.changes() in (
        [("promote", "", "1"), ("promote", "1", "2"), ("promote", "2", "3")],
        [("promote", "", "1"), ("promote", "1", "3")],  # 2 came second and is worse
    )


@pytest.mark.integration
def test_a_champion_that_changed_since_it_was_compared_is_left(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(3):
        project.network(0.7 + place / 10, code=str(place))
    assert project.promote(version="1") == 0

    def meanwhile(*_: object) -> bool:
        project.client.set_registered_model_alias(MODEL, CHAMPION, "2")
        return True

    monkeypatch.setattr(promotion, "_passes", meanwhile)
    with pytest.raises(Incomparable, match="another became champion meanwhile"):
        project.promote(version="3")
    assert project.aliases()[CHAMPION] == "2" and project.changes() == [("promote", "", "1")]


@pytest.mark.parametrize("other", ["at work", "done", "given up", "dead", "of another model"])
def test_a_change_on_another_machine_at_the_same_time(project: Project, other: str) -> None:
    """Without a common lock: who sees that another has announced a change gives way, and the log stays true."""
    project.network(0.7)
    begin = runs.begin

    def at_once(experiment, name, tags):
        process = f"{platform.node()} 1 0.0" if other == "dead" else "another-machine 5 1.0"
        theirs = begin(experiment, name, {live.PROCESS: process, "citylens.stage": "promote"})
        model = "citylens-vgg11" if other == "of another model" else MODEL
        theirs.tags({"citylens.number": 1, "citylens.action": "promote", "citylens.model": model})
        if other in ("done", "given up"):
            theirs.end("FINISHED" if other == "done" else "FAILED")
        return begin(experiment, name, tags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion.runs, "begin", at_once)
        if other in ("at work", "done"):
            with pytest.raises(Incomparable, match="another machine changes the champion at this moment; try again"):
                project.promote()
            assert CHAMPION not in project.aliases()
        else:
            assert project.promote() == 0
            assert project.aliases() == {CHAMPION: "1"}


@pytest.mark.integration
def test_what_cannot_be_promoted(project: Project) -> None:
    with pytest.raises(InputError, match="has no challenger; allowed: `make repro` registers one"):
        project.promote()
    project.network(0.7)
    with pytest.raises(InputError, match="has no version 7; allowed: 1"):
        project.promote(version="7")
    with pytest.raises(InputError, match="--reason is empty"):
        promotion.promote(project.settings, "resnet18", " ")
    assert promotion.log(project.settings) == "promotions: none yet"


SERVE = """
import json
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/citylens-resnet18@champion", suppress_warnings=True)
seen = model.predict(np.random.default_rng(0).integers(0, 256, (2, 90, 150, 3), dtype=np.uint8))
import citylens
print(json.dumps({"source": citylens.__file__, "shapes": [mask.shape for mask in seen["mask"]], "cities": list(seen["city"])}))
"""


@pytest.mark.integration
def test_the_champion_explains_without_the_project(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    from citylens.nets import checkpoints, networks

    weights, cities = project.folder / "network.safetensors", ("alder", "birch")
    card = checkpoints.Card("resnet18", cities, 64, "stretch", "none", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    checkpoints.write_network(weights, networks.build("resnet18", classes=2, size=64, seed=0), card)
    run = runs.begin(project.experiment, "train@resnet18-0", {DATA: "d.dir"})
    run.metrics({"test_accuracy": 0.8, "test_majority_accuracy": 0.5})
    models.log_network(project.experiment, run.id, weights, "resnet18-0")
    run.end("FINISHED")
    models.register(
        project.experiment, MODEL, md5s.of(weights), {"citylens.key": "resnet18-0", "citylens.accuracy": 0.8}
    )
    assert project.promote() == 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_TRACKING_URI": project.where.address}
    environment.pop("PYTHONPATH", None)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run([sys.executable, "-c", SERVE], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "mlartifacts" in Path(said["source"]).parts
    assert said["shapes"] == [[90, 150], [90, 150]] and set(said["cities"]) <= set(cities)
