"""Times of two or more ways to do one thing: they take turns in one run, and are compared turn by turn."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

REPEATS = 6


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, against what, the bar, the figure, and whether the bar is met (None: not run).

    `seconds` are the medians by way. `costs` are what `citylens plan` computes with: per stage the seconds of one image on the whole
    machine, see citylens/plan.py.
    """

    what: str
    against: str
    bar: str
    figure: str
    met: bool | None
    note: str = ""
    costs: tuple[dict[str, Any], ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def turns(ways: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Return the seconds of each way in each turn, after one turn that does not count.

    Every other turn goes backwards, because a way may be slower after another: training was, after the loop over ImageFolder.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in reversed(ways.items()) if turn % 2 else ways.items():
            start = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - start)
    return times


def medians(took: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median seconds of each way."""
    return {name: statistics.median(own) for name, own in took.items()}


def ratio(took: Mapping[str, list[float]], way: str, other: str, form: str = ".2f") -> tuple[float, str]:
    """Return the median over the turns of a way's seconds divided by the other's, and a text of it with the quartiles.

    The ways of a turn are measured within a short time, so what slows the machine down for a while slows all of them.
    """
    low, middle, high = statistics.quantiles(map(operator.truediv, took[way], took[other]), n=4, method="inclusive")
    return middle, f"{middle:{form}} ({low:{form}} to {high:{form}})"
