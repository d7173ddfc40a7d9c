"""What the page is made of: sections, figures with captions and tables as plain values, and numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from citylens.science.results import Results

NONE, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


def made_with(results: Results) -> str:
    """The settings that decide what the figures show, in one sentence."""
    settings = results.settings
    explained = "the city that the network names" if settings["explain"]["score"] == "predicted" else "the true city"
    split = "by spot" if settings["prepare"]["split"] == "spot" else "at random over images"
    source = {
        "oracle": "label maps that come with the data",
        "onnx": "an ONNX scene parser",
        "csail": f"the scene parser {settings['segment']['csail']['parser']}",
        "transformers": f"the scene parser {settings['segment']['transformers']['checkpoint']}",
    }[settings["segment"]["segmenter"]]
    size = settings["prepare"]["size"]
    return (
        f"Images of {size} {TIMES} {size} px, split {split}; Grad-CAM explains the score of {explained}; a pixel is explained where the "
        f"weighted mask is at least {settings['measure']['threshold']:g}; objects are named by {source}."
    )


def section(name: str, title: str, text: str, *blocks: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the page with an anchor, a heading, some words, and figures and tables."""
    return {"id": name, "title": title, "text": text, "blocks": list(blocks)}


def figure(name: str, title: str, caption: str, counterpart: str) -> dict[str, Any]:
    """A figure by its file name without .png, with what the paper has in its place."""
    return {"kind": "figure", "name": name, "title": title, "caption": caption, "paper": counterpart}


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> dict[str, Any]:
    """A table; its cells become text."""
    return {
        "kind": "table",
        "title": title,
        "header": list(header),
        "rows": [list(row) for row in rows],
        "caption": caption,
    }


def percent(value: float | None) -> str:
    """A share as a percentage; a dash where it is missing."""
    return NONE if value is None or value != value else f"{value:.2%}"


def number(value: float | None, digits: int = 3) -> str:
    """A number; a dash where it is missing."""
    return NONE if value is None or value != value else f"{value:.{digits}f}"


def listed(parts: Sequence[str]) -> str:
    """Parts as in a sentence: a, b and c."""
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
