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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, then with those of many tests; two processes take files in this order."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name != "test_study.py", -tests[item.path], item.path))


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
