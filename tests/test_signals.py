"""What a stage leaves behind when its user stops it, or what started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from clones import ROOT, SECONDS, wait_for

CITYLENS = [sys.executable, "-m", "citylens.cli"]
DVC = str(Path(sys.executable).with_name("dvc"))
HEED = "import signal, runpy; [signal.signal(one, signal.default_int_handler if one == 2 else signal.SIG_DFL) for one in (1, 2)]"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project that draws 48,000 images."""
    for name in ("profiles", "worlds"):
        (tmp_path / name).symlink_to(ROOT / name)
    changes = ["acquire.render.spots=1000", "acquire.render.headings=12"]
    subprocess.run([*CITYLENS, "use", "smoke", *changes], cwd=tmp_path, check=True, capture_output=True)
    yield tmp_path
    for left in acquiring(tmp_path):
        left.kill()


def acquiring(project: Path) -> list[psutil.Process]:
    """The processes that acquire in this project, without their workers."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if (process.info["cmdline"] or [""])[-1] == "acquire" and process.cwd() == str(project):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_stage_and_its_drafts(project: Path, number: signal.Signals) -> None:
    # If the tests themselves run under nohup or in the background, these signals are ignored, also by what they start.
    running = subprocess.Popen(
        [sys.executable, "-c", f"{HEED}; runpy.run_module('citylens.cli', run_name='__main__')", "acquire"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_for(lambda: list(project.glob("data/.acquire*/images/*/*.jpg")), "the first image")
    running.send_signal(number)
    printed, _ = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + number, printed
    assert list(project.glob("data/.acquire*")) == []


@pytest.mark.parametrize(("number", "after"), [(signal.SIGTERM, ""), (signal.SIGKILL, "; true")])
def test_a_stage_ends_with_the_dvc_that_started_it(project: Path, number: signal.Signals, after: str) -> None:
    """Also where a shell stays between them, as it does for a command of two parts."""
    (project / "dvc.yaml").write_text(f"stages:\n  acquire:\n    cmd: {' '.join(CITYLENS)} acquire{after}\n")
    environment = os.environ | {"DVC_NO_ANALYTICS": "true", "SHELL": "/bin/sh"}
    subprocess.run([DVC, "init", "-q", "--no-scm"], cwd=project, check=True, env=environment)
    running = subprocess.Popen([DVC, "repro"], cwd=project, env=environment, stdout=subprocess.DEVNULL)
    wait_for(lambda: list(project.glob("data/.acquire*/images/*/*.jpg")), "the first image")
    (stage,) = (one for one in acquiring(project) if one.name() != "sh")
    running.send_signal(number)
    running.wait()
    wait_for(lambda: not stage.is_running(), "the stage's end")
    assert list(project.glob("data/.acquire*")) == []


def test_a_stage_waits_for_the_same_stage_and_names_its_process(project: Path) -> None:
    first = subprocess.Popen([*CITYLENS, "acquire"], cwd=project, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(project.glob("data/.acquire*/images/*/*.jpg")), "the first image")
    second = subprocess.Popen([*CITYLENS, "acquire"], cwd=project, stderr=subprocess.PIPE, text=True)
    assert second.stderr and second.stderr.readline() == (
        f"acquire: process {first.pid} runs this stage in this folder; waiting for its end\n"
    )
    (drafts,) = project.glob("data/.acquire*")
    first.kill()
    first.wait()
    wait_for(lambda: {drafts} != set(project.glob("data/.acquire*")), "the second's draft, in place of the first's")
    second.terminate()
    assert second.wait(SECONDS) == 128 + signal.SIGTERM
    assert list(project.glob("data/.acquire*")) == []
