"""Metrics as they lie in a tree of files: the working one, or that of a git revision."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from citylens.adapters import git
from citylens.settings import Incomparable, InputError, Metric, key, parse_yaml

if TYPE_CHECKING:
    import pandas as pd

Runs = Mapping[tuple[str, int], str]  # (network, seed) to its weights' md5, empty where dvc.lock does not know


class Tree(Protocol):
    """Files by their path in the project; messages call it by `name`."""

    @property
    def name(self) -> str: ...

    def read(self, path: str) -> str | None:
        """The text of a file, or None where there is none."""


@dataclass(frozen=True)
class Working:
    """The files of a folder as they are."""

    folder: Path
    name: str = "now"

    def read(self, path: str) -> str | None:
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Incomparable(f"{path}: cannot be read: {error}") from None


class Revision:
    """The files of a folder as a git revision has them.

    Raises:
        Incomparable: git knows no such revision.
    """

    name = "base"

    def __init__(self, revision: str, folder: Path | str = ".") -> None:
        self.folder, self.commit = folder, git.commit_of(revision, folder)
        if not self.commit:
            raise Incomparable(
                f"{revision}: no commit that git knows here; allowed: a branch, tag or commit, and `git fetch` for another's"
            )

    def read(self, path: str) -> str | None:
        return git.show(self.commit, path, self.folder)


def parsed(tree: Tree, path: str) -> Any:
    """The value of a YAML or JSON file, by its ending; None where there is none.

    Raises:
        Incomparable: the file holds something else.
    """
    text, where = tree.read(path), f"{path} ({tree.name})"
    if text is None:
        return None
    try:
        return json.loads(text) if path.endswith(".json") else parse_yaml(text, where)
    except InputError as error:
        raise Incomparable(str(error)) from None
    except ValueError as error:
        raise Incomparable(f"{where}: not JSON: {error}") from None


def outputs(tree: Tree) -> dict[str, str]:
    """md5 of every result that dvc.lock names; none where there is no dvc.lock."""
    stages = (parsed(tree, "dvc.lock") or {}).get("stages") or {}
    return {out["path"]: out.get("md5", "") for stage in stages.values() for out in stage.get("outs") or []}


def runs(tree: Tree) -> Runs:
    """The networks that the tree's params.yaml names, with the weights that its dvc.lock holds.

    Raises:
        Incomparable: params.yaml names none.
    """
    study = (parsed(tree, "params.yaml") or {}).get("study") or {}
    trained = list(itertools.product(study.get("networks") or [], study.get("seeds") or []))
    if not trained:
        raise Incomparable(f"params.yaml ({tree.name}) names no networks and seeds, so there are no metrics")
    made = outputs(tree)
    return {(network, seed): made.get(f"models/train/{key(network, seed)}", "") for network, seed in trained}


def values(
    tree: Tree, metric: Metric, known: Runs, pairs: list[tuple[tuple[str, int], tuple[str, int]]]
) -> pd.DataFrame:
    """The lines of a metric as `science.gate.compare` takes them; NaN where a network lacks what others have.

    Args:
        known: the tree's networks.
        pairs: of a table of pairs, the ones to take.

    Raises:
        Incomparable: a file cannot be read, or a table lacks a column.
    """
    import pandas as pd

    lines = _of_table(tree, metric, known, pairs) if metric.file.endswith(".csv") else _of_json(tree, metric, known)
    columns = ["row", "pool", "unit", "run", "value", "weights"]
    return pd.DataFrame(lines, columns=columns).assign(metric=metric.name)


def _of_json(tree: Tree, metric: Metric, known: Runs) -> Iterator[tuple[str, str, str, str, float, str]]:
    seen = set()
    for (network, seed), weights in known.items():
        path, name = (
            text.replace("{network}", network).replace("{seed}", str(seed)) for text in (metric.file, metric.key)
        )
        if (path, name) in seen:
            continue
        seen.add((path, name))
        single = "{seed}" not in metric.file + metric.key
        unit = network if "{network}" in metric.file + metric.key else ""
        row = unit if "network" in metric.rows else ""
        value = _number(_looked_up(parsed(tree, path), name))
        yield row, "", unit, "" if single else f"seed {seed}", value, "" if single else weights


def _looked_up(content: Any, name: str) -> Any:
    for part in name.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _of_table(
    tree: Tree, metric: Metric, known: Runs, pairs: list[tuple[tuple[str, int], tuple[str, int]]]
) -> Iterator[tuple[str, str, str, str, float, str]]:
    table = _table(tree, metric)
    if table is None:
        return
    columns = [column for column in metric.rows if column != "network"]
    for names, group in table.groupby(columns, sort=False) if columns else [((), table)]:
        label = " ".join(map(str, names))
        if "first" in group:
            yield from _pairs(label, group.set_index(["first", "second"])[metric.key], known, pairs)
        elif "network" in group and "seed" in group:
            of = group.groupby(["network", "seed"])[metric.key].mean()
            for (network, seed), weights in known.items():
                row = f"{label} {network}".strip() if "network" in metric.rows else label
                yield row, label, network, f"seed {seed}", _number(of.get((network, seed))), weights
        else:
            yield label, label, "", "", float(group[metric.key].mean()), ""


def _pairs(
    label: str, of: pd.Series, known: Runs, pairs: list[tuple[tuple[str, int], tuple[str, int]]]
) -> Iterator[tuple[str, str, str, str, float, str]]:
    for one, other in pairs:
        value = of.get((key(*one), key(*other)))
        if value is not None:
            unit = " and ".join(dict.fromkeys((one[0], other[0])))
            weights = "+".join((known[one], known[other])) if known[one] and known[other] else ""
            yield label, "", unit, f"seeds {one[1]} and {other[1]}", _number(value), weights


def _table(tree: Tree, metric: Metric) -> pd.DataFrame | None:
    import pandas as pd

    text, where = tree.read(metric.file), f"{metric.file} ({tree.name})"
    if text is None:
        return None
    try:
        table = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise Incomparable(f"{where}: not a table: {error}") from None
    for column in filter(None, (metric.key, *metric.rows, metric.only)):
        if column not in table:
            raise Incomparable(f"{where}: column {column} is missing; found: {', '.join(map(str, table.columns))}")
    return table[table[metric.only] == 1] if metric.only else table
