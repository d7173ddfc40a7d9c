"""Stages as forks of a process that holds their libraries: to whoever waits for one, it is the stage itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import SECONDS, Clone, wait_for

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="stages are forked on Linux alone")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone", "smoke", "acquire.render.spots=500")  # some minutes of drawing


@pytest.fixture
def drawing(clone: Clone) -> Iterator[subprocess.Popen[str]]:
    """`citylens acquire`, which waits for its fork, when that is at work."""
    environment = clone.environment(TMPDIR=str(clone.folder.parent))
    running = subprocess.Popen(
        ["citylens", "preload", "citylens", "acquire"],
        cwd=clone.folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed,
    )
    wait_for(lambda: list(clone.folder.glob("data/.acquire*/images/*/*.jpg")), "an image")
    yield running
    running.kill()
    running.communicate()


def _heed() -> None:
    """Where the tests themselves run in the background, or under nohup, these are ignored, and whoever they start ignores them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def processes(folder: Path) -> dict[int, int]:
    """Of the processes at work in a folder, each one's parent; what ran there is still being swept away."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                found[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def fork_of(running: subprocess.Popen[str], folder: Path) -> int:
    """The stage: whose parent is a child of who waits."""
    parents = processes(folder)
    (stage,) = [one for one, parent in parents.items() if parents.get(parent) == running.pid]
    return stage


def test_what_a_stage_says_is_heard(tmp_path: Path, clone: Clone) -> None:
    alone = clone.run("citylens", "train", "resnet18", "7", status=1)
    assert "resnet18-7 is not in params.yaml's study" in alone
    script = "citylens train resnet18 7; echo ended with $?; cd src; citylens prepare"
    forked = clone.run("citylens", "preload", "sh", "-c", script, status=1, TMPDIR=str(tmp_path))
    assert alone in forked and "ended with 1" in forked and "params.yaml: no such file" in forked
    wait_for(lambda: not list(tmp_path.glob("citylens-*")), "end of the process that held the libraries")


def test_code_is_imported_as_it_lies_on_disk(clone: Clone) -> None:
    edit = "echo 'raise SystemExit(7)' >> src/citylens/stages/prepare.py"
    script = f"citylens prepare; {edit}; citylens prepare; exit $?"
    assert "data/acquire/manifest.csv" in clone.run("citylens", "preload", "sh", "-c", script, status=7)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_stage(clone: Clone, drawing: subprocess.Popen[str], number: signal.Signals) -> None:
    drawing.send_signal(number)
    drawing.communicate(timeout=SECONDS)
    assert drawing.returncode == 128 + number
    assert list(clone.folder.glob("data/.acquire*")) == []
    wait_for(lambda: not processes(clone.folder), "end of all")


def test_a_stage_ends_with_who_waits_for_it(clone: Clone, drawing: subprocess.Popen[str]) -> None:
    fork_of(drawing, clone.folder)
    drawing.kill()
    drawing.wait()
    wait_for(lambda: not processes(clone.folder), "end of all")
    assert list(clone.folder.parent.glob("citylens-*")) == []


def test_a_killed_stage_is_seen_to_be_killed(clone: Clone, drawing: subprocess.Popen[str]) -> None:
    os.kill(fork_of(drawing, clone.folder), signal.SIGKILL)
    drawing.communicate(timeout=SECONDS)
    assert drawing.returncode == -signal.SIGKILL


def test_a_command_that_is_none(clone: Clone) -> None:
    assert "nonsense cannot be run" in clone.run("citylens", "preload", "nonsense", status=1)
    assert "allowed: a command that runs stages" in clone.run("citylens", "preload", status=1)
