"""validate: check data sets against their contracts before other stages use them.

Reads suites/SUITE.json and, for `images`: data/acquire; for `splits`: data/acquire and data/prepare; for `results` (suites masks and
segmentation): data/prepare/index.csv, data/explain and data/segment. If all critical expectations are met, it writes
reports/validate/SUITE.json and reports/data_docs/SUITE, HTML pages, and for `splits` also reports/validate/probes.json, the probes for
shortcuts; if not, only the pages, to .citylens/data_docs. Alone: `citylens validate images`. Costs 4 s to start, the decoding of each
image, and for `splits` a second per 1,000 images.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import Any

import pandas as pd

from citylens.errors import InputError
from citylens.io import files, progress
from citylens.io.logged import Logged
from citylens.nets import near_copies
from citylens.nets.names import key
from citylens.settings.schema import LEFT_OUT, SPLITS, Settings
from citylens.validate import contracts, facts, inspection

ACQUIRED, PREPARED = Path("data/acquire"), Path("data/prepare")
EXPLAINED, SEGMENTED = Path("data/explain"), Path("data/segment")
REPORTS, DOCS = Path("reports/validate"), Path("reports/data_docs")
PROBES = REPORTS / "probes.json"
UNMET = Path(".citylens/data_docs")
"""Pages of suites that are not met; DVC's outputs stay as they were."""
DATA = {"images": ("images",), "splits": ("splits",), "results": ("masks", "segmentation")}
"""The suites that are checked together, by what the command names."""


def run(settings: Settings, data: str) -> None:
    """Check the suites of one kind of data; write verdicts and pages only if all critical expectations are met."""
    verdicts, faults = [], []
    for suite in DATA[data]:
        try:
            table, bounds = _FACTS[suite](settings)
            bounds |= asdict(getattr(settings.validate, suite))
            verdict = contracts.check(suite, table, bounds)
        except InputError as error:  # The other suites of the same data are checked all the same.
            faults.append(str(error))
            continue
        verdicts.append(verdict)
        for warning in verdict.complaints("warning"):
            print(f"citylens validate {data}: warning: {warning}", file=sys.stderr)
        if critical := verdict.complaints("critical"):
            _write_pages(UNMET, verdict)
            faults += [*critical, f"Nothing was written; all of it is in {UNMET / suite / 'index.html'}"]
    if faults:
        raise InputError("\n".join(faults))
    if data == "splits":
        files.write_json(PROBES, _probed(settings))
    for verdict in verdicts:
        _write_pages(DOCS, verdict)
        files.write_json(REPORTS / f"{verdict.suite}.json", verdict.as_json())


def _write_pages(docs: Path, verdict: contracts.Verdict) -> None:
    with files.whole_folder(docs / verdict.suite) as folder:
        for name, html in verdict.pages.items():
            (folder / name).write_text(html, encoding="utf-8")


def logged(data: str) -> Logged:
    """Return how many expectations there are and how many are not met, the verdicts and the Data Docs, and the probes' accuracies."""
    metrics: dict[str, float] = {}
    for suite in DATA[data]:
        expectations = files.read_json(REPORTS / f"{suite}.json")["expectations"]
        warnings = sum(not found["success"] and found["severity"] == "warning" for found in expectations)
        metrics |= {f"{suite}_expectations": len(expectations), f"{suite}_warnings": warnings}
    written = [REPORTS / f"{suite}.json" for suite in DATA[data]]
    if data == "splits":
        written.append(PROBES)
        probes = files.read_json(PROBES)["probes"]
        metrics |= {f"probe_{name}": numbers["accuracy"] for name, numbers in probes.items()}
    return Logged(metrics=metrics, files=(*written, *(DOCS / suite for suite in DATA[data])))


def _images(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    manifest = _manifest()
    named = settings.acquire.cities if settings.acquire.source != "render" else ()
    look, measured = partial(inspection.inspect, ACQUIRED, settings.acquire.max_megapixels), []
    with ThreadPoolExecutor(cpu_count()) as pool, progress.bar("validate images", len(manifest)) as advance:
        for found in pool.map(look, manifest["path"], manifest["labels"]):
            measured.append(found)
            advance(1)
    table = pd.DataFrame(measured, columns=[*inspection.IMAGE, *inspection.LABELS])
    return facts.image_facts(manifest, table, settings.acquire.labels_orientation), {
        "cities": list(named) or _cities(manifest)
    }


def _splits(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    pixels = files.open_array(PREPARED / "images.npy")
    shares = dict(zip(SPLITS, settings.prepare.shares, strict=True))
    size, by_spot = settings.prepare.size, settings.prepare.split != "random"
    table = facts.split_facts(_index(), _manifest(), pixels, shares, by_spot=by_spot)
    copies = near_copies.hashed(table, pixels)
    near, elsewhere = (near_copies.described(*copies, place).reindex(table.index) for place in ("used_split", "city"))
    table["near_copy_city"] = elsewhere
    none = pd.Series(None, index=table.index, dtype=object)
    # A random split is known to have views of one place in two splits.
    table["near_copy"], table["near_copy_random"] = (none, near) if settings.prepare.split == "random" else (near, none)
    known = [*SPLITS, *(f"{LEFT_OUT}{name}" for name in SPLITS[:2])] if settings.prepare.split == "block" else SPLITS
    return table, {
        "splits_a_spot": 1 if by_spot else len(SPLITS),
        "splits": list(known),
        "pixels": [f"{size} x {size} x 3 uint8"],
    }


def _probed(settings: Settings) -> dict[str, Any]:
    """Return the probes of splits that meet their contract."""
    from citylens.validate import probes  # Its libraries take a second to import, which the other suites save.

    index, pixels = _index(), files.open_array(PREPARED / "images.npy")
    index = index[index["split"].isin(("training", "test"))]
    sizes = _manifest().set_index("id").loc[index["id"]]
    sizes["bytes"] = [_bytes(ACQUIRED / path) for path in sizes["path"]]
    traits = {"file": probes.file_traits(sizes)} | probes.pixel_traits(pixels[row] for row in index.index)
    traits |= {f"column {name}": probes.column_traits(sizes[name]) for name in settings.acquire.traits}
    return probes.probed(index, traits)


def _bytes(path: Path) -> int:
    with files.reading(path, "cannot be read"):
        return path.stat().st_size


def _masks(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    index, columns, tables = _index(), ["id", "city", "predicted", "explained", "probability", "dead"], []
    for name in (key(network, seed) for network, seed in settings.study.trained):
        own = files.read_table(EXPLAINED / name / "index.csv", columns)
        maps = files.open_array(EXPLAINED / name / "masks.npy")
        tables.append(facts.mask_facts(name, _test(index), own, maps, settings.prepare.size))
    return pd.concat(tables, ignore_index=True), {"cities": _cities(index)}


def _segmentation(settings: Settings) -> tuple[pd.DataFrame, dict[str, Any]]:
    index = files.read_table(SEGMENTED / "index.csv", ["id", "city", "coverage"])
    names = files.read_table(SEGMENTED / "objects.csv", ["label", "name"])
    known = {int(label) for label in names["label"] if 1 <= label <= 150}
    labels = files.open_array(SEGMENTED / "labels.npy")
    size = settings.prepare.size
    return facts.segmentation_facts(_test(_index()), index, labels, known), {"pixels": [f"{size} x {size} uint8"]}


_FACTS = {"images": _images, "splits": _splits, "masks": _masks, "segmentation": _segmentation}
"""Functions that read the table of facts and the bounds that do not stand in the settings of the contract."""


def _manifest() -> pd.DataFrame:
    columns = ["id", "city", "spot", "path", "width", "height", "codec", "sha256", "labels"]
    return files.read_table(ACQUIRED / "manifest.csv", columns)


def _index() -> pd.DataFrame:
    return files.read_table(PREPARED / "index.csv", ["id", "city", "label", "spot", "split"])


def _test(index: pd.DataFrame) -> pd.DataFrame:
    return index.loc[index["split"] == "test", ["id", "city"]]


def _cities(table: pd.DataFrame) -> list[str]:
    return sorted(table["city"].dropna().unique())
