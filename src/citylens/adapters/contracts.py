"""Data contracts: suites of Great Expectations in git, run over a table of facts.

A suite is a JSON file: `name`; `meta`, with what a row is and by which columns it is named; and `expectations`, each
with a description of its own (what holds when it is met), type, severity (critical | warning), kwargs and notes. The
kwarg {"$PARAMETER": "NAME"} takes its value from the bounds given at the run; it cannot stand inside a list.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.adapters.files import read_json, whole_folder
from citylens.settings import InputError

if TYPE_CHECKING:
    import pandas as pd

SUITES = Path("suites")
SHOWN = 5  # unexpected rows that are kept of an expectation


@dataclass(frozen=True)
class Finding:
    """What became of one expectation.

    `rows` were looked at, `unexpected` of them do not meet it; `first` are the names and values of up to five of those.
    An expectation of the whole table (`observed` is its value) concerns every row.
    """

    expectation: str
    type: str
    column: str
    severity: str
    success: bool
    rows: int
    unexpected: int
    observed: float | None
    first: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Verdict:
    """What became of a suite, in its order."""

    suite: str
    named_by: tuple[str, ...]
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values; of equal facts equal ones (no times, no ids, no bounds)."""
        return {
            "suite": self.suite,
            "success": not self.complaints("critical"),
            "expectations": list(map(asdict, self.findings)),
        }

    def complaints(self, severity: str) -> list[str]:
        """A line for each expectation of this severity that failed: which, for how many rows, and the first of them."""
        return [
            self._line(finding) for finding in self.findings if finding.severity == severity and not finding.success
        ]

    def _line(self, finding: Finding) -> str:
        where = f" on {finding.column}" if finding.column else ""
        seen = "" if finding.observed is None else f" (observed {finding.observed:g})"
        which = f'{self.suite}: expectation "{finding.expectation}" ({finding.type}{where})'
        line = f"{which} failed for {finding.unexpected} of {finding.rows} rows{seen}"
        return f"{line}; first: {self._row(finding.first[0])}" if finding.first else line

    def _row(self, row: Mapping[str, Any]) -> str:
        known = [column for column in self.named_by if row[column] is not None]
        name = " ".join(f"row {row[column]}" if column == "row" else str(row[column]) for column in known)
        facts = ", ".join(f"{column}: {_text(value)}" for column, value in row.items() if column not in self.named_by)
        return f"{name} ({facts})" if facts else name


def check(suite: str, facts: pd.DataFrame, bounds: Mapping[str, Any], docs: Path | str) -> Verdict:
    """Runs a suite over a table and builds its Data Docs, met or not.

    Args:
        suite: name of a file in suites/, without .json.
        facts: a row for whatever the suite's `meta` says.
        bounds: the suite's parameters, by name.
        docs: folder that the HTML pages take the place of.

    Raises:
        InputError: the suite's file is missing or no suite, or an expectation cannot be run.
    """
    described = _described(suite)
    gx, named_by = _great_expectations(), tuple(described["meta"]["named_by"])
    with whole_folder(docs) as folder:
        try:
            found = _run(gx, described, facts, bounds, folder.resolve())
            findings = [
                _finding(said, found[said["description"]], facts, named_by) for said in described["expectations"]
            ]
        except (gx.exceptions.GreatExpectationsError, ValueError, TypeError) as error:
            raise InputError(f"{_path(suite)}: not a suite that can be run: {error}") from None
        _work_offline(folder)
    return Verdict(suite, named_by, tuple(findings))


def _path(suite: str) -> Path:
    return SUITES / f"{suite}.json"


def _described(suite: str) -> dict[str, Any]:
    described = read_json(_path(suite))
    try:
        names = [
            (said["description"], said["type"], said["severity"], said["kwargs"]) for said in described["expectations"]
        ]
        described["name"], described["meta"]["named_by"]
    except (KeyError, TypeError) as error:
        needed = "name, meta.named_by, and of each of its expectations description, type, severity and kwargs"
        raise InputError(f"{_path(suite)}: {error} is missing; needed: {needed}") from None
    if len({name for name, *_ in names}) < len(names):
        raise InputError(f"{_path(suite)}: two expectations have one description; allowed: each its own")
    return dict(described)


def _great_expectations() -> Any:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    return great_expectations


def _run(
    gx: Any, described: dict[str, Any], facts: pd.DataFrame, bounds: Mapping[str, Any], docs: Path
) -> dict[str, dict[str, Any]]:
    """Results by their expectations' descriptions; the pages into `docs`."""
    name = described["name"]
    shown = {
        "result_format": "SUMMARY",
        "partial_unexpected_count": SHOWN,
        "unexpected_index_column_names": described["meta"]["named_by"],
    }
    context = _context(gx, name, docs)
    batch = (
        context.data_sources.add_pandas("facts").add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    )
    definition = gx.ValidationDefinition(name=name, data=batch, suite=context.suites.add(_suite(gx, described)))
    definitions = [context.validation_definitions.add(definition)]
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=name, validation_definitions=definitions, result_format=shown)
    )
    ran = checkpoint.run(batch_parameters={"dataframe": facts}, expectation_parameters=dict(bounds))
    context.build_data_docs(site_names=[name])
    (validation,) = ran.run_results.values()
    results = [result.to_json_dict() for result in validation.results]
    return {result["expectation_config"]["description"]: result for result in results}


def _context(gx: Any, name: str, docs: Path) -> Any:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": store,
        "site_index_builder": index,
    }
    context = gx.get_context(mode="ephemeral")
    context.variables.data_docs_sites = {name: site}
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    return context


def _suite(gx: Any, described: dict[str, Any]) -> Any:
    suite = gx.ExpectationSuite(**described)
    taken = {expectation.description for expectation in suite.expectations}
    # Great Expectations leaves out what it does not understand, and would go on as if it had been met.
    lost = [said for said in described["expectations"] if said["description"] not in taken]
    if lost:
        raise ValueError(f'"{lost[0]["description"]}": there is no {lost[0]["type"]} with {lost[0]["kwargs"]}')
    return suite


def _finding(
    said: Mapping[str, Any], result: Mapping[str, Any], facts: pd.DataFrame, named_by: tuple[str, ...]
) -> Finding:
    if result["exception_info"].get("exception_message") or "raised_exception" not in result["exception_info"]:
        raise ValueError(f"{said['type']}: {_complaint(result['exception_info'])}")
    kwargs, values = said["kwargs"], result["result"]
    columns = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    met, observed = bool(result["success"]), None
    if "element_count" in values:
        rows, unexpected = values["element_count"] - values.get("missing_count", 0), values["unexpected_count"]
        listed = values.get("partial_unexpected_index_list") or []
    else:
        rows, unexpected, observed = len(facts), 0 if met else len(facts), values.get("observed_value")
        listed = [] if met else facts[list(named_by)].head(1).to_dict("records")
    order = dict.fromkeys((*named_by, *columns))
    first = tuple({column: _plain(row[column]) for column in order if column in row} for row in listed)
    return Finding(
        said["description"], said["type"], ", ".join(columns), said["severity"], met, rows, unexpected, observed, first
    )


def _complaint(info: Mapping[str, Any]) -> str:
    (first, *_) = [info] if "exception_message" in info else info.values()
    return str(first["exception_message"])


def _plain(value: Any) -> Any:
    """A value that JSON and a reader take: missing is None, 320.0 pixels are 320."""
    if value is None or value != value:
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else value if math.isfinite(value) else str(value)
    return value


def _text(value: Any) -> str:
    return "missing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
ul { list-style: none; } a { color: #06c; } .alert, .card-header { background: #eee; padding: .3rem .6rem; }
.fa-check-circle::before { content: "\\2713"; color: #080; } .fa-times::before { content: "\\2717"; color: #b00; }
.fa-exclamation-triangle::before { content: "\\26A0"; color: #b60; }
.modal, .btn-group, footer, .navbar-brand { display: none; }
"""


_ELSEWHERE = re.compile(
    r'<script[^>]*src="https?:[^>]*></script>|<(?:link|img)[^>]*(?:href|src)="https?:[^>]*>'
    r"|background: url\('https?:[^;]*;"
)


# Great Expectations writes values, such as names, into its pages as they are, tags and all.
_NO_SCRIPT = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'none'"


def _work_offline(docs: Path) -> None:
    """Styles the pages, keeps scripts from running, and takes out what they would fetch from elsewhere (a dated image among it)."""
    for page in docs.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        policy = f'<meta http-equiv="Content-Security-Policy" content="{_NO_SCRIPT}">'
        html = _ELSEWHERE.sub("", html).replace("<head>", f"<head>{policy}", 1)
        page.write_text(html.replace("</head>", f"<style>{_STYLE}</style></head>", 1), encoding="utf-8")
    for film in docs.glob("static/images/*.gif"):
        film.unlink()
