"""report: the paper's figures and tables from the study's own results, and a page that holds them.

Reads what all stages before it wrote; of images and masks only the rows it shows. Writes reports/report (PNG, CSV, JSON) and
reports/index.html, which needs nothing beside it. Alone: `citylens report`. Costs some 10 s, however many images there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from citylens.adapters import files, pages
from citylens.adapters.tracker import Run
from citylens.science import charts, comparisons, masks, page, paper, plates
from citylens.science.findings import findings
from citylens.science.results import Results, accuracies, headline, wide_ratios
from citylens.settings import Settings, key

FOLDER, PAGE = Path("reports/report"), Path("reports/index.html")
PREPARED, EXPLAINED = Path("data/prepare"), Path("data/explain")
SECTIONS = ("study", "acquire", "prepare", "train", "explain", "segment", "measure", "embed", "report")
SUITES = ("images", "splits", "masks", "segmentation")
PALETTE = 256  # colours of the two figures that are full of photographs


def run(settings: Settings, tracker: Run) -> None:
    results = read_results(settings)
    pictures = dict(_pictures(results))
    tables = {"accuracies": accuracies(results), "table2": results.pairs, "object_ratio": wide_ratios(results)}
    with files.whole_folder(FOLDER) as folder:
        for name, data in pictures.items():
            (folder / f"{name}.png").write_bytes(data)
        for name, table in tables.items():
            files.write_table(folder / f"{name}.csv", table)
            files.write_json(folder / f"{name}.json", {name: _records(table)})
        files.write_json(folder / "scores.json", headline(results))
        files.write_json(folder / "findings.json", {"findings": [vars(finding) for finding in findings(results)]})
    files.write_text(PAGE, pages.html(page.page(results), pictures))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def read_results(settings: Settings) -> Results:
    keys = tuple(key(*trained) for trained in settings.study.trained)
    ratios = files.read_table(
        "reports/measure/object_ratio.csv", ["city", "network", "seed", "object", "ratio", "kept"]
    )
    index = files.read_table(PREPARED / "index.csv", ["city", "spot", "split"])
    test = index[index["split"] == "test"]
    plan = asdict(settings)

    def of_each(read: Callable[..., Any], pattern: str) -> dict[str, Any]:
        return {name: read(pattern.format(name)) for name in keys}

    return Results(
        settings={section: plan[section] for section in SECTIONS},
        cities=tuple(sorted(index["city"].unique())),
        keys=keys,
        splits=files.read_table("reports/prepare/splits.csv", ["split", "city", "images", "spots"]),
        validation={suite: files.read_json(f"reports/validate/{suite}.json") for suite in SUITES},
        segmentation=files.read_json("reports/segment/scores.json"),
        label_confusion=files.read_table("reports/segment/confusion.csv", ["actual", "predicted", "pixels"]),
        scores=of_each(files.read_json, "reports/train/{}/scores.json"),
        histories=of_each(files.read_table, "reports/train/{}/history.csv"),
        confusions=of_each(files.read_table, "reports/train/{}/confusion.csv"),
        explained=of_each(files.read_table, "data/explain/{}/index.csv"),
        spots=list(test["city"] + "/" + test["spot"].astype(str)),
        embeddings=of_each(files.read_table, "data/embed/{}/embedding.csv"),
        neighbours=of_each(files.read_json, "reports/embed/{}/scores.json"),
        ratios=ratios,
        pairs=files.read_table("reports/compare/residual.csv", ["pair", "kind", "residual", "paper"]),
        all_pairs=files.read_table("reports/compare/all_pairs.csv", ["first", "second", "kind", "residual"]),
    )


def _pictures(results: Results) -> Iterator[tuple[str, bytes]]:
    """Name and PNG of every figure."""
    cities, keys, threshold = results.cities, results.keys, results.settings["measure"]["threshold"]
    columns = [network for network in paper.MASK_COLUMNS if network in results.networks]
    network = results.settings["report"]["thumbnail_network"]
    drawn = _drawn(results)
    yield "fig2_pipeline", pages.png(plates.pipeline(_telling(results, drawn, network), network, threshold))
    shown = {name: results.embeddings[name] for name in results.first_keys}
    yield "fig3_scatter", pages.png(charts.scatter(shown, cities))
    yield "fig4_explanations", pages.png(_explanations(results, network, threshold), colours=PALETTE)
    yield "fig5_object_ratio", pages.png(charts.object_ratio(results.ratios, cities, keys))
    count = results.settings["report"]["examples"]
    examples = [_example(results, row) for city in cities for row in drawn[city][:count]]
    yield "fig6_masks", pages.png(plates.masks(examples, columns, threshold), colours=PALETTE)
    yield "table2", pages.png(comparisons.table2(results.pairs))
    yield "all_pairs", pages.png(comparisons.all_pairs(results.all_pairs, keys))
    yield "training", pages.png(comparisons.curves(results.histories))
    yield "confusion", pages.png(comparisons.confusion(results.confusions, cities))


def _drawn(results: Results) -> dict[str, list[int]]:
    """Each city's test rows in a random order, those of spots not seen yet first."""
    index = files.read_table(PREPARED / "index.csv", ["id", "city", "spot", "split"])
    test = index[index["split"] == "test"].reset_index(drop=True)
    order = test.iloc[np.random.default_rng(results.settings["report"]["seed"]).permutation(len(test))]
    again = order.duplicated(["city", "spot"])
    order = pd.concat([order[~again], order[again]])
    return {city: order.index[order["city"] == city].tolist() for city in results.cities}


def _telling(results: Results, drawn: Mapping[str, Sequence[int]], network: str) -> plates.Example:
    """The first image drawn that the network names right and whose mask is alive; without one, the first."""
    table = results.explained[_first_key(results, network)]
    good = (table["dead"] == 0) & (table["predicted"] == table["city"])
    rows = [row for city in results.cities for row in drawn[city]]
    return _example(results, next((row for row in rows if good[row]), rows[0]), [network])


def _example(results: Results, row: int, networks: Sequence[str] | None = None) -> plates.Example:
    image = _images(results, [row])[0]
    looks = {network: _look(results, network, row) for network in networks or results.networks}
    return plates.Example(image, str(next(iter(results.explained.values()))["city"][row]), looks)


def _look(results: Results, network: str, row: int) -> plates.Look:
    name = _first_key(results, network)
    found, maps = (
        results.explained[name].loc[row],
        np.array(files.open_array(EXPLAINED / name / "masks.npy")[row : row + 1]),
    )
    mask = masks.normalise(maps, results.settings["prepare"]["size"])[0]
    return plates.Look(
        network, maps[0], mask, str(found["predicted"]), float(found["probability"]), bool(found["dead"])
    )


def _first_key(results: Results, network: str) -> str:
    return key(network, results.settings["study"]["seeds"][0])


def _images(results: Results, rows: Sequence[int]) -> np.ndarray:
    """Images of some test rows, counted as in data/explain."""
    index = files.read_table(PREPARED / "index.csv", ["split"])
    test = np.flatnonzero(index["split"] == "test")
    return np.array(files.open_array(PREPARED / "images.npy")[test[list(rows)]])


def _explanations(results: Results, network: str, threshold: float) -> Any:
    plan, name = results.settings["report"], _first_key(results, network)
    table = results.embeddings[name]
    alive = np.flatnonzero((table["dead"] == 0) & table["x"].notna())
    rows = np.sort(np.random.default_rng(plan["seed"]).permutation(alive)[: plan["thumbnails"]])
    size = results.settings["prepare"]["size"]
    weighted = masks.normalise(np.array(files.open_array(EXPLAINED / name / "masks.npy")[rows]), size)
    places, labels = table.loc[rows, ["x", "y"]].to_numpy(), table.loc[rows, "city"].tolist()
    return plates.explanations(_images(results, rows.tolist()), weighted, places, labels, results.cities, threshold)


def track(settings: Settings, tracker: Run) -> None:
    tracker.metrics(files.read_json(FOLDER / "scores.json"))
    for path in sorted(FOLDER.glob("*.csv")):
        tracker.table(path)
    for path in sorted(FOLDER.glob("*.png")):
        tracker.figure(path)
    tracker.file(PAGE)
