"""The version of the code in git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from citylens.errors import InputError

MAKE_REPOSITORY = "`git init && git add --all && git commit -m start`"


def state(folder: Path | str = ".") -> dict[str, str]:
    """Return the `commit` of the checked-out code and whether the tree is `dirty`; empty outside git or before a commit.

    Changes of dvc.lock and reports/, which a reproduction writes itself, do not make the tree dirty.
    """
    commit = commit_of("HEAD", folder)
    if not commit:
        return {}
    changes = _git(folder, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock", ":(exclude)reports")
    return {"commit": commit, "dirty": "true" if changes else "false"}


def commit_of(revision: str, folder: Path | str = ".") -> str:
    """Return the commit of a branch, tag or other name; empty where git knows none."""
    return (
        _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}") or ""
    ).strip()


def shallow(folder: Path | str = ".") -> bool:
    """Return whether a clone has the newest commits only."""
    return (_git(folder, "rev-parse", "--is-shallow-repository") or "").strip() == "true"


def version() -> str | None:
    """Return git's version; None where git cannot be run."""
    return _git(".", "--version")


def show(commit: str, path: str, folder: Path | str = ".") -> str | None:
    """Return the text of a file in `folder` as a commit has it; None where the commit has no such file."""
    return _git(folder, "show", f"{commit}:./{path}")


def holds(path: str) -> bool:
    """Return whether git has all that lies at a path. A folder with a .gitkeep and files that git ignores is not so."""
    return bool(_git(".", "ls-files", "--", path)) and not _git(".", "ls-files", "--others", "--", path)


def _git(folder: Path | str, *arguments: str) -> str | None:
    """Return what a git command prints; None where it fails.

    Raises:
        InputError: git refuses the folder, because it belongs to another user.
    """
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=True)
    except subprocess.CalledProcessError as error:
        if "dubious ownership" in error.stderr:
            raise InputError(
                "git refuses a folder of another user; `git config --global --add safe.directory '*'` lets it read all folders"
            ) from None
        return None
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
