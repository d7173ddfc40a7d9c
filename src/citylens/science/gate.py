r"""Whether metrics became worse: base against now, beyond what training with other seeds does by itself.

A row of the gate is a mean of :math:`U` units (networks; for AR pairs of networks), each a mean over its seeds. With
:math:`s` the spread of one run, :math:`b_u` and :math:`n_u` a unit's runs in base and now, and :math:`c_u` those that are the
very same trained network in both,

.. math:: allowed = tolerance + t \cdot s \cdot
          \sqrt{\frac{1}{U'} \, \overline{1/b_u + 1/n_u - 2 c_u / (b_u n_u)}}

- Networks that were not trained anew (equal weights) carry no noise: where all are the same the root is 0, and whatever
  moves beyond the tolerance moved because code or settings did.
- :math:`s^2 = \sum (x - \bar{x})^2 / f` over all units and both sides, each run once, about the mean of its unit and side;
  :math:`f`, the degrees of freedom, is the number of runs less the number of those means. One network with two seeds has
  :math:`f = 1` a side, which is hardly an estimate; four networks have 8. Pooling takes the spread to be alike in all networks.
- :math:`U'` is :math:`U` for networks. Pairs that share a network are not independent: :math:`K` networks hold :math:`K / 2`
  pairs that share none, so :math:`U' = K / 2`, and :math:`f` shrinks by :math:`U' / U`.
- :math:`t` is Student's quantile with :math:`f` degrees of freedom, so that few seeds widen what is allowed. The chance that
  other seeds alone turn the gate red, `false_alarms`, is divided by the metrics that have noise, each part by the metric's
  rows (Bonferroni), so that a metric of many rows does not blunt the others; for `same` it is divided by the two sides too.

The test images are the same in base and now, so how few they are is no noise here: a change was seen on these images or was not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any, Literal, NamedTuple

import pandas as pd
from scipy import special

COLUMNS = ["metric", "row", "pool", "unit", "run", "value", "weights"]
RED, UNKNOWN = ("regression", "changed"), ("missing",)
JOINT = " and "


@dataclass(frozen=True)
class Rule:
    """What counts as worse for a metric; `noise` says whether the seeds' spread is allowed beside the tolerance."""

    metric: str
    direction: Literal["higher", "lower", "same"]
    tolerance: float
    noise: bool


def compare(base: pd.DataFrame, now: pd.DataFrame, rules: Sequence[Rule], false_alarms: float) -> pd.DataFrame:
    """The gate's table.

    Args:
        base, now: a line a value that is to be there: `metric`; `row`, the row of the gate that it goes into; `pool`, the
            quantity whose spread it helps to estimate; `unit`, its network (two, joined by `JOINT`, for a pair); `run`;
            `value`, NaN where it is not there; `weights`, which trained network it belongs to, empty where not known.
        rules: one a metric.
        false_alarms: chance in (0, 1) that noise alone gives any row the verdict regression or changed.

    Returns:
        `metric`, `row`, `base`, `now`, `change`, `allowed` (each NaN where there is none), `verdict`, `note`. Verdicts:
        ok, better, regression, changed (of a metric that is to stay the same), missing (now, in whole or in part), new.
    """
    sides = [_values(side) for side in (base, now)]
    lines = []
    for rule in rules:
        before, after = (side.get(rule.metric, []) for side in sides)
        rows = list(dict.fromkeys(value.row for value in [*before, *after])) or [""]
        lines += [_line(rule, row, before, after) for row in rows]
    noisy = [line for line in lines if line["error"] > 0]
    rows_of = Counter(line["metric"] for line in noisy)
    for line in noisy:
        part = false_alarms / len(rows_of) / rows_of[line["metric"]] / (2 if line["direction"] == "same" else 1)
        line["allowed"] += float(special.stdtrit(line["freedom"], 1 - part)) * line["error"]
    for line in lines:
        line["verdict"] = line["verdict"] or _verdict(line)
    return pd.DataFrame(lines, columns=["metric", "row", "base", "now", "change", "allowed", "verdict", "note"])


def status(table: pd.DataFrame) -> int:
    """0: nothing is worse; 1: something is, or changed that was to stay; 2: something is missing, so that nobody can say."""
    if table["verdict"].isin(RED).any():
        return 1
    return 2 if table["verdict"].isin(UNKNOWN).any() else 0


def independent_pairs(networks: Sequence[str], seeds: Sequence[int]) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Pairs of (network, seed) in each of which every run stands once: two architectures' runs of the same place among the
    seeds, and of each network the first seed with the second, the third with the fourth and so on."""
    across = [((one, seed), (other, seed)) for one, other in combinations(networks, 2) for seed in seeds]
    twins = [
        ((network, one), (network, other))
        for network in networks
        for one, other in zip(seeds[::2], seeds[1::2], strict=False)
    ]
    return across + twins


class _Value(NamedTuple):
    row: str
    pool: str
    unit: str
    run: str
    value: float
    weights: str


_Units = dict[str, list[_Value]]


def _values(side: pd.DataFrame) -> dict[str, list[_Value]]:
    by_metric: dict[str, list[_Value]] = {}
    for metric, *value in side[COLUMNS].itertuples(index=False, name=None):
        by_metric.setdefault(metric, []).append(_Value(*value))
    return by_metric


def _line(rule: Rule, row: str, base: list[_Value], now: list[_Value]) -> dict[str, Any]:
    line: dict[str, Any] = {"metric": rule.metric, "row": row, "direction": rule.direction, "verdict": "", "note": ""}
    line |= dict.fromkeys(("base", "now", "change", "allowed"), math.nan) | {"error": 0.0, "freedom": 0.0}
    before, after = (_by_unit(side, row) for side in (base, now))
    both = [unit for unit in before if unit in after]
    if both:
        means = [_mean({unit: side[unit] for unit in both}) for side in (before, after)]
        line |= {"base": means[0], "now": means[1], "change": means[1] - means[0], "allowed": float(rule.tolerance)}
    else:
        line |= {"base": _mean(before), "now": _mean(after)}
    lost = [unit or "the value" for unit in before if unit not in after] + _lost(base, now, row, after)
    if lost or not after:
        return line | {"verdict": "missing", "note": f"not there now: {', '.join(lost)}" if lost else "in neither"}
    if not both:
        return line | {"verdict": "new"}
    fresh = ", ".join(unit for unit in after if unit not in before)
    found = _noise(before, after, both, base, now) if rule.noise else {}
    notes = [f"not compared, new: {fresh}" if fresh else "", found.pop("note", "")]
    return line | found | {"note": "; ".join(filter(None, notes))}


def _by_unit(values: list[_Value], row: str) -> _Units:
    units: _Units = {}
    for value in values:
        if value.row == row and not math.isnan(value.value):
            units.setdefault(value.unit, []).append(value)
    return units


def _mean(units: _Units) -> float:
    means = [fmean(value.value for value in values) for values in units.values()]
    return fmean(means) if means else math.nan


def _lost(base: list[_Value], now: list[_Value], row: str, after: _Units) -> list[str]:
    """Single runs that are not there now though others of their unit are; those that were not there in base either left out."""
    absent = [
        [(value.unit, value.run) for value in side if value.row == row and math.isnan(value.value)]
        for side in (base, now)
    ]
    return [f"{unit} {run}" for unit, run in absent[1] if unit in after and (unit, run) not in absent[0]]


def _noise(before: _Units, after: _Units, both: list[str], base: list[_Value], now: list[_Value]) -> dict[str, Any]:
    """The standard error of the change (0 where none is known), its degrees of freedom, and what there is to say of it."""
    shares = []
    for unit in both:
        old, new = ([value.weights for value in side[unit]] for side in (before, after))
        common = len(set(filter(None, old)) & set(new))
        shares.append(1 / len(old) + 1 / len(new) - 2 * common / (len(old) * len(new)))
    if max(shares) < 1e-12:
        return {"note": "the same networks, no noise"}
    pools = {value.pool for values in [*before.values(), *after.values()] for value in values}
    squares, spare, freedom = _spread(*([value for value in side if value.pool in pools] for side in (base, now)))
    if not spare:
        return {"note": "noise unknown: no network has two seeds"}
    return {
        "error": math.sqrt(squares / spare * fmean(shares) / _independent(both)),
        "freedom": freedom,
        "note": "" if squares else "no spread between the seeds",
    }


def _spread(base: list[_Value], now: list[_Value]) -> tuple[float, int, float]:
    """Sum of squares about the means of units and sides, runs less means, and how many of those are independent.

    A network that is in both sides counts once.
    """
    known = {value.weights for value in now if value.weights and not math.isnan(value.value)}
    groups: dict[tuple[int, str, str, str], list[float]] = {}
    for side, values in enumerate(([value for value in base if value.weights not in known], now)):
        for value in values:
            if not math.isnan(value.value):
                groups.setdefault((side, value.pool, value.row, value.unit), []).append(value.value)
    several = {place: some for place, some in groups.items() if len(some) > 1}
    squares = sum((value - fmean(some)) ** 2 for some in several.values() for value in some)
    spare = sum(len(some) - 1 for some in several.values())
    units = list(dict.fromkeys(unit for *_, unit in several))
    return squares, spare, max(1.0, spare * _independent(units) / len(units)) if units else 0.0


def _independent(units: list[str]) -> float:
    """How many of the units share no network."""
    networks = [set(unit.split(JOINT)) for unit in units]
    return min(len(units), len(set().union(*networks)) / fmean(len(names) for names in networks))


def _verdict(line: dict[str, Any]) -> str:
    gain = line["change"] * {"higher": 1, "lower": -1, "same": 1}[line["direction"]]
    if abs(gain) <= line["allowed"] + 1e-12:
        return "ok"
    if line["direction"] == "same":
        return "changed"
    return "better" if gain > 0 else "regression"
