"""Time `dvc repro` when no stage has to run, and `citylens --help`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from timing import Row, medians, turns


def rows() -> Iterator[Row]:
    """Measure `dvc repro` beside `dvc status`, and `citylens --help` beside Python."""
    took = medians(turns({name: _runs(*name.split()) for name in ("dvc repro", "dvc status", "citylens --help")}))
    python = medians(turns({"python": _runs(sys.executable, "-c", "pass")}))["python"]
    idle, start = took["dvc repro"] - took["dvc status"], took["citylens --help"] - python
    yield Row(
        "`dvc repro` with nothing to do",
        "`dvc status`",
        "2 seconds more",
        f"{idle:+.1f} s ({took['dvc repro']:.1f} s)",
        idle <= 2,
    )
    yield Row("`citylens --help`", "`python -c pass`", "0.4 seconds more", f"{start:+.2f} s", start <= 0.4)


def _runs(*command: str) -> object:
    return lambda: subprocess.run(command, capture_output=True, check=True)
