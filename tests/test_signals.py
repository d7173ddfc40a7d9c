"""What a stage leaves behind when its user stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from clones import ROOT, SECONDS, wait_for


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_stage_and_its_drafts(tmp_path: Path, number: signal.Signals) -> None:
    for name in ("profiles", "worlds"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "citylens.cli"]
    changes = ["acquire.render.spots=1000", "acquire.render.headings=12"]
    subprocess.run([*command, "use", "smoke", *changes], cwd=tmp_path, check=True, capture_output=True)
    # If the tests themselves run under nohup or in the background, these signals are ignored, also by what they start.
    heed = "import signal, runpy; [signal.signal(one, signal.default_int_handler if one == 2 else signal.SIG_DFL) for one in (1, 2)]"
    running = subprocess.Popen(
        [sys.executable, "-c", f"{heed}; runpy.run_module('citylens.cli', run_name='__main__')", "acquire"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    wait_for(lambda: list(tmp_path.glob("data/.acquire*/images/*/*.jpg")), "the first image")
    running.send_signal(number)
    printed, _ = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + number, printed
    assert list(tmp_path.glob("data/.acquire*")) == []
