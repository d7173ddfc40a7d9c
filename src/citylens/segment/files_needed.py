"""The files that a scene parser reads."""

from __future__ import annotations

from pathlib import Path

from citylens.errors import InputError
from citylens.settings.schema import Segment


def check_files(plan: Segment) -> None:
    """Check that the scene parser's files exist, so that a study without them does not stop after all its training.

    Raises:
        InputError: names the setting and the missing file.
    """
    named = {"onnx": ("model", "objects"), "csail": ("encoder", "decoder")}.get(plan.segmenter, ())
    fetch = "; `citylens fetch csail` downloads it, or says where to put it" if plan.segmenter == "csail" else ""
    for name in named:
        path = Path(plan.path) / getattr(getattr(plan, plan.segmenter), name)
        if not path.is_file():
            raise InputError(f"segment.{plan.segmenter}.{name}: {path}: no such file{fetch}")
