"""validate: checks a data set against its contract before whatever uses it.

Reads suites/SUITE.json and, of images: data/acquire; of splits: data/acquire/manifest.csv and data/prepare; of masks:
data/prepare/index.csv and data/explain; of segmentation: data/prepare/index.csv and data/segment. Writes
reports/validate/SUITE.json, unless something critical is not met, and always reports/data_docs/SUITE, HTML for people.
Alone: `citylens validate images`. Costs 7 s to start, and a decoding of each image.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from os import cpu_count
from pathlib import Path
from typing import Any

import pandas as pd

from citylens.adapters import contracts, files, inspection, progress
from citylens.adapters.tracker import Run
from citylens.science import facts, splits
from citylens.settings import InputError, Settings, key

ACQUIRED, PREPARED, EXPLAINED, SEGMENTED = (
    Path("data/acquire"),
    Path("data/prepare"),
    Path("data/explain"),
    Path("data/segment"),
)
REPORTS, DOCS = Path("reports/validate"), Path("reports/data_docs")
_MANIFEST = ["id", "city", "spot", "path", "width", "height", "codec", "sha256", "labels"]
_INDEX = ["id", "city", "label", "spot", "split"]


def run(settings: Settings, tracker: Run, suite: str) -> None:
    table, bounds = _SUITES[suite](settings)
    verdict = contracts.check(suite, table, bounds, DOCS / suite)
    for warning in verdict.complaints("warning"):
        print(f"citylens validate {suite}: warning: {warning}", file=sys.stderr)
    critical = verdict.complaints("critical")
    if critical:
        tracker.file(DOCS / suite, f"data_docs/{suite}")
        raise InputError("\n".join([*critical, f"Nothing was written; all of it is in {DOCS / suite / 'index.html'}"]))
    files.write_json(REPORTS / f"{suite}.json", verdict.as_json())


def track(settings: Settings, tracker: Run, suite: str) -> None:
    expectations = files.read_json(REPORTS / f"{suite}.json")["expectations"]
    failed = [expectation["severity"] for expectation in expectations if not expectation["success"]]
    tracker.params({f"validate.{suite}": asdict(getattr(settings.validate, suite))})
    tracker.metrics(
        {"expectations": len(expectations), "failed": failed.count("critical"), "warned": failed.count("warning")}
    )
    tracker.file(REPORTS / f"{suite}.json")
    if (DOCS / suite).exists():
        tracker.file(DOCS / suite, f"data_docs/{suite}")


def _images(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    manifest = files.read_table(ACQUIRED / "manifest.csv", _MANIFEST)
    named = settings.acquire.cities if settings.acquire.source != "render" else ()
    bounds = {**asdict(settings.validate.images), "cities": list(named) or _cities(manifest)}
    limit = settings.acquire.max_megapixels

    def look(path: object, labels: object) -> dict[str, Any]:
        found = inspection.inspect(ACQUIRED, path, labels, limit)
        advance(1)
        return found

    with ThreadPoolExecutor(cpu_count()) as pool, progress.bar("validate images", len(manifest)) as advance:
        measured = list(pool.map(look, manifest["path"], manifest["labels"]))
    columns = [*inspection.IMAGE, *inspection.LABELS]
    return facts.image_facts(manifest, pd.DataFrame(measured, columns=columns)), bounds


def _splits(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    index, manifest = (
        files.read_table(PREPARED / "index.csv", _INDEX),
        files.read_table(ACQUIRED / "manifest.csv", _MANIFEST),
    )
    pixels = files.open_array(PREPARED / "images.npy")
    by_spot = settings.prepare.split == "spot"
    shares = dict(zip(splits.SPLITS, settings.prepare.shares, strict=True))
    size = settings.prepare.size
    bounds = {
        "tolerance": settings.validate.splits.tolerance,
        "splits_a_spot": 1 if by_spot else 3,
        "pixels": [f"{size} x {size} x 3 uint8"],
    }
    return facts.split_facts(index, manifest, pixels, shares, by_spot=by_spot), bounds


def _masks(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    index = files.read_table(PREPARED / "index.csv", _INDEX)
    tables = []
    for run_key in (key(network, seed) for network in settings.study.networks for seed in settings.study.seeds):
        own = files.read_table(
            EXPLAINED / run_key / "index.csv", ["id", "city", "predicted", "explained", "probability", "dead"]
        )
        maps = files.open_array(EXPLAINED / run_key / "masks.npy")
        tables.append(facts.mask_facts(run_key, _test(index), own, maps, settings.prepare.size))
    return pd.concat(tables, ignore_index=True), {**asdict(settings.validate.masks), "cities": _cities(index)}


def _segmentation(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    test = _test(files.read_table(PREPARED / "index.csv", _INDEX))
    index = files.read_table(SEGMENTED / "index.csv", ["id", "city", "coverage"])
    names = files.read_table(SEGMENTED / "objects.csv", ["label", "name"])
    known = {int(label) for label in names["label"] if 1 <= label <= 150}
    labels = files.open_array(SEGMENTED / "labels.npy")
    bounds = {
        **asdict(settings.validate.segmentation),
        "pixels": [f"{settings.prepare.size} x {settings.prepare.size} uint8"],
    }
    return facts.segmentation_facts(test, index, labels, known), bounds


_SUITES = {"images": _images, "splits": _splits, "masks": _masks, "segmentation": _segmentation}


def _test(index: pd.DataFrame) -> pd.DataFrame:
    return index.loc[index["split"] == "test", ["id", "city"]]


def _cities(table: pd.DataFrame) -> list[str]:
    return sorted(table["city"].dropna().unique())
