r"""Whether metrics became worse from base to now, beyond what training with other seeds changes by itself.

A row of the gate is a mean of :math:`U` units (networks; for AR, pairs of networks); each unit is a mean over its seeds. Both sides
use the same test images, so all differences are paired. Let :math:`s` be the standard deviation of one run, :math:`b_u` and
:math:`n_u` the unit's runs in base and now, and :math:`c_u` the trained networks that both sides share. Then

.. math:: allowed = tolerance + t_f \cdot \sqrt{v + w}, \quad
          v = \frac{s^2}{U'} \, \overline{1/b_u + 1/n_u - 2 c_u / (b_u n_u)}

- Networks that were not trained anew (equal weights) have no noise: :math:`v = w = 0`. A change beyond the tolerance then comes
  from code or settings, and even a gain is a change that needs a look.
- A rule with the noise `any` judges such networks only. Dead masks need that: with some seeds a network
  has nothing else.
- A rule with the noise `other seeds` counts runs of the same network and seed as shared, even if their weights differ: training starts
  from the same weights with the same batches, so that its first losses differ only if training does.
  In both cases each run is judged too, with the tolerance times the root of their number: one run that became worse and another
  that became better leave the mean as it was.
- :math:`s^2 = \sum (x - \bar{x})^2 / f_v` over the runs of base alone, about the mean of each unit, so that no regression can widen
  what is allowed. :math:`f_v` is the number of runs less the number of these means. Pooling assumes that the spread is alike in
  all networks. Where no unit has two values, as AR between a network's own runs, the spread between networks stands for it.
- :math:`U' = U` for networks. Pairs that share a network are not independent: of :math:`K` networks, :math:`K / 2` pairs share
  none, so :math:`U' = K / 2`. If each run adds its own part to AR, their sum of squares has :math:`K - 1` degrees of freedom per seed
  (Satterthwaite, 1946).
- :math:`w` is the variance of that change over test spots, from base alone too: for each spot, the deviations of a network's runs
  from their mean on the same images, mean over units; of these the variance over :math:`M` spots, divided by :math:`M`, with
  :math:`f_w = M - 1`. Whole spots count, because the views of one spot are not independent. Only accuracy has
  :math:`w`; seeds move explained area and AR alike at all spots, so that :math:`w` is far below :math:`v` there.
- :math:`f = (v + w)^2 / (v^2 / f_v + w^2 / f_w)` (Welch, 1947). :math:`t_f` is Student's quantile, so few seeds widen what is
  allowed. The chance that other seeds alone turn the gate red, `false_alarms`, is divided among the metrics that have noise, then
  among each metric's rows (Bonferroni); so a metric with many rows does not blunt the others. For `same` it is also divided
  between the two directions.
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
OF_SPOTS = ("accuracy", "accuracy of")
"""Metrics whose values are the share of `right` images in the table of spots."""


def compare(
    base: pd.DataFrame,
    now: pd.DataFrame,
    rules: Sequence[Rule],
    false_alarms: float,
    spots: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the gate's table.

    Args:
        base, now: one line per value: `metric`; `row`, the row of the gate that it belongs to; `pool`, the quantity whose spread
            it helps to estimate; `unit`, its network (two, joined by `JOINT`, for a pair); `run`; `value`, NaN if it is missing;
            `weights`, which trained network it belongs to, empty if that is not known.
        rules: one per metric.
        false_alarms: chance in (0, 1) that noise alone gives any row the verdict regression or changed.
        spots: sums over the test images of each run and spot of base: `run`, `spot`, `images`, and `right`, those named rightly.

    Returns:
        `metric`, `row`, `base`, `now`, `change`, `allowed` (NaN if there is none), `verdict`, `note`. Verdicts: ok, better,
        regression, changed (for a metric that is to stay the same, or one of the same networks), missing (now, in whole or in
        part), new.
    """
    lines = []
    for rule in rules:
        before, after = (list(side[side["metric"] == rule.name].itertuples(index=False)) for side in (base, now))
        rows = list(dict.fromkeys(value.row for value in [*before, *after])) or [""]
        sums = spots if rule.name in OF_SPOTS else None
        lines += [_line(rule, row, before, after, sums, {*now["run"]}) for row in rows]
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


def _line(
    rule: Rule, row: str, base: _Values, now: _Values, spots: pd.DataFrame | None, runs: set[str]
) -> dict[str, Any]:
    line: dict[str, Any] = {"metric": rule.name, "row": row, "direction": rule.direction, "verdict": "", "note": ""}
    line |= dict.fromkeys(("base", "now", "change", "allowed"), math.nan) | {"error": 0.0, "freedom": 0.0}
    before, after = (_by_unit(side, row) for side in (base, now))
    both = [unit for unit in before if unit in after]
    line["base"], line["now"] = (_mean([side[unit] for unit in both or side]) for side in (before, after))
    if both:
        allowed = max(line["base"] - rule.tolerance, 0.0) if rule.direction == "above" else rule.tolerance
        line |= {"change": line["now"] - line["base"], "allowed": allowed}
    lost = [unit or "the value" for unit in before if unit not in after] + _lost(base, now, row, after, runs)
    if not before and not after and any(value.row == row for value in now):
        return line | {"verdict": "ok", "note": "no value in either"}
    if lost or not after:
        return line | {"verdict": "missing", "note": f"not there now: {', '.join(lost)}" if lost else "in neither"}
    if not both:
        return line | {"verdict": "new"}
    fresh = ", ".join(unit for unit in after if unit not in before)
    found = _noise(rule, before, after, both, base, spots) if rule.noise != "none" else {}
    low = rule.direction == "above" and line["base"] <= rule.tolerance
    if line["direction"] != "above" and found.get("paired"):
        found |= _apart(rule, before, after, both, found)
    notes = [f"not compared, new: {fresh}" if fresh else "", found.pop("note", ""), "not above in base" if low else ""]
    return line | ({"verdict": "ok"} if low else {}) | found | {"note": "; ".join(filter(None, notes))}


def _by_unit(values: _Values, row: str) -> _Units:
    units: _Units = {}
    for value in values:
        if value.row == row and not math.isnan(value.value):
            units.setdefault(value.unit, []).append(value)
    return units


def _mean(units: list[_Values]) -> float:
    means = [fmean(value.value for value in values) for values in units]
    return fmean(means) if means else math.nan


def _lost(base: _Values, now: _Values, row: str, after: _Units, runs: set[str]) -> list[str]:
    """Return the runs whose value is missing now but was not in base, of units that have other runs now.

    Where a whole line is missing, this counts if the run has values of other metrics now: then it is not just another seed.
    """
    absent = [
        {value.run: value.unit for value in side if value.row == row and math.isnan(value.value)}
        for side in (base, now)
    ]
    here = {value.run for value in now if value.row == row}
    gone = {value.run: value.unit for value in base if value.row == row and value.run in runs - here}
    return [run for run, unit in (absent[1] | gone).items() if unit in after and run not in absent[0]]


def _noise(
    rule: Rule, before: _Units, after: _Units, both: list[str], base: _Values, spots: pd.DataFrame | None
) -> dict[str, Any]:
    """Return the standard error of the change (none if it is not known), its degrees of freedom, and a note."""
    same = "run" if rule.noise == "other seeds" else "weights"
    shares = []
    for unit in both:
        old, new = ([getattr(value, same) for value in side[unit]] for side in (before, after))
        common = len(set(filter(None, old)) & set(new))
        shares.append(1 / len(old) + 1 / len(new) - 2 * common / (len(old) * len(new)))
    if max(shares) < 1e-12:
        note = "the same networks, no noise" if same == "weights" else "the same seeds, run by run"
        return {"note": note, "fixed": same == "weights", "paired": True}
    if rule.noise == "any":
        return {"verdict": "ok", "note": "not compared, trained anew"}
    pools = {value.pool for values in before.values() for value in values}
    squares, spare, freedom = _spread([value for value in base if value.pool in pools])
    if not spare and len(before) > 1 and all(JOINT in value.run for values in before.values() for value in values):
        means = [fmean(value.value for value in values) for values in before.values()]
        squares, spare = sum((mean - fmean(means)) ** 2 for mean in means), len(means) - 1
        freedom = _free(spare, list(before))
    if not spare:
        return {"note": "noise unknown: no network has two seeds"}
    variance = squares / spare * fmean(shares) / _independent(both)
    over_spots, spots_freedom = _over_spots(spots, [before[unit] for unit in both])
    over_spots *= fmean(shares)
    total = variance + over_spots
    if over_spots:
        freedom = total**2 / (variance**2 / freedom + over_spots**2 / spots_freedom)
    return {"error": math.sqrt(total), "freedom": freedom, "note": "" if total else "no spread between the seeds"}


def _apart(rule: Rule, before: _Units, after: _Units, both: list[str], found: dict[str, Any]) -> dict[str, Any]:
    """Return a verdict if a run became worse by itself, which the mean hides where another became better.

    A run may move by the tolerance times the root of the number of runs, so that rounding, which moves each by as much, stays green.
    """
    old, new = ({value.run: value.value for unit in both for value in side[unit]} for side in (before, after))
    moved = {run: new[run] - old[run] for run in old if run in new}
    if not moved:  # the same networks under other names
        return {}
    worse = {
        run: abs(by) if rule.direction == "same" else -by if rule.direction == "higher" else by
        for run, by in moved.items()
    }
    run = max(worse, key=worse.__getitem__)
    if worse[run] <= rule.tolerance * math.sqrt(len(moved)) + 1e-12:
        return {}
    verdict = "changed" if rule.direction == "same" else "regression"
    return {"verdict": verdict, "note": f"{found['note']}: {run} by {moved[run]:+.4f}"}


def _spread(values: _Values) -> tuple[float, int, float]:
    """Return the sum of squares about the units' means, runs less means, and how many of those are independent."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for value in values:
        if not math.isnan(value.value):
            groups.setdefault((value.pool, value.row, value.unit), []).append(value.value)
    several = {place: some for place, some in groups.items() if len(some) > 1}
    squares = sum((value - fmean(some)) ** 2 for some in several.values() for value in some)
    spare = sum(len(some) - 1 for some in several.values())
    units = list(dict.fromkeys(unit for *_, unit in several))
    return squares, spare, _free(spare, units)


def _over_spots(spots: pd.DataFrame | None, units: list[_Values]) -> tuple[float, int]:
    """Return the variance over spots of the mean over units of a single run, and its degrees of freedom; 0 and 0 if unknown."""
    runs = [[value.run for value in values] for values in units if len(values) > 1]
    if spots is None or not runs or not {run for some in runs for run in some} <= {*spots["run"]}:
        return 0.0, 0
    wide = spots.pivot(index="spot", columns="run", values=["images", "right"])
    parts = wide["right"] / wide["images"].mean()
    deep = min(map(len, runs))
    apart = [sum(parts[some[place]] - parts[some].mean(axis=1) for some in runs) / len(runs) for place in range(deep)]
    if len(parts) < 2:
        return 0.0, 0
    return float(sum(one.var() for one in apart)) / (deep - 1) / len(parts), len(parts) - 1


def _independent(units: list[str]) -> float:
    """Return how many of the units share no network."""
    networks = [set(unit.split(JOINT)) for unit in units]
    return min(len(units), len(set().union(*networks)) / fmean(len(names) for names in networks))


def _free(spare: int, units: list[str]) -> float:
    """Return the degrees of freedom of a sum of squares: for pairs of K networks, as many as K - 1 units have."""
    if not units:
        return 0.0
    networks = {name for unit in units for name in unit.split(JOINT)}
    pairs = any(JOINT in unit for unit in units)
    return max(1.0, spare * (len(networks) - 1) / len(units)) if pairs else float(spare)


def _verdict(line: dict[str, Any]) -> str:
    gain = line["change"] * (-1 if line["direction"] == "lower" else 1)
    if line["direction"] == "above":
        return "ok" if gain > -line["allowed"] + 1e-12 else "regression"
    if abs(gain) <= line["allowed"] + 1e-12:
        return "ok"
    if line["direction"] == "same" or (gain > 0 and line.get("fixed")):
        return "changed"
    return "better" if gain > 0 else "regression"
