"""Comparison of DVC's cache, a remote or the workspace with the md5s of dvc.lock and .dvc files, by reading the bytes.

DVC itself trusts a read-only object of its cache, a file of known size and time, and, unless `verify` is set, a remote. So it
passes on bytes that a disk has damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.io import md5s
from citylens.versions import git

DAMAGED, MISSING, DIFFERENT = "damaged", "missing", "different"
THREADS = 8


@dataclass(frozen=True)
class Finding:
    """An object of the cache or a remote, or a file of the workspace, that is not as its md5 says.

    Attributes:
        state: DAMAGED, MISSING or DIFFERENT.
        location: where the object or the file lies.
        path: the path in the workspace that it belongs to.
    """

    state: str
    location: str
    path: str


def mend() -> list[Finding]:
    """Remove damaged objects from DVC's cache and the same files from the workspace, so that `dvc repro` makes them again.

    Objects whose size and time DVC has recorded are not read.

    Returns:
        What was removed.

    Raises:
        InputError: there is no DVC project, or its cache cannot be read.
    """
    with opened("DVC's cache could not be checked") as repo:
        cache = repo.cache.local
        found = _findings(cache, _objects(_outs(repo), cache), cache.state)
        _remove(cache, found)
    return [one for one in found if one.state == DAMAGED]


def verify(remote: str | None = None, remove: bool = False) -> tuple[int, list[Finding]]:
    """Compare all bytes of the cache and the workspace, or of a remote, with their md5s.

    Args:
        remote: name of the remote to read instead; empty for the default remote.
        remove: remove damaged objects, so that `dvc pull` or `dvc push` brings whole ones.

    Returns:
        The number of objects read, and what is not as it should be.

    Raises:
        InputError: there is no DVC project or no such remote, or it cannot be reached.
    """
    with opened("not all could be verified") as repo:
        cache, outs = repo.cache.local, _outs(repo)
        store = cache if remote is None else repo.cloud.get_remote_odb(remote or None, "verify")
        objects = _objects(outs, store, cache)
        found = _findings(store, objects)
        if remote is None:
            found += _workspace(outs, cache)
        if remove:
            _remove(store, found, [] if remote is None else outs)
        return len(objects), found


@contextmanager
def opened(failed: str) -> Iterator[Any]:
    """Open DVC's repository, and turn its errors and those of a remote's library into an InputError that begins with a text."""
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        if reason.endswith("is not a git repository"):  # an unpacked ZIP
            reason += f", which DVC needs; {git.MAKE_REPOSITORY} makes it one"
        raise InputError(f"{failed}: {reason}") from error


def _outs(repo: Any) -> list[Any]:
    """Return DVC's outputs that have an md5, those that git holds included."""
    return [out for out in repo.index.outs if out.hash_info and out.protocol == "local"]


def _objects(outs: Iterable[Any], *stores: Any) -> dict[str, str]:
    """Return the md5 of each object that outputs in the cache consist of, with its path in the workspace."""
    found: dict[str, str] = {}
    for out in outs:
        if out.use_cache:
            found[out.hash_info.value] = str(out)
            found |= {md5: f"{out}/{name}" for name, md5 in _listing(out, *stores).items()}
    return found


def _listing(out: Any, *stores: Any) -> dict[str, str]:
    """Return the md5 of each file of a folder; an empty dict for a file, and where no store has the listing whole."""
    from dvc_data.hashfile.tree import Tree

    for store in stores if out.hash_info.isdir else ():
        if _state(store, out.hash_info.value) is None:
            return {"/".join(name): md5.value for name, _, md5 in Tree.load(store, out.hash_info)}
    return {}


def _findings(store: Any, objects: Mapping[str, str], known: Any = None) -> list[Finding]:
    """Return the objects that are damaged or missing.

    Args:
        store: DVC's cache or remote.
        objects: md5 to path.
        known: DVC's record of md5s by size and time, if it is to be trusted; otherwise every object is read.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        states = pool.map(lambda md5: _state(store, md5, known), objects)
        located = zip(states, map(store.oid_to_path, objects), objects.values(), strict=True)
        return [Finding(state, location, path) for state, location, path in located if state]


def _state(store: Any, md5: str, known: Any = None) -> str | None:
    """Return DAMAGED, MISSING, or None for a whole object."""
    from botocore.exceptions import FlexibleChecksumError
    from dvc_data.hashfile.hash import file_md5, hash_file

    path = store.oid_to_path(md5)
    try:
        found = hash_file(path, store.fs, "md5", known)[1].value if known else file_md5(path, store.fs)
    except FileNotFoundError:
        return MISSING
    except FlexibleChecksumError:  # S3 sends a checksum with the bytes, which they do not fit
        return DAMAGED
    return None if str(found).removesuffix(".dir") == md5.removesuffix(".dir") else DAMAGED


def _workspace(outs: Iterable[Any], cache: Any) -> Iterator[Finding]:
    for out in outs:
        files = {f"{out}/{name}": md5 for name, md5 in _listing(out, cache).items()} if out.isdir() else {}
        for path, md5 in (files or {str(out): out.hash_info.value}).items():
            now = md5s.of(path)
            if now != md5:
                yield Finding(DIFFERENT if now else MISSING, path, str(out))


def _remove(store: Any, found: Iterable[Finding], outs: Iterable[Any] = ()) -> None:
    """Remove damaged objects, and the files of the workspace that are hard links to them.

    Of the folders in `outs`, remove the listing too: DVC takes a listing on a remote as proof that all its files are there, so
    `dvc push` would not look for them.
    """
    damaged = [one for one in found if one.state == DAMAGED]
    for one in damaged:
        file, location = Path(one.path), Path(one.location)
        if file.is_file() and location.exists() and file.samefile(location):
            file.unlink()
        store.fs.remove(one.location)
    for out in outs:
        if any(one.path.startswith(f"{out}/") for one in damaged) and store.exists(out.hash_info.value):
            store.delete(out.hash_info.value)
