"""The report's page as plain values: findings, sections of figures and tables. `adapters/page.html.j2` lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from citylens.science import paper, sections
from citylens.science.blocks import NONE, listed, made_with, section, table
from citylens.science.findings import findings
from citylens.science.results import Results


def page(results: Results) -> dict[str, Any]:
    """title, intro, findings, sections; each section has id, title, text and blocks (figures and tables)."""
    parts = (
        sections.accuracies_section,
        sections.masks_section,
        sections.clusters_section,
        sections.objects_section,
        sections.comparison_section,
        _data,
        _settings,
        _reading,
    )
    names = [paper.NAMES[network] for network in results.networks]
    return {
        "title": f"What tells {listed(results.cities)} apart?",
        "intro": f"{listed(names)}, each trained with {_seeds(results)}; {results.images:,} test images of {len(results.cities)} cities. "
        f"{made_with(results)} Beside each result stands the paper's, where it has one; its cities are Tokyo and Pittsburgh.",
        "citation": paper.CITATION,
        "findings": [vars(finding) for finding in findings(results)],
        "sections": [part(results) for part in parts],
    }


def _seeds(results: Results) -> str:
    seeds = list(map(str, results.settings["study"]["seeds"]))
    return f"seed{'' if len(seeds) == 1 else 's'} {listed(seeds)}"


def _data(results: Results) -> dict[str, Any]:
    splits = [
        [row["split"], row["city"], f"{row['images']:,}", f"{row['spots']:,}"]
        for _, row in _in_order(results.splits).iterrows()
    ]
    suites = []
    for name, result in results.validation.items():
        failed = [found for found in result["expectations"] if not found["success"]]
        warned = "; ".join(
            f"{found['expectation']} ({found['unexpected']:,} of {found['rows']:,} rows)" for found in failed
        )
        suites.append([name, len(result["expectations"]), len(result["expectations"]) - len(failed), warned or "none"])
    return section(
        "data",
        "Data and validation",
        "",
        table(
            "Splits",
            ["split", "city", "images", "spots"],
            splits,
            "The paper: 76k images a city, 6:2:2. Spots are what the views of one place share.",
        ),
        table(
            "Data contracts",
            ["data", "expectations", "met", "warnings"],
            suites,
            "A critical failure would have stopped the study.",
        ),
    )


def _in_order(splits: pd.DataFrame) -> pd.DataFrame:
    place = {"training": 0, "validation": 1, "test": 2}
    return splits.sort_values(
        ["split", "city"], key=lambda column: column.map(place) if column.name == "split" else column
    )


def _settings(results: Results) -> dict[str, Any]:
    rows = []
    for key, value in _flat(results.settings):
        if not _plays_a_part(results, key):
            continue
        stated, place = paper.SETTINGS.get(key, (NONE, ""))
        rows.append([key, _text(value), f"{stated} ({place})" if place else stated])
    return section(
        "settings",
        "Settings",
        "",
        table("params.yaml", ["setting", "here", "the paper's"], rows, f"{NONE} : the paper leaves it open."),
    )


def _reading(results: Results) -> dict[str, Any]:
    lines = [
        ["weighted mask", "A Grad-CAM map after the ReLU, enlarged bilinearly to the image and stretched to [0, 1]."],
        ["dead mask", "The ReLU leaves nothing that stands out; the mask is zero everywhere."],
        ["visual explanation", "The image where the weighted mask is at least the threshold."],
        [
            "R",
            "0: no pixel of the object is inside the explanations; 1: all are. The same R for all objects means that objects play no part.",
        ],
        [
            "AR",
            "0: two networks have the same mask; 1: they have nothing in common. Small masks that lie apart have a small AR too.",
        ],
        ["seed", "Of the weights' initialisation and the order of the images; all else is the same."],
    ]
    if {*paper.SHALLOW} & {*results.networks} and results.settings["train"]["padding"] == "none":
        borders = "Convolutions without padding do not reach the border: their maps, stretched over the image, point too far out."
        lines.append(["place", borders])
    lines.append(
        [
            "small numbers",
            "Accuracies have an interval, nothing else has. With few test images, or few spots, differences between networks can be luck.",
        ]
    )
    return section("reading", "How to read this", "", table("", ["", ""], lines))


def _plays_a_part(results: Results, key: str) -> bool:
    """Not so: settings of what was not used, and places of files, which differ between machines."""
    unused = {
        "acquire.render.": results.settings["acquire"]["source"] != "render",
        "acquire.datasets": results.settings["acquire"]["source"] != "datasets",
    }
    unused |= {
        f"segment.{name}.": results.settings["segment"]["segmenter"] != name
        for name in ("onnx", "csail", "transformers")
    }
    return not (
        key.endswith((".path", ".manifest")) or any(key.startswith(part) and off for part, off in unused.items())
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or NONE
    if isinstance(value, Mapping):
        return " ".join(map(_text, value.values())) or NONE
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
