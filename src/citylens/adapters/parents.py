"""Parent runs, under which MLflow's pages fold a reproduction's runs.

One rule: the runs of a DVC experiment belong to a parent of the experiment's name; runs of the workspace to a parent of the git
commit and the content of params.yaml, both shortened, such as `3f4392b-9c01d2e`. So what one `dvc repro` runs lies together, a
changed setting or a commit begins another parent, and stages that did not run again stay where they ran. The parent has all
of params.yaml, and each stage's final numbers as `stage/name`: to compare experiments is to compare parents. Its status is that of
the stage that ended last. A stage that dvc.yaml does not name has no parent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from citylens.adapters import git, places, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPRODUCTION = "citylens.reproduction"
PARENT = "mlflow.parentRunId"


def parent(client: MlflowClient, experiment: str, stage: str, tags: Mapping[str, str]) -> tuple[str, bool] | None:
    """The run above a stage's run, found by its tag or made with these tags more; and whether it is new.

    Stages that begin at the same time on one machine agree on one.
    """
    if stage not in versions.declared():
        return None
    name = _name()
    folder = places.main_folder() / ".citylens"
    folder.mkdir(exist_ok=True)
    with places.locked(folder / "parents.lock"):
        wanted = f"tags.`{REPRODUCTION}` = '{name}'"
        found = client.search_runs([experiment], wanted, max_results=1, order_by=["attributes.start_time ASC"])
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id), False
        named = {REPRODUCTION: name, "citylens.stage": "reproduction", "citylens.name": name, **tags}
        return str(client.create_run(experiment, run_name=name, tags=named).info.run_id), True


def metrics(stage: str, logged: Mapping[str, float]) -> dict[str, float]:
    """A stage's final numbers under the names they have on the parent: train/test_accuracy_vgg11-0, measure/R_..."""
    base, _, key = stage.partition("@")
    return {f"{base}/{name}_{key}" if key else f"{base}/{name}": value for name, value in logged.items()}


def _name() -> str:
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        return experiment.replace("'", "_")
    settings = Path("params.yaml")
    digest = hashlib.sha256(settings.read_bytes()).hexdigest()[:7] if settings.exists() else ""
    return "-".join(filter(None, (git.state().get("commit", "")[:7], digest))) or "reproduction"
