"""report: the figures and tables of the paper from this study's results, and a page that shows them.

Reads the tables of all earlier stages, and images and masks only in the rows that it shows. Writes reports/report (PNG, CSV and
JSON) and reports/index.html, a page that needs no other file. Run alone: `citylens report`. Costs about 10 s for any number of
images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from citylens.io import files
from citylens.io.logged import Logged
from citylens.report import figures, page
from citylens.report.inputs import read_results
from citylens.report.labels import object_name
from citylens.report.metrics import metric_table, spot_table
from citylens.report.results import Results, accuracies, kept_ratios, main_scores, wide_ratios
from citylens.settings.schema import Settings

FOLDER, PAGE = Path("reports/report"), Path("reports/index.html")


def run(settings: Settings) -> None:
    """Draw the figures, and write the tables and the page."""
    results = read_results(settings)
    pictures = dict(figures.draw(results))
    tables = {"accuracies": accuracies(results), "table2": results.pairs, "object_ratio": wide_ratios(results)}
    plain_tables = {"metrics": metric_table(results), "spots": spot_table(results)}
    plain_tables |= _plotted(results)
    found = page.rendered_findings(results)
    with files.whole_folder(FOLDER) as folder:
        for name, picture in pictures.items():
            (folder / f"{name}.png").write_bytes(picture)
        for name, table in tables.items():
            files.write_table(folder / f"{name}.csv", table)
            files.write_json(folder / f"{name}.json", {name: page.records(table)})
        for name, table in plain_tables.items():
            files.write_table(folder / f"{name}.csv", table)
        scores = main_scores(results)
        files.write_json(folder / "scores.json", scores)
        files.write_json(folder / "summary.json", _summary(scores))
        files.write_json(folder / "findings.json", {"findings": found})
        files.write_json(folder / "trust.json", {"checks": page.records(pd.DataFrame(page.rendered_checks(results)))})
    files.write_text(PAGE, page.html(results, found, pictures))


def _plotted(results: Results) -> dict[str, pd.DataFrame]:
    """Return the tables that `dvc plots` draws: R of each city's kept objects, and the training curves."""
    kept = kept_ratios(results)
    kept["object"] = kept["object"].map(object_name) + " (" + kept["city"] + ")"
    columns = ["training_loss", "validation_loss", "training_accuracy", "validation_accuracy"]
    histories = pd.concat(results.histories, names=["network"]).reset_index("network")
    return {"kept_ratio": kept[["object", "ratio"]], "histories": histories[["network", "epoch", *columns]]}


def _summary(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the few numbers that `dvc metrics show` and `dvc exp show` compare; unknown numbers are left out."""
    right, means = scores["accuracy"].values(), scores["residual"]
    found = {"accuracy": sum(right) / len(right), "AR_architecture": means.get("architecture")}
    found |= {"AR_retrained": means.get("retrained"), "R_distance": scores["object_ratio_distance"].get("architecture")}
    found |= {name: scores["chance"].get(name) for name in ("kappa", "lift", "z")}
    return {name: value for name, value in found.items() if value is not None}


def logged() -> Logged:
    """Return the report's figures, tables and page, and some 20 main numbers of the study."""
    scores, segmentation = files.read_json(FOLDER / "scores.json"), files.read_json("reports/segment/scores.json")
    means, distances = scores["residual"], scores["object_ratio_distance"]
    metrics = {f"AR {kind}": means[kind] for kind in ("architecture", "retrained") if kind in means}
    if means.get("retrained") and "architecture" in means:
        metrics["AR ratio"] = means["architecture"] / means["retrained"]
    metrics |= {f"R distance {kind}": value for kind, value in distances.items()} | scores["chance"]
    metrics |= {f"accuracy {name}": value for name, value in scores["accuracy"].items()}
    metrics |= {f"explained share {city}": value for city, value in scores["explained_share"].items()}
    metrics |= {"accuracy largest city": scores["majority_accuracy"], "dead masks": sum(scores["dead"].values())}
    metrics |= {name: segmentation[name] for name in ("coverage", "pixel_accuracy", "mean_iou") if name in segmentation}
    return Logged(
        metrics=metrics,
        tables=tuple(sorted(FOLDER.glob("*.csv"))),
        figures=tuple(sorted(FOLDER.glob("*.png"))),
        files=(PAGE,),
        splits=("test",),
    )
