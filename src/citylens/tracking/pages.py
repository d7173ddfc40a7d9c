"""What MLflow's pages show first: the experiment's description, saved views of its runs, and links to both."""

from __future__ import annotations

import colorsys
import json

from citylens.nets.names import NETWORKS

MODEL_TRAINING = "workflowType=machine_learning"
"""MLflow's pages open as "GenAI" in a browser that has not chosen yet; only the address can say otherwise."""
TRAININGS, STUDIES = "trained-networks", "studies"
WRITTEN = 1767225600000  # when the views were written, in ms since 1970; MLflow asks for a number
LINKS = {
    "train": {"curves": "model-metrics", "confusion of the test images": "artifacts/tables/confusion.json"},
    "report": {
        "AR table": "artifacts/tables/table2.json",
        "R of each object": "artifacts/figures/fig5_object_ratio.png",
        "R as a table": "artifacts/tables/object_ratio.json",
        "explanations": "artifacts/figures/fig4_explanations.png",
        "the whole report": "artifacts/index.html",
    },
}
"""What the description of a stage's run links to."""
CURVES = ("validation_accuracy", "validation_loss", "training_accuracy", "training_loss")


def experiment_tags(experiment: str) -> dict[str, str]:
    """Return the tags that give an experiment its kind, its description and its saved views (menu `Views`).

    Args:
        experiment: the experiment's id.
    """
    views = {TRAININGS: _trainings(), STUDIES: _studies()}
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": (
            "What does a network look at when it tells one city from another? "
            f"[Trained networks]({view(experiment, TRAININGS)}) · [their curves]({view(experiment, TRAININGS)}"
            f"&compareRunsMode=CHART) · [studies: AR and R]({view(experiment, STUDIES)})\n\n"
            "- **train@NETWORK-SEED** is a trained network. Select several and press Compare.\n"
            "- **A run with a +** is a study, one per `dvc repro`. Its description links to the AR table and the plots of R. "
            "The + shows the study's other stages.\n"
            "- **Models** lists every trained network, and what the studies found of it."
        ),
    } | {f"mlflow.sharedViewState.{name}": text for name, text in views.items()}


def view(experiment: str, name: str) -> str:
    """Return the address of a saved view, relative to that of MLflow's pages."""
    return f"#/experiments/{experiment}/runs?{MODEL_TRAINING}&viewStateShareKey={name}"


def note(stage: str, experiment: str, run: str) -> str:
    """Return the description of a stage's run, with links to its main results; empty for stages without one."""
    folder = f"#/experiments/{experiment}/runs/{run}"
    links = [f"[{title}]({folder}/{path}?{MODEL_TRAINING})" for title, path in LINKS.get(stage, {}).items()]
    return " · ".join(links)


def colour(network: str, seed: int) -> str:
    """Return a trained network's colour: its architecture's hue, lighter for later seeds. MLflow draws colours by chance."""
    parts = colorsys.hls_to_rgb(NETWORKS.index(network) / len(NETWORKS), 0.35 + 0.3 * (seed % 2), 0.6)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _trainings() -> str:
    columns = ["metrics.`test_accuracy`", "params.`network`", "params.`seed`", "params.`data`", "attributes.`Models`"]
    line = {"type": "LINE", "xAxisKey": "step", "yAxisKey": "metric", "xAxisScaleType": "linear", "scaleType": "linear"}
    bar = {"type": "BAR", "metricKey": "test_accuracy"}
    return _view("Trained networks", "train", columns, [bar, *(line | {"metricKey": name} for name in CURVES)])


def _studies() -> str:
    names = ("AR architecture", "AR retrained", "AR ratio", "R distance architecture", "R distance initialisation")
    charts = [{"type": "BAR", "metricKey": name} for name in names]
    return _view("Studies: AR and R", "report", [f"metrics.`{name}`" for name in names], charts)


def _view(title: str, stage: str, columns: list[str], charts: list[dict[str, str]]) -> str:
    """Return a saved view, as MLflow's pages write it into an experiment's tags."""
    drawn = [
        {"uuid": f"chart-{number}", "metricSectionId": "main", "displayName": chart["metricKey"], "deleted": False}
        | {"runsCountToCompare": 20, "isGenerated": False, "useGlobalXaxisKey": True, "lineSmoothness": 0, "range": {}}
        | chart
        for number, chart in enumerate(charts)
    ]
    section = {"uuid": "main", "name": title, "display": True, "isReordered": True, "deleted": False}
    state = {
        "searchFilter": f"tags.`citylens.stage` = '{stage}'",
        "selectedColumns": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": drawn,
        "compareRunSections": [section | {"isGenerated": False}],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": title, "createdAt": WRITTEN, "updatedAt": WRITTEN, "state": json.dumps(state)})
