"""Projects and machines with odd paths: nothing beside the project is touched, and every command finds its way."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clones import ROOT

from citylens import cli
from citylens.settings.schema import Tracking
from citylens.tracking import stores

ODD = ["my project", 'it\'s "mine"', "$HOME costs $(5)", "#1 & 100%20; what?", "東京 *", "a/b" + 150 * "c"]
FAKE = '#!/bin/sh\n{ printf "%s" "${0##*/}"; printf " %s" "$@"; printf " in %s as %s\\n" "$PWD" "$USER"; } >> "$LOG"\n'
VENV = (
    FAKE + 'case "$*" in -m?venv*) mkdir -p .venv/bin; for one in python uv; do cp "$0" .venv/bin/$one; done;; esac\n'
)
IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def listed(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Project:
    """The files of a project that its commands need, at an odd path, with neighbours for each part of that path."""

    def __init__(self, base: Path, name: str) -> None:
        self.base, self.folder, self.log = base / "all", base / "all" / name, base / "log"
        for part in {*name.split(), *name.split("$"), name[:-1], name.partition("#")[0], name.partition("?")[0]} - {""}:
            neighbour = self.folder.parent / part.strip("*/ ") / ".venv/photo.jpg"
            if not neighbour.is_relative_to(self.folder):
                neighbour.parent.mkdir(parents=True, exist_ok=True)
                neighbour.write_text("mine")
        self.neighbours = listed(self.base)
        assert self.neighbours
        for path in (
            "Makefile",
            ".ci/run",
            ".ci/audit",
            "scripts/remote-demo.sh",
            "requirements.lock",
            "pyproject.toml",
        ):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.folder / path)

    def fake(self, *names: str, folder: str = "bin", text: str = FAKE) -> None:
        """Programs that write down what they are asked."""
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (self.folder / folder / name).write_text(text)
            (self.folder / folder / name).chmod(0o755)

    def run(self, *command: str | Path, path: Path | None = None) -> list[str]:
        """The lines that the programs wrote down."""
        self.log.write_text("")
        variables = {name: value for name, value in os.environ.items() if name not in ("USER", "PYTHONPATH")}
        variables |= {
            "LOG": str(self.log),
            "PATH": f"{path or self.folder / 'bin'}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT / "src"),
        }
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.log.read_text().splitlines()

    def check_neighbours(self) -> None:
        now = listed(self.base)
        inside = f"{self.folder.relative_to(self.base)}/"
        assert {name: now[name] for name in now if not name.startswith(inside)} == self.neighbours
        folders = {path for path in self.folder.parent.iterdir() if path.is_dir() and not any(path.rglob("*"))}
        assert folders == set()


@pytest.fixture(params=ODD, ids=range(len(ODD)))
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return Project(tmp_path, request.param)


def test_setup_and_clean_stay_inside(project: Project) -> None:
    project.fake("python3", text=VENV)
    asked = project.run("make", "setup", "PYTHON=python3")
    assert (project.folder / ".venv/.installed").exists()
    assert [line.split()[0] for line in asked] == ["python3", "python3", "python", "uv", "uv"]
    (project.folder / ".citylens/server").mkdir(parents=True)
    (project.folder / ".citylens/raw").mkdir()
    project.run("make", "clean")
    assert not (project.folder / ".venv").exists()
    assert [path.name for path in (project.folder / ".citylens").iterdir()] == ["server"]
    project.check_neighbours()


def test_recipes_and_scripts_find_the_project(project: Project) -> None:
    project.fake("citylens", "dvc", "mlflow", "pytest", "ruff", "mypy", "pip-audit", folder=".venv/bin")
    project.fake("make", "rclone", "python", "pip-audit")
    (project.folder / ".venv/.installed").touch()
    os.utime(project.folder / ".venv/.installed", (2e9, 2e9))
    (project.folder / ".dvc").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=project.folder, check=True)
    subprocess.run(["git", *IDENTITY, "commit", "-qm", "x"], cwd=project.folder, check=True)
    make, here = shutil.which("make") or "make", f" in {project.folder} as "
    for target in ("repro", "test", "numeric", "integration", "fuzz", "gate", "lint", "types", "ui", "audit"):
        asked = project.run(make, target)
        assert asked and all(here in line and line[-1] != " " for line in asked), target
    (project.folder / "new file").touch()
    asked = project.run(make, "smoke")
    assert [line.partition(" in ")[0] for line in asked] == ["citylens use smoke", "dvc repro"]
    assert here not in asked[0] and not Path(asked[0].partition(" in ")[2].rpartition(" as ")[0]).exists()
    assert all(here in line for line in project.run(project.folder / ".ci/run"))
    demo = FAKE + '[ "$1" != checkout ] || [ -d .dvc/"$(sed -n "s/.*dir = //p" .dvc/config.local)" ]\n'
    project.fake("dvc", "citylens", text=demo)
    (project.folder / ".dvc/cache").mkdir()
    (project.folder / ".dvc/.gitignore").write_text("cache\n")
    subprocess.run(["git", *IDENTITY, "commit", "-qam", "x", "--allow-empty"], cwd=project.folder, check=True)
    (project.folder / ".dvc/.gitkeep").touch()
    subprocess.run(["git", "add", "-A"], cwd=project.folder, check=True)
    subprocess.run(["git", *IDENTITY, "commit", "-qm", "x"], cwd=project.folder, check=True)
    asked = project.run(project.folder / "scripts/remote-demo.sh")
    assert any(line.startswith("dvc push prepare explain") for line in asked)  # the cache was found
    project.check_neighbours()


def test_recipes_run_without_what_libraries_cannot_bear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without docstrings altair fails, and with warnings as errors Great Expectations does."""
    project = Project(tmp_path, "project")
    project.fake("dvc", "citylens", folder=".venv/bin", text='#!/bin/sh\nenv | grep ^PYTHON >> "$LOG"\n')
    (project.folder / ".venv/.installed").touch()
    os.utime(project.folder / ".venv/.installed", (2e9, 2e9))
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    given = {line.partition("=")[0] for line in project.run(shutil.which("make") or "make", "repro")}
    assert "PYTHONPATH" in given and not given & {"PYTHONOPTIMIZE", "PYTHONWARNINGS"}


def test_a_stage_and_its_store_at_an_odd_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real citylens, DVC and MLflow: `make repro` of one stage, and a run with an artefact."""
    project = Project(tmp_path, "/".join(ODD[:4]) + ODD[4] + 150 * "c")
    for name in ("profiles", "worlds"):
        shutil.copytree(ROOT / name, project.folder / name)
    (project.folder / ".venv").mkdir()
    (project.folder / ".venv/.installed").touch()
    os.utime(project.folder / ".venv/.installed", (2e9, 2e9))
    stage = "stages:\n  acquire:\n    cmd: citylens acquire\n    outs: [data/acquire]\n"
    (project.folder / "dvc.yaml").write_text(stage)
    installed = Path(sys.executable).parent
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    for command in (["dvc", "init", "-q"], ["citylens", "use", "smoke"], ["make", "repro"]):
        project.run(*command, path=installed) if command[0] == "make" else project.run(
            installed / command[0], *command[1:], path=installed
        )
    assert (project.folder / "data/acquire/manifest.csv").exists()
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where = stores.store(stores.address(Tracking(address=None, experiment="x")))
    experiment = stores.connect(where, "x")
    run = experiment.client.create_run(experiment.id)
    experiment.client.log_artifact(run.info.run_id, "dvc.yaml")
    assert (project.folder / "mlflow.db").exists()
    (logged,) = (project.folder / "mlartifacts").rglob("dvc.yaml")
    folder = stores.local_folder(run.info.artifact_uri, where.address)
    assert folder is not None and logged.parent.samefile(folder)
    project.check_neighbours()


def test_what_is_private_is_ignored(tmp_path: Path) -> None:
    """A user's photographs, as a folder and as a link to one, and the pages of `dvc plots show`."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "data/photos").mkdir(parents=True)
    (tmp_path / "dvc_plots").mkdir()
    for name in ("data/photos/a.jpg", "dvc_plots/index.html"):
        (tmp_path / name).touch()
    others = subprocess.run(
        ["git", "ls-files", "-o", "--exclude-standard"], cwd=tmp_path, capture_output=True, text=True
    )
    assert others.stdout.split() == [".gitignore"]
    shutil.rmtree(tmp_path / "data/photos")
    (tmp_path / "data/photos").symlink_to("/")
    others = subprocess.run(
        ["git", "ls-files", "-o", "--exclude-standard"], cwd=tmp_path, capture_output=True, text=True
    )
    assert others.stdout.split() == [".gitignore"]


def test_a_user_without_a_name_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("citylens.cli._TOOLS", {"sync": lambda: None})
    assert cli.main(["sync"]) == 0
    assert getpass.getuser() == str(os.getuid())


def test_a_folder_without_git_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unpacked ZIP."""
    for name in ("profiles", "worlds", "dvc.yaml", ".dvc/config", "params.yaml", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check"]) == 1
    said = "`git init && git add --all && git commit -m start` makes "
    assert f"is not a git repository, which DVC needs; {said}it one" in capsys.readouterr().err
    Path(".venv").mkdir()
    done = subprocess.run(["make", "smoke", "--assume-old=.venv/.installed"], capture_output=True, text=True)
    assert done.returncode == 2 and f"make smoke: clones with git; {said}" in done.stderr
