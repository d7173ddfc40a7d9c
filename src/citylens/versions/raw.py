"""Raw data that differ from those of the results, found before `dvc repro` would take them as a new version.

Raw data are paths that stages read, that no stage makes and that git does not hold: the folder of photographs, the weights of
a scene parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.versions import git, pipeline
from citylens.versions.verify import opened

LISTINGS = Path(".citylens/raw")  # Of a folder that a stage depends on, DVC itself keeps one md5 and no listing.
NAMED = 5


def check(accept: bool = False) -> list[str]:
    """Compare raw data with what dvc.lock says that the results were made from.

    Args:
        accept: take changed data as a new version.

    Returns:
        The paths whose data differ. A path that dvc.lock does not have never differs.

    Raises:
        InputError: names the files that changed, unless they are accepted.
    """
    with opened("raw data could not be compared") as repo:
        changed = {str(dep): text for dep in _raw(repo) if (text := _difference(repo, dep, accept))}
    if changed and not accept:
        raise InputError(
            "raw data are not those that the results were made from: "
            + "; ".join(changed.values())
            + ". Put back what was there, or take it as a new version: make repro DATA=new"
        )
    return list(changed)


def _raw(repo: Any) -> Iterator[Any]:
    """Yield DVC's dependencies that are raw data, each path once."""
    made = [out.fs_path for out in repo.index.outs]
    files = [dep for dep in repo.index.deps if dep.hash_name == "md5" and not dep.def_path.startswith("src/")]
    read = {dep.fs_path: dep for dep in sorted(files, key=lambda dep: bool(dep.hash_info))}
    for path, dep in read.items():
        if not any(pipeline.overlap(path, out) for out in made) and not git.holds(path):
            yield dep


def _difference(repo: Any, dep: Any, accept: bool) -> str | None:
    """Return in words what differs, or None. Where nothing does, or where it is accepted, keep the listing."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import get_odb
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.errors import ObjectFormatError

    if not dep.exists:
        return f"{dep} is gone" if dep.hash_info else None
    try:
        _, _, now = build(repo.cache.local, dep.fs_path, dep.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: a link to nothing, or gone meanwhile; remove it, or run again") from None
    listings = get_odb(repo.fs, str(LISTINGS.resolve()))
    different = bool(dep.hash_info) and now.hash_info != dep.hash_info
    if isinstance(now, Tree) and (accept or not different):
        listings.add(now.path, now.fs, now.oid)
    if not different:
        return None
    try:
        before = Tree.load(listings, dep.hash_info).as_dict()
    except (OSError, ObjectFormatError):
        return f"{dep} has md5 {now.hash_info.value}, not {dep.hash_info.value}"
    return f"{dep}: {_changes(before, now.as_dict() if isinstance(now, Tree) else {})}"


def _changes(before: dict[tuple[str, ...], Any], after: dict[tuple[str, ...], Any]) -> str:
    kinds = {
        "edited": [name for name in after if name in before and after[name][1] != before[name][1]],
        "new": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
    }
    return ", ".join(f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def _few(names: list[tuple[str, ...]]) -> str:
    return ", ".join(sorted("/".join(name) for name in names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
