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


def commit_of(revision: str, folder: Path | str = ".") -> str:
    """The commit that a branch, tag or other name stands for; empty where git knows none."""
    return _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")


def show(commit: str, path: str, folder: Path | str = ".") -> str | None:
    """The text of a file in `folder` as a commit has it; None where it has none."""
    try:
        command = ["git", "-C", str(folder), "show", f"{commit}:./{path}"]
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def _git(folder: Path | str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
