"""Which network of an architecture is in use: the champion of its registered model, and how it became that.

MLflow's aliases keep no history, so every change of a champion is a run of its own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from citylens.errors import Incomparable, InputError
from citylens.gate import comparison
from citylens.gate.verdict import TEST_DATA, drawn
from citylens.settings.schema import Settings
from citylens.tracking import live, runs, stores
from citylens.tracking.models import CHALLENGER, CHAMPION
from citylens.tracking.stores import Experiment

STAGE = "promote"
TESTED_ON = f"dvc.dep.{TEST_DATA}"
ACCURACY, MAJORITY = "test_accuracy", "test_majority_accuracy"
PATIENCE = 600  # seconds; a change on another machine that is open for longer has died
HEAD = ("#", "time (UTC)", "action", "model", "from", "to", "accuracy from", "accuracy to", "reason")


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its tags, and the metrics of the run that trained it."""

    model: str
    number: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    def __str__(self) -> str:
        return f"version {self.number} of {self.model}"


@dataclass(frozen=True)
class Change:
    """A change of a champion as the log shows it; `before` is empty for the first champion."""

    number: int
    time: str
    action: str
    model: str
    before: str
    after: str
    accuracy_before: str
    accuracy_after: str
    reason: str
    finished: bool


def promote(
    settings: Settings, network: str, reason: str, *, version: str | None = None, other_data: bool = False
) -> int:
    """Make the challenger the champion if it is no worse on the same test data; a first champion must be above chance.

    Both are fixed networks on the same images, so no noise is allowed for. `gate.promote` in params.yaml has the metrics and
    their tolerances.

    Returns:
        0 if it is the champion now; 1 if it is worse, and all stays.

    Raises:
        Incomparable: the two were tested on other data, or a metric is missing.
        InputError: there is no such version, no challenger or no reason.
    """
    with _opened(settings) as experiment:
        model = f"{settings.register.prefix}-{network}"
        aliases = _aliases(experiment, model)
        if not (version or CHALLENGER in aliases):
            raise InputError(f"{model} has no challenger; allowed: `make repro` registers one, or --version names one")
        challenger = _version(experiment, model, version or aliases[CHALLENGER])
        champion = _version(experiment, model, aliases[CHAMPION]) if CHAMPION in aliases else None
        if challenger == champion:
            print(f"promote: {champion} is the champion already")
            return 0
        if not _passes(settings, challenger, champion, other_data):
            print(f"promote: refused; {champion or 'no champion'} stays")
            return 1
        _crown(settings, experiment, "promote", challenger, champion, reason)
        print(f"promote: {challenger} is the champion now; before: {champion or 'no champion'}")
        return 0


def rollback(settings: Settings, network: str, reason: str) -> None:
    """Make the champion before the champion again; a second call goes back once more.

    Raises:
        InputError: there was none before, the champion was set by other means, or there is no reason.
    """
    with _opened(settings) as experiment:
        model = f"{settings.register.prefix}-{network}"
        number = _aliases(experiment, model).get(CHAMPION)
        if number is None:
            raise InputError(f"{model} has no champion, so nothing to roll back to; `citylens promote` makes one")
        last = _standing(changes(experiment, model), number)
        if last is None:
            raise InputError(
                f"{model}: version {number} was not made champion by `citylens promote`, so the one before is not known"
            )
        if not last.before:
            raise InputError(f"{model}: version {number} was the first champion; nothing to roll back to")
        champion, before = (_version(experiment, model, one) for one in (number, last.before))
        _crown(settings, experiment, "rollback", before, champion, reason)
        print(f"rollback: {before} is the champion again; before: version {number}")


def log(settings: Settings, network: str | None = None) -> str:
    """Return a table of all changes of champions, or of one network's, oldest first."""
    from tabulate import tabulate

    with _opened(settings) as experiment:
        made = changes(experiment, f"{settings.register.prefix}-{network}" if network else None)
    rows = [dataclasses.astuple(change)[: len(HEAD)] for change in made]
    return tabulate(rows, HEAD, tablefmt="simple", disable_numparse=True) if rows else "promotions: none yet"


def changes(experiment: Experiment, model: str | None = None) -> list[Change]:
    """Return the changes of champions that were made, ordered by number, because clocks move back."""
    query = f"tags.`citylens.stage` = '{STAGE}' and tags.`citylens.number` != ''"
    found = experiment.client.search_runs([experiment.id], query, max_results=10_000)
    made = [_change(run.data, run.info) for run in found if run.info.status in ("FINISHED", "RUNNING")]
    return sorted((one for one in made if model in (None, one.model)), key=lambda one: (one.number, one.time))


def _change(data: Any, info: Any) -> Change:
    number, action, model, before, after, reason = (
        data.tags.get(f"citylens.{name}", "") for name in ("number", "action", "model", "from", "to", "reason")
    )
    time = f"{datetime.fromtimestamp(info.start_time / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    accuracies = (data.metrics.get(f"{side}_{ACCURACY}") for side in ("from", "to"))
    old, new = ("" if value is None else f"{value:.4f}" for value in accuracies)
    finished = info.status == "FINISHED"
    reason += "" if finished else " (unfinished)"
    return Change(int(number), time, action, model, before, after, old, new, reason, finished)


@contextmanager
def _opened(settings: Settings) -> Iterator[Experiment]:
    """Give the registry to one process at a time, so that two promotions come one after the other."""
    address = stores.address(settings.tracking)
    if address == stores.OFF:
        raise InputError("CITYLENS_TRACKING is off; allowed for the registry: an MLflow address, or unset")
    where = stores.store(address)
    with stores.reached(where), stores.lock(where, "promote"):
        yield stores.connect(where, settings.tracking.experiment)


def _aliases(experiment: Experiment, model: str) -> dict[str, str]:
    """Return the number of the version that has each alias."""
    models = experiment.client.search_registered_models(f"name = '{model}'")
    return {alias: str(number) for one in models for alias, number in one.aliases.items()}


def _version(experiment: Experiment, model: str, number: str) -> Version:
    known = {str(found.version): found for found in experiment.client.search_model_versions(f"name = '{model}'")}
    if number not in known:
        allowed = ", ".join(sorted(known, key=int)) or "none: `make repro` registers them"
        raise InputError(f"{model} has no version {number}; allowed: {allowed}")
    run = experiment.client.get_run(str(known[number].run_id))
    return Version(model, number, known[number].tags, run.data.metrics)


def _crown(
    settings: Settings, experiment: Experiment, action: str, champion: Version, before: Version | None, reason: str
) -> None:
    """Make a version the champion, and log it: first what is to be done, then that it is done."""
    if not reason.strip():
        raise InputError("--reason is empty; allowed: a text that says why")
    client, model, old = experiment.client, champion.model, before.number if before else ""
    shown = {"action": action, "model": model, "from": old, "to": champion.number}
    number = 1 + max((change.number for change in changes(experiment)), default=0)
    names = (ACCURACY, MAJORITY, *(rule.name for rule in settings.gate.promote))
    run = runs.begin(experiment, STAGE, {live.PROCESS: live.this_process()})
    try:
        run.tags({f"citylens.{name}": value for name, value in {"number": number, "reason": reason, **shown}.items()})
        run.params(shown)
        for side, version in (("from", before), ("to", champion)):
            known = version.metrics if version else {}
            run.metrics({f"{side}_{name}": known[name] for name in names if name in known})
        if _has_rival(experiment, model, number, run.id):
            raise Incomparable(f"{model}: another machine changes the champion at this moment; try again")
        if _aliases(experiment, model).get(CHAMPION, "") != old:
            raise Incomparable(f"{model}: another became champion meanwhile; compare with that one")
    except BaseException:
        run.end("FAILED")
        raise
    # If the process dies from here on, the run stays open, and the registry shows whether the champion has changed.
    client.set_registered_model_alias(model, CHAMPION, champion.number)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tags = [(champion, "crowned", now), (champion, "promotion", run.id)]
    if before:
        tags += [(before, "replaced", now), (before, "replaced_by", champion.number), (before, "promotion", run.id)]
    for version, name, value in tags:
        client.set_model_version_tag(model, version.number, f"citylens.{name}", value)
    if _aliases(experiment, model).get(CHALLENGER) == champion.number:
        client.delete_registered_model_alias(model, CHALLENGER)
    run.end("FINISHED")


def _has_rival(experiment: Experiment, model: str, number: int, own: str) -> bool:
    """Return whether another change of this champion is made at the same time, on a machine that this one has no lock with.

    Each says what it is about to do before it looks, so of two at once at least one sees the other and gives way.
    """
    query = f"tags.`citylens.stage` = '{STAGE}' and tags.`citylens.model` = '{model}' and tags.`citylens.number` != ''"
    for other in experiment.client.search_runs([experiment.id], query, max_results=10_000):
        process, age = other.data.tags.get(live.PROCESS), time.time() - other.info.start_time / 1000
        at_work = other.info.status == "RUNNING" and process and not live.is_gone(process) and age < PATIENCE
        later = other.info.status == "FINISHED" and int(other.data.tags["citylens.number"]) >= number
        if other.info.run_id != own and (at_work or later):
            return True
    return False


def _passes(settings: Settings, challenger: Version, champion: Version | None, other_data: bool) -> bool:
    if champion is not None:
        data = [version.tags.get(TESTED_ON, "") for version in (champion, challenger)]
        made = [version.tags.get(runs.RENDERED_FROM, "") for version in (champion, challenger)]
        if data[0] == data[1] != "" or made[0] == made[1] != "":
            return _no_worse(settings, challenger, champion)
        said = (
            f"the champion, version {champion.number}, was tested on {TEST_DATA} {data[0] or 'unknown'}, "
            f"version {challenger.number} on {data[1] or 'unknown'}"
        )
        if not other_data:
            raise Incomparable(
                f"{said}; allowed: the same, or --other-data for a challenger that then only needs to be above chance"
            )
        print(f"WARNING: {said}; they are not compared")
    accuracy, chance = _metric(challenger, ACCURACY), _metric(challenger, MAJORITY)
    print(f"test accuracy {accuracy:.4f}; always naming the largest city: {chance:.4f}")
    return accuracy > chance


def _no_worse(settings: Settings, challenger: Version, champion: Version) -> bool:
    import pandas as pd

    def lines(version: Version) -> pd.DataFrame:
        values = [(rule.name, "", "", "", "", _metric(version, rule.name), "") for rule in settings.gate.promote]
        return pd.DataFrame(values, columns=comparison.COLUMNS)

    table = comparison.compare(lines(champion), lines(challenger), settings.gate.promote, settings.gate.false_alarms)
    print(drawn(table, "simple", f"champion ({champion.number})", f"challenger ({challenger.number})"))
    return comparison.status(table) == 0


def _metric(version: Version, name: str) -> float:
    if name not in version.metrics:
        raise Incomparable(f"{version.model} version {version.number}: its training run has no metric {name}")
    return version.metrics[name]


def _standing(made: list[Change], champion: str) -> Change | None:
    """Return the promotion that made the present champion, leaving out those that were rolled back.

    A change whose process died counts if the change after it, or the registry, shows that it was made.
    """
    undone, after = 0, champion
    for change in reversed(made):
        if not change.finished and change.after != after:
            continue
        after = change.before
        if change.action == "rollback":
            undone += 1
        elif undone:
            undone -= 1
        else:
            return change if change.after == champion else None
    return None
