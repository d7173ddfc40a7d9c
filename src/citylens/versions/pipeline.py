"""DVC's stages and versions, read from dvc.yaml and dvc.lock without DVC.

Each stage reads them when it starts. DVC itself would take 0.5 s for that, and its resolver of templates alone 0.4 s.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citylens.errors import InputError
from citylens.io import md5s
from citylens.io.yaml_files import parse_yaml, read_optional_yaml
from citylens.nets.names import split_key

MOST_STAGES = 10_000
WAY_OUT = "`git checkout dvc.lock` brings back that of the last commit (docs/operations/remotes.md)"
_MD5 = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
_TEMPLATE = re.compile(r"\$\{([^{}]+)\}")


@dataclass(frozen=True)
class Entry:
    """One stage as dvc.lock has it.

    Attributes:
        name: the stage's name, such as `train@vgg11-0`.
        cmd: its command.
        deps: path to md5, which ends in `.dir` for a folder.
        params: parameter file to key to value.
        outs: path to md5.
    """

    name: str
    cmd: str
    deps: Mapping[str, str]
    params: Mapping[str, Mapping[str, Any]]
    outs: Mapping[str, str]

    def fingerprint(self) -> str:
        """Return 32 hexadecimal digits that name this execution of the stage: a digest of the whole entry."""
        return digest([self.name, self.cmd, self.deps, self.params, self.outs])


@dataclass(frozen=True)
class Declared:
    """One stage as dvc.yaml declares it, with its templates resolved.

    Attributes:
        deps: paths.
        params: parameter file to keys.
        outs: paths, those of metrics and plots included.
    """

    deps: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]]
    outs: tuple[str, ...]


def digest(value: Any) -> str:
    """Return 32 hexadecimal digits over a value that JSON can hold, such as a mapping of paths to md5s."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def module_and_item(name: str) -> tuple[str, tuple[Any, ...]]:
    """Split a stage's name into its module and what it runs on.

    Returns:
        For example ("train", ("vgg11", 0)) for train@vgg11-0, and ("validate", ("images",)) for validate_images.
    """
    base, _, key = name.partition("@")
    if key:
        return base, split_key(key) if key.rpartition("-")[2].isdigit() else (key,)
    module, _, suite = base.partition("_")
    return module, (suite,) if suite else ()


def declared(folder: Path | str = ".") -> dict[str, Declared]:
    """Return every stage of dvc.yaml by its name, in the order of the file; an empty dict without a dvc.yaml.

    Raises:
        InputError: dvc.yaml is not YAML, holds no stages as DVC has them, or names a `${...}` that params.yaml lacks.
    """
    values = read_optional_yaml(Path(folder, "params.yaml")) or {}
    found: dict[str, Declared] = {}
    with _stages(Path(folder, "dvc.yaml")) as stages:
        for base, stage in stages.items():
            template = {key: value for key, value in stage.items() if key != "matrix"}
            for suffix, item in _items(stage.get("matrix"), values):
                found[base + suffix] = _declare(_resolve(template, {**values, "item": item}))
                if len(found) > MOST_STAGES:
                    raise InputError(f"dvc.yaml: more than {MOST_STAGES:,} stages; allowed: as many")
    return found


@contextmanager
def _stages(file: Path | str, text: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Give a file's stages, and turn any error over a value that DVC would not take into an InputError that names the file.

    Args:
        text: the file's content, where that is not on disk.
    """
    try:
        content = read_optional_yaml(file) if text is None else parse_yaml(text, file)
        yield (content or {}).get("stages") or {}
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise InputError(f"{file}: not as DVC has it: {reason}; allowed: what `dvc repro` takes or writes") from None


def _items(matrix: Mapping[str, Any] | None, values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the ending of the name and the values of `item` for each cell of a matrix; one empty pair without a matrix."""
    if matrix is None:
        yield "", {}
        return
    axes = _resolve(matrix, values)
    for combination in itertools.product(*axes.values()):
        yield "@" + "-".join(map(str, combination)), dict(zip(axes, combination, strict=True))


def _resolve(value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with its templates `${...}` filled in, as DVC fills them in."""
    if isinstance(value, str):
        alone = _TEMPLATE.fullmatch(value)
        if alone:
            return look_up(values, alone[1].strip())
        return _TEMPLATE.sub(lambda found: _text(look_up(values, found[1].strip())), value)
    if isinstance(value, list):
        return [_resolve(entry, values) for entry in value]
    if isinstance(value, Mapping):
        return {_resolve(key, values): _resolve(entry, values) for key, entry in value.items()}
    return value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _declare(stage: Mapping[str, Any]) -> Declared:
    outs = [entry for key in ("outs", "metrics", "plots") for entry in stage.get(key) or []]
    params: dict[str, tuple[str, ...]] = {}
    for entry in stage.get("params") or []:
        for file, keys in (entry if isinstance(entry, Mapping) else {"params.yaml": [entry]}).items():
            params[file] = (*params.get(file, ()), *(keys or ()))
    return Declared(_paths(stage.get("deps") or []), params, _paths(outs))


def _paths(entries: Iterable[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the sorted paths of entries that are a path, or a path with settings."""
    paths = (entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)
    return tuple(sorted(path.rstrip("/") for path in paths))


def look_up(values: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, or a whole section by its name.

    Raises:
        InputError: there is no such key.
    """
    found: Any = values
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise InputError(f"params.yaml: missing key {key}, which dvc.yaml names")
        found = found[part]
    return found


def overlap(one: str, other: str) -> bool:
    """Return whether two paths are the same, or one lies in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def recorded(folder: Path | str = ".", text: str | None = None) -> dict[str, Entry]:
    """Return every entry of dvc.lock, or of its content elsewhere, by its stage's name; an empty dict without a dvc.lock.

    Raises:
        InputError: dvc.lock is not YAML, or not as DVC writes it; git's marks of a conflict, for example.
    """
    with _stages(Path(folder, "dvc.lock"), text) as stages:
        return {name: _entry(name, entry) for name, entry in stages.items()}


def rendered_from(entries: Mapping[str, Entry]) -> str:
    """Return 32 hexadecimal digits over what made data/prepare, if that was rendered; "" for other sources or missing entries.

    What made it is the world, the code and the settings of acquire and prepare. The pixels differ a little between processors, as
    OpenCV computes with other instructions on each.
    """
    makers = [entries[name] for name in ("acquire", "prepare") if name in entries]
    acquire = makers[0].params.get("params.yaml", {}).get("acquire") if len(makers) == 2 else None
    if not isinstance(acquire, Mapping) or acquire.get("source") != "render":
        return ""
    made = {path for entry in entries.values() for path in entry.outs}
    return digest([[{path: md5 for path, md5 in one.deps.items() if path not in made}, one.params] for one in makers])


def behind(committed: str | None, folder: Path | str = ".") -> list[str]:
    """Check that dvc.lock is whole.

    Args:
        committed: dvc.lock as git's last commit has it.

    Returns:
        The stages of dvc.yaml of which `committed` has more outputs than dvc.lock. They are new to this folder, or dvc.lock
        has lost its end. Nothing without a dvc.lock.

    Raises:
        InputError: as `recorded`; or an entry ends in the middle.
    """
    now, stages = recorded(folder), declared(folder)
    for name, entry in now.items():
        cut = [path for path, md5 in [*entry.deps.items(), *entry.outs.items()] if not _MD5.fullmatch(str(md5))]
        if cut or (name in stages and stages[name].outs and not entry.outs):
            what = f"no whole md5 of {cut[0]}" if cut else "no outputs"
            raise InputError(f"dvc.lock: the entry of {name} is cut short, {what}; {WAY_OUT}")
    if committed is None or not Path(folder, "dvc.lock").exists():
        return []
    with _stages("dvc.lock of git's last commit", committed) as before:
        outs = {
            name: set(_md5s(entry, "outs")) & set(stages[name].outs) for name, entry in before.items() if name in stages
        }
    return [name for name, paths in outs.items() if paths - set(now[name].outs if name in now else ())]


def _entry(name: str, entry: Mapping[str, Any]) -> Entry:
    cmd = entry["cmd"] if isinstance(entry["cmd"], str) else "\n".join(entry["cmd"])
    params = {file: dict(values) for file, values in (entry.get("params") or {}).items()}
    return Entry(name, cmd, _md5s(entry, "deps"), params, _md5s(entry, "outs"))


def _md5s(entry: Mapping[str, Any], key: str) -> dict[str, str]:
    return {item["path"].rstrip("/"): item.get("md5", "") for item in entry.get(key) or []}


def present(entry: Entry, folder: Path | str = ".") -> bool:
    """Return whether every output lies in the workspace with the md5 that the entry has."""
    outs = {Path(folder, path): md5 for path, md5 in entry.outs.items()}
    return all(path.exists() for path in outs) and all(md5s.of(path) == md5 for path, md5 in outs.items())
