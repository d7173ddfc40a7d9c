r"""Whether metrics became worse from base to now, beyond what training with other seeds changes by itself.

A row of the gate is a mean of :math:`U` units (networks; for AR, pairs of networks); each unit is a mean over its seeds. Let
:math:`s` be the standard deviation of one run, :math:`b_u` and :math:`n_u` the unit's runs in base and now, and :math:`c_u` the
trained networks that both sides share. Then

.. math:: allowed = tolerance + t \cdot s \cdot
          \sqrt{\frac{1}{U'} \, \overline{1/b_u + 1/n_u - 2 c_u / (b_u n_u)}}

- Networks that were not trained anew (equal weights) have no noise. If all are the same, the root is 0: a change beyond the
  tolerance then comes from code or settings.
- :math:`s^2 = \sum (x - \bar{x})^2 / f` over the runs of all units and both sides, about the mean of each unit and side; a network
  that both sides share counts once. The degrees of freedom :math:`f` are the number of runs less the number of these means. One
  network with two seeds has :math:`f = 1` per side, too few for an estimate; four networks have 8. Pooling assumes that the
  spread is alike in all networks.
- :math:`U' = U` for networks. Pairs that share a network are not independent: of :math:`K` networks, :math:`K / 2` pairs share
  none, so :math:`U' = K / 2`, and :math:`f` shrinks by :math:`U' / U`.
- :math:`t` is Student's quantile with :math:`f` degrees of freedom, so few seeds widen what is allowed. The chance that other
  seeds alone turn the gate red, `false_alarms`, is divided among the metrics that have noise, then among each metric's rows
  (Bonferroni); so a metric with many rows does not blunt the others. For `same` it is also divided between the two directions.

Both sides use the same test images, so the number of images adds no noise here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd
from scipy import special

from citylens.nets.names import JOINT
from citylens.settings.schema import Rule

COLUMNS = ["metric", "row", "pool", "unit", "run", "value", "weights"]


def compare(base: pd.DataFrame, now: pd.DataFrame, rules: Sequence[Rule], false_alarms: float) -> pd.DataFrame:
    """Return the gate's table.

    Args:
        base, now: one line per value: `metric`; `row`, the row of the gate that it belongs to; `pool`, the quantity whose spread
            it helps to estimate; `unit`, its network (two, joined by `JOINT`, for a pair); `run`; `value`, NaN if it is missing;
            `weights`, which trained network it belongs to, empty if that is not known.
        rules: one per metric.
        false_alarms: chance in (0, 1) that noise alone gives any row the verdict regression or changed.

    Returns:
        `metric`, `row`, `base`, `now`, `change`, `allowed` (NaN if there is none), `verdict`, `note`. Verdicts: ok, better,
        regression, changed (for a metric that is to stay the same), missing (now, in whole or in part), new.
    """
    lines = []
    for rule in rules:
        before, after = (list(side[side["metric"] == rule.name].itertuples(index=False)) for side in (base, now))
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
    """Return 0 if nothing is worse, 1 if a row is worse or changed against its rule, 2 if a row is missing."""
    verdicts = {*table["verdict"]}
    return 1 if verdicts & {"regression", "changed"} else 2 if "missing" in verdicts else 0


_Values = list[Any]  # named tuples with the fields of COLUMNS
_Units = dict[str, _Values]


def _line(rule: Rule, row: str, base: _Values, now: _Values) -> dict[str, Any]:
    line: dict[str, Any] = {"metric": rule.name, "row": row, "direction": rule.direction, "verdict": "", "note": ""}
    line |= dict.fromkeys(("base", "now", "change", "allowed"), math.nan) | {"error": 0.0, "freedom": 0.0}
    before, after = (_by_unit(side, row) for side in (base, now))
    both = [unit for unit in before if unit in after]
    line["base"], line["now"] = (_mean([side[unit] for unit in both or side]) for side in (before, after))
    if both:
        line |= {"change": line["now"] - line["base"], "allowed": rule.tolerance}
    lost = [unit or "the value" for unit in before if unit not in after] + _lost(base, now, row, after)
    if lost or not after:
        return line | {"verdict": "missing", "note": f"not there now: {', '.join(lost)}" if lost else "in neither"}
    if not both:
        return line | {"verdict": "new"}
    fresh = ", ".join(unit for unit in after if unit not in before)
    found = _noise(before, after, both, base, now) if rule.noise == "seeds" else {}
    notes = [f"not compared, new: {fresh}" if fresh else "", found.pop("note", "")]
    return line | found | {"note": "; ".join(filter(None, notes))}


def _by_unit(values: _Values, row: str) -> _Units:
    units: _Units = {}
    for value in values:
        if value.row == row and not math.isnan(value.value):
            units.setdefault(value.unit, []).append(value)
    return units


def _mean(units: list[_Values]) -> float:
    means = [fmean(value.value for value in values) for values in units]
    return fmean(means) if means else math.nan


def _lost(base: _Values, now: _Values, row: str, after: _Units) -> list[str]:
    """Return the runs whose value is missing now but was not in base, of units that have other runs now."""
    absent = [
        {value.run: value.unit for value in side if value.row == row and math.isnan(value.value)}
        for side in (base, now)
    ]
    return [run for run, unit in absent[1].items() if unit in after and run not in absent[0]]


def _noise(before: _Units, after: _Units, both: list[str], base: _Values, now: _Values) -> dict[str, Any]:
    """Return the standard error of the change (none if it is not known), its degrees of freedom, and a note."""
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


def _spread(base: _Values, now: _Values) -> tuple[float, int, float]:
    """Return the sum of squares about the means of units and sides, runs less means, and how many of those are independent.

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
    """Return how many of the units share no network."""
    networks = [set(unit.split(JOINT)) for unit in units]
    return min(len(units), len(set().union(*networks)) / fmean(len(names) for names in networks))


def _verdict(line: dict[str, Any]) -> str:
    gain = line["change"] * {"higher": 1, "lower": -1, "same": 1}[line["direction"]]
    if abs(gain) <= line["allowed"] + 1e-12:
        return "ok"
    if line["direction"] == "same":
        return "changed"
    return "better" if gain > 0 else "regression"
