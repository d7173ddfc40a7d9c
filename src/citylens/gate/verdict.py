"""The gate: the working tree's metrics against those of a git revision, as a table and an exit status.

Metrics are compared only if both sides have the same test images, and if the results belong to the code and settings beside
them. Anything else is stated above the table.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from citylens.errors import Incomparable, InputError
from citylens.gate import comparison
from citylens.gate.metrics import TABLE, Tree, spots, values
from citylens.io import md5s, yaml_files
from citylens.settings.schema import Settings
from citylens.versions import git, pipeline

if TYPE_CHECKING:
    import pandas as pd

TEST_DATA = "data/prepare"
COUNTS = ("images", "objects", "pixels", "pairs")
"""Metrics that count what a study is made from, so that they differ with other data."""
NUMBERS = ["base", "now", "change", "allowed"]
VERDICTS = {0: "nothing is worse", 1: "WORSE, or changed where nothing was to change", 2: "CANNOT COMPARE"}


@dataclass(frozen=True)
class Report:
    """The gate's table; `doubts` are reasons not to trust it, `remarks` are other things to know."""

    base: str
    table: pd.DataFrame
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Return 0 if nothing is worse, 1 after a regression or an unwanted change, 2 if the sides cannot be compared."""
        return comparison.status(self.table) or (2 if self.doubts else 0)

    def text(self, form: str) -> str:
        """Return the report as `text`, `markdown` or `json`."""
        if form == "json":
            return self._json()
        headline = f"Gate against {self.base[:12]}: {VERDICTS[self.status]}"
        notes = [*self.doubts, *self.remarks]
        table = [drawn(self.table, "pipe" if form == "markdown" else "simple"), ""] if len(self.table) else []
        if form == "markdown":
            return "\n".join([f"### {headline}", "", *(f"> {note}\n" for note in notes), *table])
        return "\n".join([headline, *notes, "", *table])

    def _json(self) -> str:
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        about = {"base": self.base, "status": self.status, "doubts": self.doubts, "remarks": self.remarks}
        return json.dumps(about | {"rows": rows}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def compare(settings: Settings, revision: str, *, other_data: bool = False, folder: Path | str = ".") -> Report:
    """Compare the working tree with a revision, by the working tree's rules.

    Args:
        revision: a commit, branch or tag.
        other_data: compare even if the test images differ, and say so.

    Raises:
        Incomparable: the revision or its table of metrics is missing, a file cannot be read, or the test images differ.
    """
    folder, commit = Path(folder), git.commit_of(revision, folder)
    if not commit:
        if git.version() is None:
            raise Incomparable("git cannot be run; allowed: the gate needs git in PATH")
        fetch = "git fetch --unshallow" if git.shallow(folder) else "git fetch"
        raise Incomparable(
            f"{revision or 'an empty --base'}: no commit that git knows here; allowed: a branch, tag or commit, and `{fetch}` for another's"
        )
    base, now = Tree("base", folder, commit), Tree("now", folder)
    remarks = _same_data(base, now, other_data)
    # A network measured on other images has noise, even if its weights are the same.
    before, after = (values(tree).assign(**{"weights": ""} if remarks else {}) for tree in (base, now))
    rules = settings.gate.metrics
    loosened = [*_loosened(base, now)]
    if any(remark.startswith("WARNING") for remark in remarks):
        # Runs of the same seed on other images are not the same runs.
        rules = tuple(
            dataclasses.replace(rule, noise="seeds") if rule.noise == "other seeds" else rule
            for rule in rules
            if rule.name not in COUNTS
        )
    table = comparison.compare(before, after, rules, settings.gate.false_alarms, spots(base))
    return Report(commit, table, tuple(_stale(folder)), (*remarks, *loosened))


def _loosened(base: Tree, now: Tree) -> Iterator[str]:
    """Yield a line for each rule of base that the working tree lacks or has in another form: a change may loosen what judges it."""
    before, after = (tree.mapping("params.yaml").get("gate") for tree in (base, now))
    if not isinstance(before, dict) or not isinstance(after, dict):
        return
    old, new = ({str(rule.get("name")): rule for rule in one.get("metrics") or []} for one in (before, after))
    for name, rule in old.items():
        others = new.get(name, {})
        changed = [f"{key} {value} is now {others.get(key)}" for key, value in rule.items() if others.get(key) != value]
        if changed:
            yield f"WARNING: the rule on {name} differs from base's: {', '.join(changed) if others else 'it is gone'}"
    if before.get("false_alarms") != after.get("false_alarms"):
        yield f"WARNING: gate.false_alarms {before.get('false_alarms')} is now {after.get('false_alarms')}"


def refused(revision: str, error: InputError) -> Report:
    """Return a report that has no table, but the reason for that."""
    import pandas as pd

    return Report(revision, pd.DataFrame(columns=["metric", "row", *NUMBERS, "verdict", "note"]), (str(error),))


def _same_data(base: Tree, now: Tree, other_data: bool) -> list[str]:
    """Return nothing if both sides have the same test images, else what differs.

    Rendered images count as the same if the same world, code and settings made them.

    Raises:
        Incomparable: the test images differ, or dvc.lock does not tell, and that is not allowed.
    """
    before, after = (tree.outputs.get(TEST_DATA, "") for tree in (base, now))
    if before and before == after:
        return []
    recipes = {pipeline.rendered_from(tree.entries) for tree in (base, now)}
    if len(recipes) == 1 and "" not in recipes:
        return [
            f"{TEST_DATA} has other bytes than in base, as rendered on another processor; world, code and settings agree"
        ]
    parts = [tree.mapping("params.yaml") for tree in (base, now)]
    differing = [name for name in ("acquire", "prepare") if parts[0].get(name) != parts[1].get(name)]
    why = f" (settings that differ: {', '.join(differing)})" if differing else ""
    said = (
        f"test data differ: {TEST_DATA} is {before or 'not in dvc.lock'} in base, {after or 'not in dvc.lock'} now{why}"
    )
    if not other_data:
        raise Incomparable(f"{said}; allowed: the same, or --other-data to compare all the same")
    return [f"WARNING: {said}; other images may be all there is to a change, and no noise below allows for it"]


def _stale(folder: Path) -> Iterator[str]:
    """Yield a line for each stage behind the metrics whose results belong to other code, settings or data."""
    declared, recorded = pipeline.declared(folder), pipeline.recorded(folder)
    params = yaml_files.read_optional_yaml(folder / "params.yaml") or {}
    made = {
        path: recorded[name].outs.get(path) for name in declared if name in recorded for path in declared[name].outs
    }
    for name in _behind(declared):
        if name not in recorded:
            yield f"STALE: {name} is not in dvc.lock; `make repro` runs it"
            continue
        entry = recorded[name]
        files = {path: md5 for path, md5 in entry.deps.items() if _is_here(folder, path, made)}
        files |= {path: md5 for path, md5 in entry.outs.items() if pipeline.overlap(path, TABLE)}
        changed = [path for path, md5 in files.items() if md5s.of(folder / path) != md5]
        changed += [path for path, md5 in entry.deps.items() if made.get(path, md5) != md5]
        keys = entry.params.get("params.yaml", {})
        changed += [key for key, value in keys.items() if pipeline.look_up(params, key) != value]
        if changed:
            yield f"STALE: {name} ran with another {changed[0]}; `make repro` runs it again"


def _is_here(folder: Path, path: str, made: Iterable[str]) -> bool:
    """Return whether a dependency can be hashed: code, a file that no stage makes, or a folder of several stages' outputs.

    Outputs that `dvc pull` has not fetched, and folders of raw data, are left out.
    """
    if path in made:
        return False
    if path.startswith("src/") or (folder / path).is_file():
        return True
    parts = [out for out in made if out.startswith(f"{path}/")]
    return bool(parts) and all((folder / out).exists() for out in parts)


def _behind(declared: dict[str, pipeline.Declared]) -> list[str]:
    """Return the stage that makes the metrics, and all stages that it builds on, in the order of dvc.yaml."""
    found: set[str] = set()
    wanted = [TABLE]
    while wanted:
        path = wanted.pop()
        makers = {name for name, stage in declared.items() if any(pipeline.overlap(path, out) for out in stage.outs)}
        wanted += [dep for name in makers - found for dep in declared[name].deps]
        found |= makers
    return [name for name in declared if name in found]


def drawn(table: pd.DataFrame, form: str, base: str = "base", now: str = "now") -> str:
    """Return the gate's table in one of tabulate's forms, with these names for base and now."""
    from tabulate import tabulate

    shown = table.assign(metric=(table["metric"] + " " + table["row"]).str.strip()).drop(columns="row")
    for column in NUMBERS:
        sign = "+" if column == "change" else ""
        shown[column] = ["" if math.isnan(value) else f"{value:{sign}.4f}" for value in shown[column]]
    marked = "**{}**" if form == "pipe" else "{}"
    shown["verdict"] = [text if text in ("ok", "better") else marked.format(text) for text in shown["verdict"]]
    align = ("left", *["right"] * len(NUMBERS), "left", "left")
    shown = shown.rename(columns={"base": base, "now": now})
    return tabulate(shown.values.tolist(), list(shown), tablefmt=form, colalign=align, disable_numparse=True)
