"""Raw data that somebody has edited or left out: found before `dvc repro` takes it for a new version without a word, or stops.

Raw is what stages read that neither a stage makes nor git holds: the folder of photographs, a scene parser's weights. What dvc.lock
knows of it is one md5; which files changed is known from a listing of the last check, in .citylens/raw.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from citylens.adapters import files, md5s, versions
from citylens.settings import InputError, Segment

FOLDER = Path(".citylens/raw")
NAMED = 5


def check(accept: bool = False) -> list[str]:
    """Compares raw data with what dvc.lock says the results were made from.

    Args:
        accept: changed data are a new version, and fine.

    Returns:
        the paths that hold something else than dvc.lock says; those that it does not know are left out.

    Raises:
        InputError: names the files that changed, unless they are accepted.
    """
    declared, entries = versions.declared(), versions.recorded()
    known = [entry for name, entry in entries.items() if name in declared]
    recorded = {path: md5 for entry in known for path, md5 in entry.deps.items()}
    changed = {path: said for path in _raw(declared) if (said := _compare(path, recorded.get(path), accept))}
    if changed and not accept:
        raise InputError(
            "raw data are not those that the results were made from: "
            + "; ".join(changed.values())
            + ". Put back what was there, or take it as a new version: make repro DATA=new"
        )
    return list(changed)


def check_parser(plan: Segment) -> None:
    """Looks for the scene parser's files: a study that lacks one would stop there, after all its training.

    Raises:
        InputError: names the setting and the file that is not there.
    """
    named = {"onnx": ("model", "objects"), "csail": ("encoder", "decoder")}.get(plan.segmenter, ())
    fetch = "; `citylens fetch csail` downloads it, or says where to put it" if plan.segmenter == "csail" else ""
    for name in named:
        path = Path(plan.path) / getattr(getattr(plan, plan.segmenter), name)
        if not path.is_file():
            raise InputError(f"segment.{plan.segmenter}.{name}: {path}: no such file{fetch}")


def _raw(declared: Mapping[str, versions.Declared]) -> list[str]:
    made = {path for stage in declared.values() for path in stage.outs}
    read = sorted({path for stage in declared.values() for path in stage.deps})
    return [
        path
        for path in read
        if not path.startswith("src/") and not any(_overlap(path, out) for out in made) and not _in_git(path)
    ]


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _in_git(path: str) -> bool:
    """Whether git holds all that lies there: not so of a folder with a .gitkeep and files that git ignores."""

    def listed(*which: str) -> str:
        command = ["git", "ls-files", *which, "--", path]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    return bool(listed()) and not listed("--others")


def _compare(path: str, recorded: str | None, accept: bool) -> str | None:
    """What is different, in words; the listing is kept where nothing is, or where it is accepted."""
    if not Path(path).exists():
        return f"{path} is gone" if recorded else None
    kept = FOLDER / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
    before = _read(kept)
    after = _listing(Path(path), before)
    different = recorded is not None and _md5(Path(path), after) != recorded
    if not different or accept:
        if after != before:
            files.write_json(kept, after)
        return path if different else None
    return (
        f"{path}: {_difference(before, after)}"
        if before
        else f"{path} has md5 {_md5(Path(path), after)}, not {recorded}"
    )


def _read(kept: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(kept))
    except (InputError, TypeError, ValueError):
        return {}


def _listing(path: Path, before: dict[str, Any]) -> dict[str, Any]:
    """[size, time of change in ns, md5] of each file; a file is read only where size or time are others than before."""
    listing = {}
    for file in md5s.files_below(path):
        name = file.relative_to(path).as_posix()
        try:
            state = file.stat()
        except FileNotFoundError:
            raise InputError(f"{file}: a link to nothing, or gone meanwhile; remove it, or run again") from None
        size, changed, md5 = before.get(name, (None, None, None))
        known = (size, changed) == (state.st_size, state.st_mtime_ns)
        listing[name] = [state.st_size, state.st_mtime_ns, md5 if known else md5s.of(file)]
    return listing


def _md5(path: Path, listing: dict[str, Any]) -> str:
    if not path.is_dir():
        return str(listing["."][2])
    return md5s.of_listing([{"md5": md5, "relpath": name} for name, (_, _, md5) in listing.items()])


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    kinds = {
        "edited": [name for name in after if name in before and after[name][2] != before[name][2]],
        "new": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
    }
    return ", ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def _few(names: list[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
