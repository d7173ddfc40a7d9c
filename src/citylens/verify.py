"""Hashes what DVC itself takes on trust: objects of its cache or of a remote, and what lies in the workspace.

DVC believes a read-only object of its cache, a file whose size and time it knows, and, unless a remote has `verify` set, whatever
comes from there; so bytes that rot pass unnoticed. Here each is read and compared with its name, the md5 of dvc.lock and of
.dvc files. Costs a read of everything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citylens.adapters import files, md5s
from citylens.settings import InputError

DAMAGED, MISSING, DIFFERENT = "damaged", "missing", "different"
AT_ONCE = 8
WHOLE = Path(".citylens/whole.json")


@dataclass(frozen=True)
class Finding:
    """Something that is not as its md5 says: an object of the cache or a remote, or a file of the workspace.

    `location` is where it lies, `path` the path in the workspace that it belongs to.
    """

    state: str
    location: str
    path: str


@dataclass(frozen=True)
class Output:
    """One output as dvc.lock has it; `cached` is False for what is in git."""

    path: str
    md5: str
    cached: bool


class Store:
    """The cache or a remote: objects by md5, through DVC's own file systems.

    `others` are asked for a folder's listing that is not here.
    """

    def __init__(self, database: Any, *others: Store) -> None:
        self.database, self.others = database, others

    def location(self, md5: str) -> str:
        return str(self.database.oid_to_path(md5))

    def state(self, md5: str) -> str | None:
        """DAMAGED, MISSING, or None for a whole object."""
        try:
            with self.database.fs.open(self.location(md5), "rb") as file:
                digest = hashlib.md5(usedforsecurity=False)
                while part := file.read(1 << 20):
                    digest.update(part)
        except FileNotFoundError:
            return MISSING
        except _refused():
            return DAMAGED
        return None if digest.hexdigest() == md5.removesuffix(".dir") else DAMAGED

    def remove(self, md5: str) -> None:
        self.database.fs.remove(self.location(md5))

    def listing(self, md5: str) -> dict[str, str]:
        """Files of a folder to md5s; empty where no store has the listing whole."""
        for store in (self, *self.others):
            if store.state(md5) is None:
                with store.database.fs.open(store.location(md5), "rb") as file:
                    return {entry["relpath"]: entry["md5"] for entry in json.load(file)}
        return {}

    def objects(self, outputs: Iterable[Output]) -> dict[str, str]:
        """The md5s of all objects that outputs consist of, to the paths they belong to."""
        found: dict[str, str] = {}
        for output in outputs:
            found[output.md5] = output.path
            if output.md5.endswith(".dir"):
                found |= {md5: f"{output.path}/{name}" for name, md5 in self.listing(output.md5).items()}
        return found


def mend() -> list[Finding]:
    """Takes damaged objects of the cache away, with the same files in the workspace, so that `dvc repro` makes them again.

    DVC would hand such an object out as if it were whole. What was whole before, and has its size and time still, is not read.
    """
    with _project("DVC's cache could not be looked at") as repo:
        outputs = [output for output in _outputs(repo) if output.cached]
        cache = Store(repo.cache.local)
        objects = cache.objects(outputs)
        stamps = {md5: stamp for md5 in objects if (stamp := _stamp(Path(cache.location(md5))))}
        whole = _read(WHOLE)
        states = {md5: cache.state(md5) for md5, stamp in stamps.items() if whole.get(md5) != stamp}
        damaged = {md5 for md5, state in states.items() if state == DAMAGED}
        _remove(cache, outputs, objects, damaged)
    files.write_json(WHOLE, {md5: stamp for md5, stamp in stamps.items() if md5 not in damaged})
    return [Finding(DAMAGED, cache.location(md5), objects[md5]) for md5 in sorted(damaged)]


def _stamp(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return [state.st_size, state.st_mtime_ns]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (InputError, TypeError, ValueError):
        return {}


def _refused() -> tuple[type[Exception], ...]:
    """What reading from S3 raises where the bytes do not fit the checksum that was sent with them."""
    try:
        from botocore.exceptions import FlexibleChecksumError
    except ImportError:
        return ()
    return (FlexibleChecksumError,)


def verify(remote: str | None = None, remove: bool = False) -> tuple[int, list[Finding]]:
    """Looks at the cache and the workspace or, where a remote is named ('' for the default one), at that remote.

    Args:
        remove: takes damaged objects away, so that `dvc pull` or `dvc push` brings whole ones.

    Returns:
        how many objects were looked at, and what is not as it should be.

    Raises:
        InputError: no DVC project, no such remote, or it cannot be reached.
    """
    with _project("not all could be verified") as repo:
        outputs = list(_outputs(repo))
        cache = Store(repo.cache.local)
        if remote is None:
            return _verify(cache, outputs, _workspace(cache, outputs), remove)
        far = Store(repo.cloud.get_remote_odb(remote or None, "verify"), cache)
        return _verify(far, outputs, [], remove)


@contextmanager
def _project(failed: str) -> Iterator[Any]:
    """DVC's repository; its errors, and whatever the library of a remote raises, as what the user can read."""
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except Exception as error:
        raise InputError(f"{failed}: {' '.join(str(error).split())[:300]}") from error


def _outputs(repo: Any) -> Iterator[Output]:
    for out in repo.index.outs:
        if out.hash_info and out.protocol == "local":
            yield Output(os.path.relpath(out.fs_path), out.hash_info.value, out.use_cache)


def _verify(store: Store, outputs: list[Output], beside: Iterable[Finding], remove: bool) -> tuple[int, list[Finding]]:
    objects = store.objects(output for output in outputs if output.cached)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        states = {md5: state for md5, state in zip(objects, pool.map(store.state, objects), strict=True) if state}
    found = [Finding(state, store.location(md5), objects[md5]) for md5, state in states.items()]
    found += beside
    if remove:
        _remove(store, outputs, objects, {md5 for md5, state in states.items() if state == DAMAGED})
    return len(objects), found


def _remove(store: Store, outputs: list[Output], objects: Mapping[str, str], damaged: set[str]) -> None:
    """Damaged objects, with other names that these files have in the workspace."""
    # DVC looks no further where a remote has a folder's listing: without it, `dvc push` looks at the files.
    listings = [output.md5 for output in outputs if store.others and output.md5.endswith(".dir")]
    lists = {md5 for md5 in listings if damaged & {*store.listing(md5).values()}}
    for md5 in damaged:
        file, location = Path(objects[md5]), Path(store.location(md5))
        if file.is_file() and location.exists() and file.samefile(location):
            file.unlink()
    for md5 in damaged | {md5 for md5 in lists if store.state(md5) is None}:
        store.remove(md5)


def _workspace(cache: Store, outputs: Iterable[Output]) -> Iterator[Finding]:
    for output in outputs:
        for path, md5 in _files(cache, output).items():
            now = md5s.of(path)
            if now != md5:
                yield Finding(DIFFERENT if now else MISSING, path, output.path)


def _files(cache: Store, output: Output) -> dict[str, str]:
    """What is to lie in the workspace, to md5s: a folder's files where their listing is known."""
    if not output.md5.endswith(".dir") or not Path(output.path).is_dir():
        return {output.path: output.md5}
    listing = cache.listing(output.md5)
    return {f"{output.path}/{name}": md5 for name, md5 in listing.items()} or {output.path: output.md5}
