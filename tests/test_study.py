"""The whole study on the smoke profile, in clones of their own: everything a user of `make repro` relies on."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import yaml
from clones import Clone


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Clone]:
    """Two clones, side by side, each of which has run the study; in the first, stages were forks."""
    clones = [Clone(tmp_path_factory.mktemp("study")) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda clone, how: clone.run(*how, "dvc", "repro"), clones, [("citylens", "preload"), ()]))
    return clones


@pytest.fixture(scope="module")
def study(studies: list[Clone]) -> Clone:
    return studies[0]


def test_every_stage_left_its_outputs(study: Clone) -> None:
    stages = yaml.safe_load((study.folder / "dvc.yaml").read_text())["stages"]
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text())["stages"]
    assert {name.split("@")[0] for name in lock} == set(stages)
    assert all((study.folder / path).exists() for path in study.outputs())
    page = (study.folder / "reports/index.html").read_text()
    assert "<img" in page and 'src="http' not in page
    assert "accuracy" in study.run("dvc", "metrics", "show", "--json")
    study.run("dvc", "plots", "show", "--json")
    assert study.run("dvc", "status").strip().endswith("up to date.")


def test_the_numbers_hang_together(study: Clone) -> None:
    """R and AR follow from the per-image tables, and every table speaks of the same test images in the same order."""
    pixels = pd.read_parquet(study.folder / "data/measure/pixels.parquet")
    sums = pixels.groupby(["city", "network", "seed", "label"])[["inside", "total"]].sum()
    ratios = pd.read_csv(
        study.folder / "reports/measure/object_ratio.csv", index_col=["city", "network", "seed", "label"]
    )
    expected = (sums["inside"] / sums["total"]).reindex(ratios.index)
    np.testing.assert_allclose(ratios["ratio"], expected)
    residuals = pd.read_parquet(study.folder / "data/compare/residuals.parquet")
    pairs = pd.read_csv(study.folder / "reports/compare/all_pairs.csv", index_col=["first", "second"])
    means = residuals.groupby(["first", "second"])["residual"].mean()
    np.testing.assert_allclose(pairs["residual"], means.reindex(pairs.index))
    index = pd.read_csv(study.folder / "data/prepare/index.csv")
    test = index.loc[index["split"] == "test", "id"].tolist()
    for table in [study.folder / "data/segment/index.csv", *study.folder.glob("data/explain/*/index.csv")]:
        assert pd.read_csv(table)["id"].tolist() == test


def test_a_second_run_does_nothing(study: Clone) -> None:
    before = study.outputs()
    assert study.ran(study.run("dvc", "repro")) == []
    assert study.outputs() == before


def test_without_data_docs_the_data_are_checked_once_more(study: Clone) -> None:
    """As in a fresh clone, where git has the verdicts and nobody has the pages."""
    before = study.outputs()
    shutil.rmtree(study.folder / "reports/data_docs")
    assert study.run("citylens", "tidy").count("its Data Docs are not here") == 4
    assert {stage.split("_")[0] for stage in study.ran(study.reproduce())} == {"validate"}
    assert study.outputs() == before and (study.folder / "reports/data_docs/masks/index.html").is_file()
    assert study.run("citylens", "tidy") == ""


def test_every_run_is_tracked_and_sync_adds_none(study: Clone) -> None:
    assert "sync: 0 run(s) made" in study.run("citylens", "sync")


def test_two_runs_give_the_same_bytes(studies: list[Clone]) -> None:
    first, second = (clone.outputs() for clone in studies)
    assert first == second


def test_a_changed_threshold_trains_nothing(study: Clone) -> None:
    study.run("citylens", "use", "smoke", "measure.threshold=0.6")
    assert set(study.ran(study.run("dvc", "repro"))) == {"measure", "report"}
    study.run("citylens", "use", "smoke")
    printed = study.run("dvc", "repro")
    assert "train" not in " ".join(study.ran(printed))


def test_a_failing_validation_stops_and_what_was_there_stays(study: Clone) -> None:
    before = {path: (study.folder / path).stat().st_mtime_ns for path in study.outputs()}
    study.run("citylens", "use", "smoke", "validate.images.min_side=500")
    printed = study.run("dvc", "repro", status=255)
    assert "of 20 rows; first:" in printed
    assert study.ran(printed) == ["validate_images"]
    assert {path: (study.folder / path).stat().st_mtime_ns for path in before} == before
    study.run("citylens", "use", "smoke")
    assert study.ran(study.run("dvc", "repro")) == []
