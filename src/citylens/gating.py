"""The gate: the working tree's metrics against those of a git revision, as a table and an exit status.

A metric is compared only with its like: on the same test images, and where the results are those of the code and settings
that lie beside them. Whatever stands against that is said at the top of the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.adapters import md5s, metrics, versions
from citylens.science import gate as science
from citylens.settings import Gate, Incomparable, InputError, Settings

if TYPE_CHECKING:
    import pandas as pd

TEST_DATA = "data/prepare"
NUMBERS = ["base", "now", "change", "allowed"]
VERDICTS = {0: "nothing is worse", 1: "WORSE, or changed where nothing was to change", 2: "CANNOT COMPARE"}


@dataclass(frozen=True)
class Report:
    """The gate's table; `doubts` say why it does not tell all, `remarks` what else to know."""

    base: str
    table: pd.DataFrame
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """0: nothing is worse; 1: a regression, or an unwanted change; 2: it cannot be said."""
        return science.status(self.table) or (2 if self.doubts else 0)

    def text(self, form: str) -> str:
        """As text, markdown or json."""
        if form == "json":
            return _json(self)
        headline = f"Gate against {self.base[:12]}: {VERDICTS[self.status]}"
        notes = [*self.doubts, *self.remarks]
        table = [drawn(self.table, "pipe" if form == "markdown" else "simple"), ""] if len(self.table) else []
        if form == "markdown":
            return "\n".join([f"### {headline}", "", *(f"> {note}\n" for note in notes), *table])
        return "\n".join([headline, *notes, "", *table])


def compare(settings: Settings, revision: str, *, other_data: bool = False, folder: Path | str = ".") -> Report:
    """The working tree against a revision, by the working tree's rules.

    Args:
        revision: a commit, branch or tag.
        other_data: compare although the test images differ, and say so.

    Raises:
        Incomparable: no such revision, no metrics in it, a file that cannot be read, or other test images.
    """
    base, now = metrics.Revision(revision, folder), metrics.Working(Path(folder))
    remarks = _same_data(base, now, other_data)
    before, after = (_values(tree, settings.gate, same_data=not remarks) for tree in (base, now))
    if not before["value"].notna().any():
        raise Incomparable(
            f"{revision} has no metrics: none of the files that params.yaml's gate.metrics name; allowed: a later one"
        )
    rules = [
        science.Rule(metric.name, metric.direction, metric.tolerance, metric.noise == "seeds")
        for metric in settings.gate.metrics
    ]
    table = science.compare(before, after, rules, settings.gate.false_alarms)
    return Report(base.commit, table, tuple(_stale(Path(folder), settings.gate)), tuple(remarks))


def refused(revision: str, error: InputError) -> Report:
    """What to show where there is no table."""
    import pandas as pd

    columns = ["metric", "row", *NUMBERS, "verdict", "note"]
    return Report(revision, pd.DataFrame(columns=columns), (str(error),))


def _values(tree: metrics.Tree, gate: Gate, *, same_data: bool) -> pd.DataFrame:
    import pandas as pd

    known = metrics.runs(tree)
    if not same_data:  # the same network on other images is not the same measurement
        known = dict.fromkeys(known, "")
    networks, seeds = ([*dict.fromkeys(part)] for part in zip(*known, strict=True))
    pairs = science.independent_pairs(networks, seeds)
    return pd.concat([metrics.values(tree, metric, known, pairs) for metric in gate.metrics], ignore_index=True)


def _same_data(base: metrics.Tree, now: metrics.Tree, other_data: bool) -> list[str]:
    """Nothing where both have the same test images, else what differs.

    Raises:
        Incomparable: they differ, or nobody knows, and that is not allowed.
    """
    before, after = (metrics.outputs(tree).get(TEST_DATA, "") for tree in (base, now))
    if before and before == after:
        return []
    parts = [metrics.parsed(tree, "params.yaml") or {} for tree in (base, now)]
    differing = [name for name in ("acquire", "prepare") if parts[0].get(name) != parts[1].get(name)]
    why = f" (settings that differ: {', '.join(differing)})" if differing else ""
    said = (
        f"test data differ: {TEST_DATA} is {before or 'not in dvc.lock'} in base, {after or 'not in dvc.lock'} now{why}"
    )
    if not other_data:
        raise Incomparable(f"{said}; allowed: the same, or --other-data to compare all the same")
    return [f"WARNING: {said}; other images may be all there is to a change, and no noise below allows for it"]


def _stale(folder: Path, gate: Gate) -> Iterator[str]:
    """Stages behind the metrics whose results are not those of the code, settings and reports that lie here."""
    declared, recorded = versions.declared(folder), versions.recorded(folder)
    params = versions.read_yaml(folder / "params.yaml") or {}
    made = {
        path: recorded[name].outs.get(path)
        for name, stage in declared.items()
        if name in recorded
        for path in stage.outs
    }
    for name in _behind(declared, {metric.file for metric in gate.metrics}):
        entry = recorded.get(name)
        if entry is None:
            yield f"STALE: {name} is not in dvc.lock; `make repro` runs it"
            continue
        sources = {path: md5 for path, md5 in entry.deps.items() if path not in made and not (folder / path).is_dir()}
        files = {path: md5 for path, md5 in sources.items() if path.startswith("src/") or (folder / path).exists()}
        files |= {path: md5 for path, md5 in entry.outs.items() if path.startswith("reports/")}
        files |= {path: md5 for path, md5 in entry.deps.items() if _all_here(folder, path, made)}
        changed = [path for path, md5 in files.items() if md5s.of(folder / path) != md5]
        changed += [path for path, md5 in entry.deps.items() if made.get(path, md5) != md5]
        keys = entry.params.get("params.yaml", {})
        changed += [key for key, value in keys.items() if versions.look_up(params, key) != value]
        if changed:
            yield f"STALE: {name} ran with another {changed[0]}; `make repro` runs it again"


def _all_here(folder: Path, path: str, made: Iterable[str]) -> bool:
    """Whether the path holds outputs of several stages, such as data/explain, and none of them is still to be pulled."""
    parts = [out for out in made if out.startswith(f"{path}/")]
    return bool(parts) and all((folder / out).exists() for out in parts)


def _behind(declared: dict[str, versions.Declared], files: set[str]) -> list[str]:
    """Stages that make these files, and all that they build on, in the order of dvc.yaml."""
    folders = {file.partition("{")[0].rstrip("/") for file in files}
    found: set[str] = set()
    while True:
        more = {
            name
            for name, stage in declared.items()
            if name not in found and any(_within(out, wanted) for out in stage.outs for wanted in folders)
        }
        if not more:
            return [name for name in declared if name in found]
        found |= more
        folders = {dep for name in more for dep in declared[name].deps}


def _within(out: str, wanted: str) -> bool:
    return f"{out}/".startswith(f"{wanted}/") or f"{wanted}/".startswith(f"{out}/")


def drawn(table: pd.DataFrame, form: str, base: str = "base", now: str = "now") -> str:
    """The gate's table in one of tabulate's forms, base and now under these names."""
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


def _json(report: Report) -> str:
    rows: list[dict[str, Any]] = report.table.to_dict("records")
    plain = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rows
    ]
    whole = {
        "base": report.base,
        "status": report.status,
        "doubts": report.doubts,
        "remarks": report.remarks,
        "rows": plain,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
