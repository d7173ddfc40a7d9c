"""Reads the files of all earlier stages that the report needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from citylens.io import files
from citylens.nets import masks
from citylens.nets.names import key
from citylens.report.results import Results
from citylens.settings.schema import Settings

PREPARED, EXPLAINED = Path("data/prepare"), Path("data/explain")
CONTRACTS = ("images", "splits", "masks", "segmentation")
RATIOS = ["city", "network", "seed", "object", "ratio", "kept", "chance", "lift", "z", "q"]


def read_results(settings: Settings) -> Results:
    """Return the results of all earlier stages.

    Raises:
        InputError: a file is missing or damaged, or a table lacks a column.
    """
    keys = [key(*trained) for trained in settings.study.trained]
    index = files.read_table(PREPARED / "index.csv", ["id", "city", "spot", "split"])

    def of_each(read: Callable[[str], Any], path: str) -> dict[str, Any]:
        return {name: read(path.format(name)) for name in keys}

    return Results(
        settings=settings,
        cities=tuple(sorted(index["city"].unique())),
        test=index.assign(row=range(len(index)))[index["split"] == "test"].reset_index(drop=True),
        splits=files.read_table("reports/prepare/splits.csv", ["split", "city", "images", "spots"]),
        validation={name: files.read_json(f"reports/validate/{name}.json") for name in CONTRACTS},
        segmentation=files.read_json("reports/segment/scores.json"),
        label_confusion=files.read_table("reports/segment/confusion.csv", ["actual", "predicted", "pixels"]),
        scores=of_each(files.read_json, "reports/train/{}/scores.json"),
        histories=of_each(files.read_table, "reports/train/{}/history.csv"),
        confusions=of_each(files.read_table, "reports/train/{}/confusion.csv"),
        explained=of_each(files.read_table, "data/explain/{}/index.csv"),
        embeddings=of_each(files.read_table, "data/embed/{}/embedding.csv"),
        neighbours=files.read_json("reports/embed/scores.json"),
        ratios=files.read_table("reports/measure/object_ratio.csv", RATIOS),
        explained_area=files.read_json("reports/measure/scores.json")["explained_area"],
        references=files.read_table("reports/measure/reference.csv", ["city", "network", "seed", "edges", "centre"]),
        pairs=files.read_table("reports/compare/residual.csv", ["pair", "kind", "residual", "kappa", "paper"]),
        all_pairs=files.read_table("reports/compare/all_pairs.csv", ["first", "second", "kind", "residual", "kappa"]),
        tests=files.read_json("reports/compare/tests.json"),
        map_sides=of_each(lambda path: files.open_array(path).shape[1], "data/explain/{}/masks.npy"),
        mask_checks=of_each(files.read_json, "reports/explain/{}/checks.json"),
        probes=files.read_json("reports/validate/probes.json"),
        purity=files.read_table("reports/embed/purity.csv", ["network", "of", "purity", "chance", "p"]),
    )


def read_images(results: Results, rows: Sequence[int]) -> NDArray[np.uint8]:
    """Return (N, S, S, 3) uint8 RGB, the test images in some rows of `results.test`."""
    return np.array(files.open_array(PREPARED / "images.npy")[results.test["row"].to_numpy()[list(rows)]])


def read_maps(results: Results, key: str, rows: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, h, w) Grad-CAM maps of a trained network and (N, S, S) weighted masks, for some rows of `results.test`."""
    maps = np.array(files.open_array(EXPLAINED / key / "masks.npy")[list(rows)])
    return maps, masks.normalise(maps, results.settings.prepare.size, results.settings.explain.normalise)
