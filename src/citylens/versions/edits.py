"""Edits of a stage's code, settings or data while the stage runs.

DVC records a stage's dependencies as they are when the stage ends, so an edit meanwhile would be recorded with results that it
did not make.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.io import md5s, yaml_files
from citylens.versions import pipeline


@contextmanager
def watched(stage: str) -> Iterator[None]:
    """Check that no dependency or parameter of a stage changes inside the block, which also imports the stage's code.

    Raises:
        InputError: names what changed; the results stay on disk, but DVC does not record them.
    """
    before = _state(stage)
    yield
    after = _state(stage)
    changed = [path for path in before | after if before.get(path) != after.get(path)]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputError(
            f"{changed[0]}{more} changed while the stage ran, so its results belong to no version. Run it again; or undo "
            f"the change, and `dvc commit --force {stage}` takes the results as they are"
        )


def _state(stage: str) -> dict[str, Any]:
    """Return size and time of each file that the stage depends on, and the value of each parameter."""
    declared = pipeline.declared().get(stage)
    if declared is None:
        return {}
    state: dict[str, Any] = {}
    for path in declared.deps:
        state |= {file: _stamp(file) for file in md5s.paths_below(Path(path))}
    for file, keys in declared.params.items():
        values = yaml_files.read_optional_yaml(file) or {}
        state |= {key: pipeline.look_up(values, key) for key in keys}
    return state


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)  # noqa: PTH116 - there may be 150,000
    except OSError:  # no such file, or links that lead to themselves; the stage names them
        return None
    return state.st_size, state.st_mtime_ns
