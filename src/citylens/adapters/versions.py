"""DVC's versions, read without importing DVC: stages of dvc.yaml, entries of dvc.lock.

A fingerprint names one execution of one stage: its command, its dependencies, parameters and results. It is the same
computed inside the running stage and computed from dvc.lock afterwards, so that an MLflow run and a dvc.lock entry can
be matched in both directions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citylens import settings
from citylens.adapters import md5s
from citylens.settings import InputError

MOST_STAGES = 10_000
_PLACE = re.compile(r"\$\{([^{}]+)\}")


@dataclass(frozen=True)
class Entry:
    """One stage with versions: paths to md5s (`.dir` for folders), parameter files to keys to values.

    A dependency's md5 is empty where nothing lies at its path.
    """

    name: str
    cmd: str
    deps: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]
    outs: Mapping[str, str]

    def fingerprint(self) -> str:
        """32 hexadecimal digits over all of the entry."""
        whole = [
            self.name,
            self.cmd,
            dict(self.deps),
            {file: dict(values) for file, values in self.params.items()},
            dict(self.outs),
        ]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Declared:
    """One stage as dvc.yaml declares it, its templates resolved; parameters are file to keys."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]]
    outs: tuple[str, ...]


def digest(md5s: Mapping[str, str]) -> str:
    """32 hexadecimal digits over paths and md5s."""
    return hashlib.sha256(json.dumps(dict(md5s), sort_keys=True).encode()).hexdigest()[:32]


def module_and_item(name: str) -> tuple[str, tuple[Any, ...]]:
    """The stage's module and what it runs on: train@vgg11-0 -> train, (vgg11, 0); validate_images -> validate, (images,)."""
    base, _, key = name.partition("@")
    if key:
        network, _, seed = key.rpartition("-")
        return base, (network, int(seed)) if seed.isdigit() else (key,)
    module, _, suite = base.partition("_")
    return module, (suite,) if suite else ()


def declared(folder: Path | str = ".") -> dict[str, Declared]:
    """Every stage of dvc.yaml by its name, in the order of the file; none where there is no dvc.yaml.

    Raises:
        InputError: no YAML, not what DVC takes for stages, or a `${...}` that params.yaml does not hold.
    """
    file = Path(folder, "dvc.yaml")
    content = read_yaml(file) or {}
    values = read_yaml(Path(folder, "params.yaml")) or {}
    stages: dict[str, Declared] = {}
    with _readable(file):
        for name, stage in (content.get("stages") or {}).items():
            for suffix, item in _items(stage.get("matrix"), values):
                stages[name + suffix] = _declare(name + suffix, stage, {**values, "item": item})
                if len(stages) > MOST_STAGES:
                    raise InputError(f"{file}: more than {MOST_STAGES:,} stages; allowed: as many")
    return stages


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Whatever a value of another kind than DVC's trips, as an error that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise InputError(f"{file}: not as DVC has it: {reason}; allowed: what `dvc repro` takes or writes") from None


def _items(matrix: Mapping[str, Any] | None, values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if matrix is None:
        yield "", {}
        return
    axes = {name: _resolve(axis, values) for name, axis in matrix.items()}
    for combination in itertools.product(*axes.values()):
        yield "@" + "-".join(map(str, combination)), dict(zip(axes, combination, strict=True))


def _declare(name: str, stage: Mapping[str, Any], values: Mapping[str, Any]) -> Declared:
    stage = {key: _resolve(value, values) for key, value in stage.items() if key != "matrix"}
    outs = [entry for key in ("outs", "metrics", "plots") for entry in stage.get(key) or []]
    params: dict[str, tuple[str, ...]] = {}
    for entry in stage.get("params") or []:
        for file, keys in (entry if isinstance(entry, Mapping) else {"params.yaml": [entry]}).items():
            params[file] = (*params.get(file, ()), *(keys or ()))
    cmd = stage["cmd"]
    return Declared(
        name,
        cmd if isinstance(cmd, str) else "\n".join(cmd),
        tuple(sorted(map(_path, stage.get("deps") or []))),
        params,
        tuple(sorted(map(_path, outs))),
    )


def _path(entry: str | Mapping[str, Any]) -> str:
    path = entry if isinstance(entry, str) else next(iter(entry))
    return path.rstrip("/")


def _resolve(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        alone = _PLACE.fullmatch(value)
        if alone:
            return look_up(values, alone[1].strip())
        return _PLACE.sub(lambda found: _text(look_up(values, found[1].strip())), value)
    if isinstance(value, list):
        return [_resolve(entry, values) for entry in value]
    if isinstance(value, Mapping):
        return {_resolve(key, values): _resolve(entry, values) for key, entry in value.items()}
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def look_up(values: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, or at a whole section's name.

    Raises:
        InputError: no such key.
    """
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise InputError(f"params.yaml: missing key {key}, which dvc.yaml names")
        found = found[part]
    return found


def recorded(folder: Path | str = ".") -> dict[str, Entry]:
    """Every entry of dvc.lock by its stage's name; none where there is no dvc.lock.

    Raises:
        InputError: no YAML, or not what DVC writes, such as what git leaves of a merge with conflicts.
    """
    file = Path(folder, "dvc.lock")
    content = read_yaml(file) or {}
    with _readable(file):
        return {name: _entry(name, entry) for name, entry in (content.get("stages") or {}).items()}


def _entry(name: str, entry: Mapping[str, Any]) -> Entry:
    params = {file: dict(values) for file, values in (entry.get("params") or {}).items()}
    return Entry(name, _joined(entry["cmd"]), _md5s(entry, "deps"), params, _md5s(entry, "outs"))


def _joined(cmd: str | list[str]) -> str:
    return cmd if isinstance(cmd, str) else "\n".join(cmd)


def _md5s(entry: Mapping[str, Any], key: str) -> dict[str, str]:
    return {item["path"].rstrip("/"): item.get("md5", "") for item in entry.get(key) or []}


def begun(name: str, folder: Path | str = ".") -> Entry | None:
    """The running stage before its results exist: dependencies and parameters as they are now, no outs.

    Under DVC, which has just looked, a dependency that another stage puts out has the md5 that dvc.lock holds for it; any
    other is hashed.

    Returns:
        None where dvc.yaml has no such stage.
    """
    stage = declared(folder).get(name)
    if stage is None:
        return None
    trusted = recorded(folder).values() if os.environ.get("DVC_STAGE") else ()
    made = {path: md5 for entry in trusted for path, md5 in entry.outs.items()}
    deps = {path: made.get(path) or md5s.of(Path(folder, path)) for path in stage.deps}
    params = {file: _chosen(read_yaml(Path(folder, file)) or {}, keys) for file, keys in stage.params.items()}
    return Entry(name, stage.cmd, deps, params, dict.fromkeys(stage.outs, ""))


def _chosen(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: look_up(values, key) for key in keys} if keys else dict(values)


def finished(entry: Entry, folder: Path | str = ".") -> Entry:
    """The same with the md5s of the results that now lie on disk."""
    return Entry(
        entry.name, entry.cmd, entry.deps, entry.params, {path: md5s.of(Path(folder, path)) for path in entry.outs}
    )


def present(entry: Entry, folder: Path | str = ".") -> bool:
    """Whether every result lies in the workspace with the md5 of the entry."""
    there = all(Path(folder, path).exists() for path in entry.outs)
    return there and all(md5s.of(Path(folder, path)) == known for path, known in entry.outs.items())


def read_yaml(path: Path | str) -> Any:
    """A YAML file as DVC reads it; None where there is none.

    Raises:
        InputError: no YAML in UTF-8.
    """
    try:
        return settings.read_yaml(path)
    except FileNotFoundError:
        return None
