"""Champions and challengers in MLflow's registry. Aliases keep no history, so every change of a champion is a run of its own."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from citylens.adapters import places, runs
from citylens.adapters.models import CHALLENGER, CHAMPION
from citylens.settings import Incomparable, InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGE = "promote"
FIELDS = ("number", "action", "model", "from", "to", "reason")


@dataclass(frozen=True)
class Version:
    """A version of a registered model: its tags, and the metrics of the run that trained it."""

    model: str
    number: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Change:
    """A champion's change; `before` is empty for the first one. `when` is UTC."""

    number: int
    action: str
    model: str
    before: str
    after: str
    reason: str
    when: str
    finished: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Registry:
    """The registry of a project, held by one process."""

    where: places.Place
    name: str
    client: MlflowClient
    experiment: str

    def version(self, model: str, number: str) -> Version:
        """A version by its number.

        Raises:
            InputError: there is none.
        """
        there = {str(found.version): found for found in self.client.search_model_versions(f"name = '{model}'")}
        if number not in there:
            allowed = ", ".join(sorted(there, key=int)) or "none: `make repro` registers them"
            raise InputError(f"{model} has no version {number}; allowed: {allowed}")
        found = there[number]
        return Version(model, number, found.tags, self.client.get_run(str(found.run_id)).data.metrics)

    def holder(self, model: str, alias: str) -> Version | None:
        """The version with an alias, or None."""
        from mlflow.exceptions import MlflowException

        try:
            number = self.client.get_registered_model(model).aliases.get(alias)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a server that does not answer is not a missing champion
                raise
            return None
        return self.version(model, str(number)) if number else None

    def crown(
        self, action: str, champion: Version, before: Version | None, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Makes a version the champion, and writes it down: first that it is meant, then that it is done.

        Raises:
            Incomparable: the champion is another than the one that was compared.
        """
        model, old = champion.model, before.number if before else ""
        run = runs.begin(self.where, self.name, STAGE, {})
        said = dict(zip(FIELDS, (self._next(), action, model, old, champion.number, reason), strict=True))
        try:
            run.tags({f"citylens.{name}": value for name, value in said.items()})
            run.params({name: said[name] for name in ("action", "model", "from", "to")})
            run.metrics(metrics)
            now = self.holder(model, CHAMPION)
            if (now.number if now else "") != old:
                raise Incomparable(f"{model}: another became champion meanwhile; compare with that one")
        except BaseException:
            run.end("FAILED")
            raise
        # What dies from here on may have been done, so the run stays open; its mark is the registry itself.
        self.client.set_registered_model_alias(model, CHAMPION, champion.number)
        self._mark(champion, before, run.id)
        run.end("FINISHED")

    def _mark(self, champion: Version, before: Version | None, run: str) -> None:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        tags = {"citylens.crowned": time, "citylens.promotion": run}
        for name, value in tags.items():
            self.client.set_model_version_tag(champion.model, champion.number, name, value)
        if before is not None:
            tags = {"citylens.replaced": time, "citylens.replaced_by": champion.number, "citylens.promotion": run}
            for name, value in tags.items():
                self.client.set_model_version_tag(before.model, before.number, name, value)
        rival = self.holder(champion.model, CHALLENGER)
        if rival is not None and rival.number == champion.number:
            self.client.delete_registered_model_alias(champion.model, CHALLENGER)

    def _next(self) -> int:
        return 1 + max((change.number for change in self.changes()), default=0)

    def changes(self, model: str | None = None) -> list[Change]:
        """Every change of a champion that was made, in the order it was made; by number, since clocks move back."""
        runs = self.client.search_runs([self.experiment], f"tags.`citylens.stage` = '{STAGE}'", max_results=10_000)
        made = []
        for run in runs:
            number, action, of, before, after, reason = (run.data.tags.get(f"citylens.{name}", "") for name in FIELDS)
            started = datetime.datetime.fromtimestamp(run.info.start_time / 1000, datetime.UTC)
            when = started.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
            finished = run.info.status == "FINISHED"
            if number and run.info.status in ("FINISHED", "RUNNING") and model in (None, of):
                made.append(Change(int(number), action, of, before, after, reason, when, finished, run.data.metrics))
        return sorted(made, key=lambda change: (change.number, change.when))


@contextmanager
def opened(where: places.Place, experiment: str) -> Iterator[Registry]:
    """The registry, for one process of this project at a time, so that two promotions come one after the other."""
    folder = places.main_folder() / ".citylens"
    folder.mkdir(exist_ok=True)
    client, identity = places.connect(where, experiment)
    with places.locked(folder / "promote.lock"):
        yield Registry(where, experiment, client, identity)
