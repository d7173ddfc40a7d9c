"""Read the metrics of the project's files: those of the working tree, or those of a git revision."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.errors import Incomparable, InputError
from citylens.io.yaml_files import parse_yaml
from citylens.nets.names import JOINT, split_key
from citylens.versions import git, pipeline

if TYPE_CHECKING:
    import pandas as pd

TABLE, SPOTS = "reports/report/metrics.csv", "reports/report/spots.csv"
COLUMNS = ["metric", "row", "pool", "run", "value"]
SHARES = (
    "accuracy",
    "accuracy of",
    "mean R",
    "R",
    "explained area",
    "AR",
    "neighbour agreement",
    "segmentation coverage",
)
LOSSES = ("loss", "first training loss", "last training loss")


@dataclass(frozen=True)
class Tree:
    """The project's files as they are in a folder, or as a commit has them; messages use `name`."""

    name: str
    folder: Path
    commit: str = ""

    def read(self, path: str) -> str | None:
        """Return the text of a file, or None if it does not exist.

        Raises:
            Incomparable: the file cannot be read.
        """
        if self.commit:
            return git.show(self.commit, path, self.folder)
        try:
            return (self.folder / path).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Incomparable(f"{path}: cannot be read: {error}") from None

    def mapping(self, path: str) -> dict[str, Any]:
        """Return the mapping in a YAML file; empty if the file does not exist.

        Raises:
            Incomparable: the file is not YAML.
        """
        try:
            return parse_yaml(self.read(path) or "", f"{path} ({self.name})") or {}
        except InputError as error:
            raise Incomparable(str(error)) from None

    @cached_property
    def entries(self) -> dict[str, pipeline.Entry]:
        """Return the entries of dvc.lock by their stages' names; empty if the file does not exist.

        Raises:
            Incomparable: the file is not as DVC writes it.
        """
        try:
            return pipeline.recorded(text=self.read("dvc.lock") or "")
        except InputError as error:
            raise Incomparable(f"{error} ({self.name})") from None

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Return the md5 of every result in dvc.lock, by its path."""
        return {path: md5 for entry in self.entries.values() for path, md5 in entry.outs.items()}


def values(tree: Tree) -> pd.DataFrame:
    """Return the metrics of a tree as `comparison.compare` takes them.

    Raises:
        Incomparable: the table of metrics is missing, or is no such table.
    """
    import pandas as pd

    text, where = tree.read(TABLE), f"{TABLE} ({tree.name})"
    if text is None:
        allowed = "a revision that has it" if tree.commit else "as `make repro` writes it"
        raise Incomparable(f"{where}: no such file; allowed: {allowed}")
    types = dict.fromkeys(COLUMNS, str) | {"value": float}
    try:
        table = pd.read_csv(
            io.StringIO(text), usecols=COLUMNS, dtype=types, keep_default_na=False, na_values={"value": ""}
        )
        runs = [run.split(JOINT) if run else [] for run in table["run"]]
        units = [JOINT.join(dict.fromkeys(split_key(key)[0] for key in keys)) for keys in runs]
    except ValueError as error:
        raise Incomparable(f"{where}: not a table of metrics: {error}") from None
    if table.duplicated(["metric", "row", "run"]).any():
        raise Incomparable(f"{where}: a run has a metric's row twice; allowed: one line per metric, row and run")
    highest = table["metric"].map(dict.fromkeys(SHARES, 1.0) | dict.fromkeys(LOSSES, sys.float_info.max))
    wrong = table[(table["value"] < 0) & highest.notna() | (table["value"] > highest)]
    if len(wrong):
        first, most = wrong.iloc[0], highest[wrong.index[0]]
        said = " ".join(filter(None, (first["metric"], first["row"], first["run"])))
        allowed = "0 to 1" if most == 1 else "0 or more, and finite"
        raise Incomparable(f"{where}: {said} is {first['value']:g}; allowed: {allowed}")
    weights = [[tree.outputs.get(f"models/train/{key}", "") for key in keys] for keys in runs]
    return table.assign(unit=units, weights=["+".join(md5s) if all(md5s) else "" for md5s in weights])


def spots(tree: Tree) -> pd.DataFrame | None:
    """Return the sums over each spot's test images, or None for a revision that has no such table yet.

    Raises:
        Incomparable: it is no such table.
    """
    import pandas as pd

    text = tree.read(SPOTS)
    if text is None:
        return None
    columns = {"run": str, "spot": str, "images": float, "right": float}
    try:
        table = pd.read_csv(io.StringIO(text), usecols=list(columns), dtype=columns, keep_default_na=False)
    except ValueError as error:
        raise Incomparable(f"{SPOTS} ({tree.name}): not a table of spots: {error}") from None
    if table.duplicated(["run", "spot"]).any():
        raise Incomparable(f"{SPOTS} ({tree.name}): a run has a spot twice; allowed: one row per run and spot")
    return table
