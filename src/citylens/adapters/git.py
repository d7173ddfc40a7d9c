"""The version of the code, as git has it."""

from __future__ import annotations

import subprocess
from pathlib import Path


def state(folder: Path | str = ".") -> dict[str, str]:
    """`commit` of the checked-out code and whether it is `dirty`; empty outside git or before the first commit.

    What a reproduction writes by itself, dvc.lock and reports/, does not make the tree dirty.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(folder, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock", ":(exclude)reports")
    return {"commit": commit, "dirty": "true" if changes else "false"}


def _git(folder: Path | str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
