"""Data contracts: suites of Great Expectations, checked on a table of facts.

A suite is a JSON file with three keys: `name`; `meta` (`rows`: what the table has one row for; `named_by`: the columns that name a
row in messages); and `expectations`. Each expectation has a description, which no other expectation of the suite has, a type, a
severity (critical | warning), kwargs and notes. The kwarg {"$PARAMETER": "NAME"} takes the value of the bound NAME; it cannot be
an element of a list.
"""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citylens.errors import InputError
from citylens.io.files import read_json

if TYPE_CHECKING:
    import pandas as pd

SUITES = Path("suites")
SHOWN = 5  # unexpected rows that a finding keeps


@dataclass(frozen=True)
class Verdict:
    """The result of a suite: one finding per expectation, in the suite's order.

    A finding has the expectation's description (as `expectation`), type, column and severity; `success`; and `first`, names and
    values of up to `SHOWN` of the `unexpected` rows of all `rows` checked. An expectation of the whole table has no column,
    checks all rows, and has its value in `observed`.
    """

    suite: str
    named_by: tuple[str, ...]
    findings: tuple[Mapping[str, Any], ...]
    pages: Mapping[str, str]
    """The Data Docs: HTML texts by file name. Equal facts and bounds give the same bytes."""

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain values, which depend on the facts alone (no times, ids or bounds)."""
        return {"suite": self.suite, "success": not self.complaints("critical"), "expectations": self.findings}

    def complaints(self, severity: str) -> list[str]:
        """Return one line per failed expectation of this severity: its name, the number of failing rows and the first of them."""
        return [self._line(found) for found in self.findings if found["severity"] == severity and not found["success"]]

    def _line(self, finding: Mapping[str, Any]) -> str:
        where = f" on {finding['column']}" if finding["column"] else ""
        seen = "" if finding["observed"] is None else f" (observed {finding['observed']:g})"
        which = f'{self.suite}: expectation "{finding["expectation"]}" ({finding["type"]}{where})'
        line = f"{which} failed for {finding['unexpected']} of {finding['rows']} rows{seen}"
        return f"{line}; first: {self._row(finding['first'][0])}" if finding["first"] else line

    def _row(self, row: Mapping[str, Any]) -> str:
        known = [column for column in self.named_by if row[column] is not None]
        name = " ".join(f"row {row[column]}" if column == "row" else str(row[column]) for column in known)
        facts = ", ".join(f"{column}: {_text(value)}" for column, value in row.items() if column not in self.named_by)
        return f"{name} ({facts})" if facts else name


def check(suite: str, facts: pd.DataFrame, bounds: Mapping[str, Any]) -> Verdict:
    """Check a table against a suite.

    Args:
        suite: name of a file in suites/, without .json.
        facts: the table, with the rows that the suite's `meta.rows` describes.
        bounds: values of the suite's parameters, by name.

    Raises:
        InputError: the suite's file is missing or is no suite, or an expectation cannot be checked.
    """
    path = SUITES / f"{suite}.json"
    described = _read_suite(path)
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    try:
        results = _validate(gx, _suite(gx, described), described, facts, bounds)
        found = {result["expectation_config"]["description"]: result for result in results["results"]}
        named_by = tuple(described["meta"]["named_by"])
        findings = [_finding(said, found[said["description"]], facts, named_by) for said in described["expectations"]]
    except (gx.exceptions.GreatExpectationsError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a suite that can be run: {error}") from None
    return Verdict(suite, named_by, tuple(findings), _pages(_suite(gx, _encoded(described)), _encoded(results)))


def _read_suite(path: Path) -> dict[str, Any]:
    described: dict[str, Any] = read_json(path)
    needed = "name, meta.rows, meta.named_by, and of each of its expectations description, type, severity and kwargs"
    try:
        described["name"], described["meta"]["rows"], described["meta"]["named_by"]
        said = {one["description"]: (one["type"], one["severity"], one["kwargs"]) for one in described["expectations"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: {error} is missing; needed: {needed}") from None
    if len(said) < len(described["expectations"]):
        raise InputError(f"{path}: two expectations have one description; allowed: each its own")
    return described


def _suite(gx: Any, described: Mapping[str, Any]) -> Any:
    suite = gx.ExpectationSuite(**described)
    taken = {expectation.description for expectation in suite.expectations}
    # Great Expectations silently drops expectations that it does not understand.
    lost = [said for said in described["expectations"] if said["description"] not in taken]
    if lost:
        raise ValueError(f'"{lost[0]["description"]}": there is no {lost[0]["type"]} with {lost[0]["kwargs"]}')
    return suite


def _validate(
    gx: Any, suite: Any, described: Mapping[str, Any], facts: pd.DataFrame, bounds: Mapping[str, Any]
) -> dict[str, Any]:
    """Return Great Expectations' results as plain values, with a `meta` that does not depend on the clock."""
    meta = described["meta"]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("facts").add_dataframe_asset(described["name"])
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": facts})
    detail = {"result_format": "SUMMARY", "partial_unexpected_count": SHOWN}
    detail["unexpected_index_column_names"] = meta["named_by"]
    results = batch.validate(suite, result_format=detail, expectation_parameters=dict(bounds))
    results.meta = {"great_expectations_version": gx.__version__, "batch_spec": {"data_asset_name": meta["rows"]}}
    plain: dict[str, Any] = json.loads(json.dumps(results.to_json_dict()))  # The pages cannot show NumPy's numbers.
    return plain


def _finding(
    said: Mapping[str, Any], result: Mapping[str, Any], facts: pd.DataFrame, named_by: tuple[str, ...]
) -> dict[str, Any]:
    info = result["exception_info"]
    if info.get("exception_message") or "raised_exception" not in info:
        (first, *_) = [info] if "exception_message" in info else info.values()
        raise ValueError(f"{said['type']}: {first['exception_message']}")
    kwargs, values, met = said["kwargs"], result["result"], bool(result["success"])
    columns = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    finding = {"expectation": said["description"], "type": said["type"], "column": ", ".join(columns)}
    finding |= {"severity": said["severity"], "success": met}
    if "element_count" in values:
        rows, unexpected = values["element_count"] - values.get("missing_count", 0), values["unexpected_count"]
        listed = values.get("partial_unexpected_index_list") or []
    else:
        rows, unexpected = len(facts), 0 if met else len(facts)
        listed = [] if met else facts[list(named_by)].head(1).to_dict("records")
    finding |= {"rows": rows, "unexpected": unexpected, "observed": values.get("observed_value")}
    order = dict.fromkeys((*named_by, *columns))
    return finding | {"first": [{name: _plain(row[name]) for name in order if name in row} for row in listed]}


def _plain(value: Any) -> Any:
    """Return a value that JSON takes: a missing one becomes None, 320.0 becomes 320, infinity a text."""
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
h5, h6 { font-size: 1rem; margin: .3rem 0; } [style*="color:red"] { color: #555 !important; }
.card:has(.btn-group), footer, .navbar-brand { display: none; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'none'"
_NEEDLESS = re.compile(
    r"<script\b.*?</script>|<link[^>]*>|<img[^>]*src=\"https?:[^>]*>|background: url\('https?:[^;]*;| / __none__",
    re.DOTALL,
)


def _encoded(value: Any) -> Any:
    """Return plain values with all texts encoded for HTML; Great Expectations writes some, such as file names, into pages as they are."""
    if isinstance(value, dict):
        return {name: _encoded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_encoded(one) for one in value]
    return html.escape(value, quote=False) if isinstance(value, str) else value


def _pages(suite: Any, results: Mapping[str, Any]) -> dict[str, str]:
    """Return index.html (the results) and expectations.html (the suite with its notes), which need no script and no network.

    Both arguments are encoded for HTML.
    """
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ExpectationSuitePageRenderer, ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    view = DefaultJinjaPageView()
    view.env.filters["generate_html_element_uuid"] = str  # ids without a random part
    results_page = ValidationResultsPageRenderer(run_info_at_end=True)
    pages = {
        "index": results_page.render(ExpectationSuiteValidationResultSchema().load(results)),
        "expectations": ExpectationSuitePageRenderer().render(suite),
    }
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    texts = {}
    for name, page in pages.items():
        text = _NEEDLESS.sub("", view.render(page, show_how_to_buttons=False))
        text = re.sub("&amp;(lt|gt|amp);", r"&\1;", text)  # Other values were encoded twice.
        # Great Expectations lays its pages out as a site of many suites.
        text = re.sub(r'href="(?:\.\./)+(index|expectations)\b[^"]*"', r'href="\1.html"', text)
        texts[f"{name}.html"] = text.replace("<head>", head, 1).replace("</head>", f"<style>{_STYLE}</style></head>", 1)
    return texts
