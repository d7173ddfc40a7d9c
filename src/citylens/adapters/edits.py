"""Edits of a stage's code, settings or data while it runs.

DVC notes a stage's dependencies as they are when it ends: what was edited meanwhile would be noted with results it did not make.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from citylens.adapters import md5s, versions
from citylens.settings import InputError


class Watch:
    """What a stage depends on, as it is when the watch begins: before the stage's code is imported."""

    def __init__(self, stage: str) -> None:
        self.stage, self.before = stage, _state(stage)

    def check(self) -> None:
        """Dependencies and parameters are what they were.

        Raises:
            InputError: names what changed; the results lie on disk, but DVC does not record them.
        """
        after = _state(self.stage)
        changed = [path for path, state in self.before.items() if after.get(path) != state]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise InputError(
                f"{changed[0]}{more} changed while the stage ran, so its results belong to no version. Run it again; or undo "
                f"the change, and `dvc commit --force {self.stage}` takes the results as they are"
            )


def _state(stage: str) -> dict[str, Any]:
    """Size and time of change of every file that the stage depends on, and the values of its parameters."""
    declared = versions.declared().get(stage)
    if declared is None:
        return {}
    state: dict[str, Any] = {path: _stamps(Path(path)) for path in declared.deps}
    for file, keys in declared.params.items():
        values = versions.read_yaml(file) or {}
        state |= {key: versions.look_up(values, key) for key in keys}
    return state


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Of a file, or of all files below a folder; none where nothing lies."""
    return sorted(map(_stamp, md5s.paths_below(path))) if path.exists() else []


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116 - there may be 150,000
    except FileNotFoundError:  # gone meanwhile, or a link to nothing
        return path, -1, -1
    return path, state.st_size, state.st_mtime_ns
