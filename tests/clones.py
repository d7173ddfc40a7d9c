"""Clones of the working tree, in which tests run the whole study."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SECONDS = 120  # that something may take on a busy machine


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Fails where it does not come in time."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"{what} did not come in {SECONDS} s"
        time.sleep(0.02)


class Clone:
    """A clone of the working tree with its own DVC cache, tracking database and sources."""

    def __init__(self, folder: Path, profile: str = "smoke", *changes: str) -> None:
        self.folder = folder
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in tracked.stdout.splitlines():
            if (
                (ROOT / name).is_file()
                and name != "dvc.lock"
                and not (name.startswith("reports/") and not name.endswith(".gitignore"))
            ):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "clone"]):
            subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
        self.run("citylens", "use", profile, *changes)

    @classmethod
    def at(cls, folder: Path) -> Clone:
        """One that is already there."""
        clone = object.__new__(cls)
        clone.folder = folder
        return clone

    def copy(self, folder: Path, without: tuple[str, ...] = ("mlflow.db*", "mlartifacts")) -> Clone:
        """A copy that shares no file with this one; by default runs are not copied."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(*without))
        return Clone.at(folder)

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's, with the clone's own sources and these variables."""
        environment = os.environ | {
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        for name in ("PYTHONDONTWRITEBYTECODE", "MLFLOW_TRACKING_URI"):  # MLflow sets the latter in this process
            environment.pop(name, None)
        return environment | variables

    def run(self, *command: str, status: int = 0, **variables: str) -> str:
        """What the command prints; it must end with this exit status."""
        environment = self.environment(**variables)
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env=environment)
        assert done.returncode == status, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout + done.stderr

    def reproduce(self) -> str:
        """Reproduce the study; return what is printed."""
        return self.run("dvc", "repro")

    def ran(self, printed: str) -> list[str]:
        """The stages that a `dvc repro` ran, by what it printed."""
        return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")]

    def outputs(self) -> dict[str, str]:
        """md5 of every output in dvc.lock."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]
        return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
