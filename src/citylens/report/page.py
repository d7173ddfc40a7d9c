"""Fills the templates: the sentences of the findings, and the page with its tables, one HTML file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from citylens.nets import paper
from citylens.nets.names import network_title
from citylens.report.findings import findings
from citylens.report.labels import object_name, trained_name
from citylens.report.results import Results, accuracies, wide_ratios
from citylens.report.trust import QUESTIONS, checks
from citylens.settings.schema import Settings

COMMONEST = 15
SECTIONS = ("study", "acquire", "prepare", "train", "explain", "segment", "measure", "compare", "embed", "report")
SEGMENTERS = ("onnx", "csail", "transformers")
NONE = "\N{EN DASH}"
SHARPNESS = 1.5
"""Pixels of a figure per pixel of the page."""


def rendered_findings(results: Results) -> list[dict[str, str]]:
    """Return claim and text of each finding, as plain text."""
    macros, parts = _environment().get_template("findings.j2").module, ("claim", "text")
    found = [{part: getattr(macros, f"{name}_{part}")(facts) for part in parts} for name, facts in findings(results)]
    # The macros escape what they insert. The page escapes the findings itself, and JSON has no need to.
    return [{part: " ".join(text.unescape().split()) for part, text in finding.items()} for finding in found]


def rendered_checks(results: Results) -> list[dict[str, Any]]:
    """Return the checks of "Can this be trusted?": question, answer, value, chance and shown of each."""
    macros, rows = _environment().get_template("trust.j2").module, []
    for facts in checks(results):
        texts = {part: getattr(macros, f"{facts['name']}_{part}")(facts).unescape() for part in ("question", "answer")}
        row = {part: " ".join(text.split()) for part, text in texts.items()}
        rows.append(row | {name: facts[name] for name in ("name", "value", "chance", "shown", "speaks")})
    return rows


def answered(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the paper's questions, each with the checks that speak for a yes and against it."""
    found = []
    for question, names in QUESTIONS.items():
        own = [row for row in rows if row["name"] in names]
        sides = {
            side: [row for row in own if row["speaks"] is speaks] for side, speaks in (("yes", True), ("no", False))
        }
        found.append({"question": question} | sides)
    return found


def html(results: Results, found: Sequence[Mapping[str, str]], pictures: Mapping[str, bytes]) -> str:
    """Return the page.

    Args:
        results: of all stages.
        found: claim and text of each finding.
        pictures: PNG of each figure, by its file name without ending.
    """
    sources = {name: "data:image/png;base64," + base64.b64encode(data).decode() for name, data in pictures.items()}
    # Bytes 16 to 19 of a PNG are its width in pixels.
    widths = {name: round(int.from_bytes(data[16:20], "big") / SHARPNESS) for name, data in pictures.items()}
    template = _environment().get_template("page.html.j2")
    return template.render(
        results=results,
        settings=results.settings,
        findings=found,
        checks=(rows := rendered_checks(results)),
        questions=answered(rows),
        sources=sources,
        widths=widths,
        accuracies=accuracies(results).assign(key=results.keys).to_dict("records"),
        ratios=wide_ratios(results).query("kept == 1").to_dict("records"),
        parsed_objects=parsed_objects(results),
        setting_rows=setting_rows(results.settings),
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for NaN."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def parsed_objects(results: Results) -> list[dict[str, Any]]:
    """Return how well the scene parser agrees with people's labels, for the most common objects; empty without such labels.

    Returns:
        For each object: object, share (of all labelled pixels), right (share of its pixels), iou (intersection over union), other
        (the object it is most often taken for, or None) and mistaken (share of its pixels so taken).
    """
    if "pixel_accuracy" not in results.segmentation:
        return []
    counts = results.label_confusion
    pixels = counts.groupby("actual")["pixels"].sum().sort_values(ascending=False, kind="stable")
    common = pixels.head(COMMONEST)
    found = counts.groupby("predicted")["pixels"].sum().reindex(common.index, fill_value=0)
    same = counts["actual"] == counts["predicted"]
    right = counts[same].set_index("actual")["pixels"].reindex(common.index, fill_value=0)
    wrong = counts[~same].drop_duplicates("actual").set_index("actual").reindex(common.index)
    columns = {"share": common / pixels.sum(), "right": right / common, "iou": right / (common + found - right)}
    columns |= {"other": wrong["predicted"], "mistaken": wrong["pixels"] / common}
    return records(pd.DataFrame(columns).rename_axis("object").reset_index())


def setting_rows(plan: Settings) -> list[tuple[str, Any, str, str]]:
    """Return key, value, the paper's value and its place in the paper, of each setting that plays a part in the results.

    The last two are empty if the paper does not state the setting. Settings of image sources and scene parsers that the study does
    not use are left out, and so are paths, which differ between machines.
    """
    unused = [f"segment.{name}." for name in SEGMENTERS if name != plan.segment.segmenter]
    unused += ["acquire.render."] * (plan.acquire.source != "render")
    unused += ["acquire.datasets"] * (plan.acquire.source != "datasets")
    sections = asdict(plan)
    (values,) = pd.json_normalize({name: sections[name] for name in SECTIONS}).to_dict("records")
    return [
        (str(key), value, *paper.SETTINGS.get(str(key), ("", "")))
        for key, value in values.items()
        if not str(key).startswith(tuple(unused)) and not str(key).endswith((".path", ".manifest"))
    ]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        extensions=["jinja2.ext.do"],
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "plain": _plain}
    environment.filters |= {"percent": _percent, "decimals": _decimals}
    environment.filters |= {"trained_name": trained_name, "object_name": object_name, "network_title": network_title}
    environment.globals["paper"] = paper
    return environment


def _number(value: float | None, form: str) -> str:
    """Return the number in a format of Python's, or a dash if it is missing. Only 1 is 100%: .995 is 99.5%."""
    if value is None or value != value:
        return NONE
    text = f"{value:{form}}"
    return f"{value:.1%}" if text == "100%" and value < 1 else text


def _percent(width: float) -> str:
    """Return the format of a percentage whose interval is so wide: two digits, and more if the interval is narrow."""
    return ".0%" if not width < 0.02 else ".1%" if not width < 0.002 else ".2%"


def _decimals(width: float) -> str:
    """Return the format of a number in [0, 1] whose interval is so wide."""
    return ".2f" if not width < 0.01 else ".3f"


def _plain(value: object) -> str:
    """Return a setting's value as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or NONE
    if isinstance(value, Mapping):
        return " ".join(map(_plain, value.values())) or NONE
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
