from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))

from clones import Clone

# `gate_study` begins with tests that need nothing of what `study` sets up, so it comes second.
LONG = ("study", "gate_study", "engine", "experiments", "faults", "real_data", "remotes", "server")

os.environ.pop("CITYLENS_TRACKING", None)  # what tests make is nothing for a team's server
# Two tests run at a time. With more threads than cores, those of torch wait in a loop: a study then takes twice the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, then with those of many tests; two processes take files in this order."""
    tests = Counter(item.path for item in items)

    def rank(item: pytest.Item) -> tuple[int, int, Path]:
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG), -tests[item.path], item.path

    items.sort(key=rank)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Clone:
    """A clone in which the smoke study has run, once for the workers of a test run together. Tests change copies of it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if done.exists():
            return Clone.at(folder)
        clone = Clone(folder)
        clone.reproduce()
        done.touch()
        return clone
