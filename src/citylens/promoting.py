"""Which network of an architecture is in use: the champion of its registered model, and how it became that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from citylens.adapters import places, registry, tracker
from citylens.adapters.models import CHALLENGER, CHAMPION
from citylens.adapters.registry import Change, Registry, Version
from citylens.gating import TEST_DATA, drawn
from citylens.science import gate as science
from citylens.settings import Incomparable, InputError, Promotion, Settings
from citylens.sync import reached

if TYPE_CHECKING:
    import pandas as pd

TESTED_ON = f"dvc.dep.{TEST_DATA}"
ACCURACY, MAJORITY = "test_accuracy", "test_majority_accuracy"


def promote(
    settings: Settings, network: str, reason: str, *, version: str | None = None, other_data: bool = False
) -> int:
    """Makes the challenger the champion if it is no worse on the same test data; a first one must be above chance.

    Both are given networks on the same images, so nothing is left to chance and no noise is allowed for; `gate.promote`
    in params.yaml says by which metrics and with which tolerance.

    Returns:
        0: it is the champion; 1: it is worse, and all stays.

    Raises:
        Incomparable: the two were tested on other data, or a metric is missing.
        InputError: no such version, no challenger, or no reason.
    """
    _need(reason)
    with _opened(settings) as held:
        model = f"{settings.register.prefix}-{network}"
        challenger = held.version(model, version) if version else held.holder(model, CHALLENGER)
        champion = held.holder(model, CHAMPION)
        if challenger is None:
            raise InputError(f"{model} has no challenger; allowed: `make repro` registers one, or --version names one")
        if champion is not None and champion.number == challenger.number:
            print(f"promote: {model} version {champion.number} is the champion already")
            return 0
        if not _passes(settings, challenger, champion, other_data):
            print(f"promote: refused; {_champion(model, champion)} stays")
            return 1
        held.crown("promote", challenger, champion, reason, _numbers(settings.gate.promote, challenger, champion))
        print(
            f"promote: version {challenger.number} of {model} is the champion now; before: {_champion(model, champion)}"
        )
        return 0


def rollback(settings: Settings, network: str, reason: str) -> None:
    """Makes the champion before the champion again; twice goes back twice.

    Raises:
        InputError: there was none before, or the champion was set by other means.
    """
    _need(reason)
    with _opened(settings) as held:
        model = f"{settings.register.prefix}-{network}"
        champion = held.holder(model, CHAMPION)
        if champion is None:
            raise InputError(f"{model} has no champion, so nothing to roll back to; `citylens promote` makes one")
        last = _standing(held.changes(model), champion.number)
        if last is None:
            raise InputError(
                f"{model}: version {champion.number} was not made champion by `citylens promote`, so the one before is not known"
            )
        if not last.before:
            raise InputError(f"{model}: version {champion.number} was the first champion; nothing to roll back to")
        before = held.version(model, last.before)
        held.crown("rollback", before, champion, reason, _numbers(settings.gate.promote, before, champion))
        print(f"rollback: version {before.number} of {model} is the champion again; before: version {champion.number}")


def log(settings: Settings, network: str | None = None) -> str:
    """Every change of a champion as a table, oldest first."""
    with _opened(settings) as held:
        changes = held.changes(f"{settings.register.prefix}-{network}" if network else None)
    from tabulate import tabulate

    rows = [_row(change) for change in changes]
    head = ("#", "time (UTC)", "action", "model", "from", "to", "accuracy from", "accuracy to", "reason")
    return tabulate(rows, head, tablefmt="simple", disable_numparse=True) if rows else "promotions: none yet"


def _row(change: Change) -> tuple[str, ...]:
    accuracies = (change.metrics.get(f"{side}_{ACCURACY}") for side in ("from", "to"))
    shares = ("" if value is None else f"{value:.4f}" for value in accuracies)
    reason = change.reason if change.finished else f"{change.reason} (unfinished)"
    sides = (change.before or "-", change.after)
    return str(change.number), change.when, change.action, change.model, *sides, *shares, reason


@contextmanager
def _opened(settings: Settings) -> Iterator[Registry]:
    address = tracker.address(settings)
    if address == "off":
        raise InputError("CITYLENS_TRACKING is off; allowed for the registry: an MLflow address, or unset")
    where = places.place(address)
    places.hush()
    with reached(where), registry.opened(where, settings.tracking.experiment) as held:
        yield held


def _need(reason: str) -> None:
    if not reason.strip():
        raise InputError("--reason is empty; allowed: a text that says why")


def _passes(settings: Settings, challenger: Version, champion: Version | None, other_data: bool) -> bool:
    if champion is not None:
        data = [version.tags.get(TESTED_ON, "") for version in (champion, challenger)]
        if data[0] == data[1] != "":
            return _no_worse(settings, challenger, champion)
        said = (
            f"the champion, version {champion.number}, was tested on {TEST_DATA} {data[0] or 'unknown'}, version "
            + (f"{challenger.number} on {data[1] or 'unknown'}")
        )
        if not other_data:
            raise Incomparable(
                f"{said}; allowed: the same, or --other-data for a challenger that then only needs to be above chance"
            )
        print(f"WARNING: {said}; they are not compared")
    accuracy, chance = (_metric(challenger, name) for name in (ACCURACY, MAJORITY))
    print(f"test accuracy {accuracy:.4f}; always naming the largest city: {chance:.4f}")
    return accuracy > chance


def _no_worse(settings: Settings, challenger: Version, champion: Version) -> bool:
    rules = [science.Rule(rule.metric, rule.direction, rule.tolerance, False) for rule in settings.gate.promote]
    before, after = (_lines(settings.gate.promote, version) for version in (champion, challenger))
    table = science.compare(before, after, rules, settings.gate.false_alarms)
    print(drawn(table, "simple", f"champion ({champion.number})", f"challenger ({challenger.number})"))
    return science.status(table) == 0


def _lines(rules: tuple[Promotion, ...], version: Version) -> pd.DataFrame:
    import pandas as pd

    lines = [(rule.metric, "", "", "", "", _metric(version, rule.metric), "") for rule in rules]
    return pd.DataFrame(lines, columns=science.COLUMNS)


def _metric(version: Version, name: str) -> float:
    if name not in version.metrics:
        raise Incomparable(f"{version.model} version {version.number}: its training run has no metric {name}")
    return version.metrics[name]


def _numbers(rules: tuple[Promotion, ...], after: Version, before: Version | None) -> dict[str, float]:
    names = dict.fromkeys((ACCURACY, MAJORITY, *(rule.metric for rule in rules)))
    sides = {"to": after} | ({"from": before} if before else {})
    return {
        f"{side}_{name}": version.metrics[name]
        for side, version in sides.items()
        for name in names
        if name in version.metrics
    }


def _standing(changes: list[Change], champion: str) -> Change | None:
    """The promotion that made the present champion, with those that were rolled back taken away.

    A change whose process died counts if what came after it, or the registry, shows that it had been made.
    """
    made, holder = [], champion
    for change in reversed(changes):
        if change.finished or change.after == holder:
            made.append(change)
            holder = change.before
    stack: list[Change] = []
    for change in reversed(made):
        if change.action == "rollback":
            del stack[-1:]
        else:
            stack.append(change)
    return stack[-1] if stack and stack[-1].after == champion else None


def _champion(model: str, champion: Version | None) -> str:
    return f"version {champion.number} of {model}" if champion else "no champion"
