from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))

from clones import Clone

os.environ.pop("CITYLENS_TRACKING", None)  # what tests make is nothing for a team's server
# Two tests run at a time. With more threads than cores, those of torch wait in a loop: a study then takes twice the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; two processes take files in this order. A long test counts as twenty."""
    takes: Counter[Path] = Counter()
    for item in items:
        takes[item.path] += 20 if item.get_closest_marker("integration") else 1
    items.sort(key=lambda item: (item.path.name != "test_study.py", -takes[item.path], item.path))


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
