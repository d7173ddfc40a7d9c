"""The whole study on the smoke profile, in clones of their own: everything a user of `make repro` relies on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from clones import Clone

from citylens.io import md5s


@pytest.fixture(scope="module")
def study(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has run the study, with its runs."""
    return finished.copy(tmp_path_factory.mktemp("study") / "study", without=())


def test_every_stage_left_its_outputs(study: Clone) -> None:
    stages = yaml.safe_load((study.folder / "dvc.yaml").read_text())["stages"]
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text())["stages"]
    assert {name.split("@")[0] for name in lock} == set(stages)
    assert all((study.folder / path).exists() for path in study.outputs())
    page = (study.folder / "reports/index.html").read_text()
    assert "<img" in page and 'src="http' not in page
    shown = study.run("dvc", "metrics", "show").splitlines()
    # With one test spot per city there is no swap of masks, so kappa and z are not known.
    assert {*shown[0].split()[1:]} == {"accuracy", "AR_architecture", "AR_retrained", "R_distance", "lift"}
    assert len(shown) == 2
    # The picture of `dvc dag` has another width each time.
    for command in ("metrics show", "dag --collapse-foreach-matrix --mermaid"):
        assert max(map(len, study.run("dvc", *command.split()).splitlines())) < 120, command
    plots = json.loads(study.run("dvc", "plots", "show", "--json"))
    drawn = {path.rpartition("::")[2]: shown[0]["type"] for path, shown in plots["data"].items()}
    assert drawn.pop("reports/report/fig5_object_ratio.png") == "image" and "errors" not in plots
    assert {path for path, kind in drawn.items() if kind == "vega"} == {
        "reports/report/histories.csv",
        "reports/report/kept_ratio.csv",
        *(path for path in study.outputs() if path.endswith("confusion.csv") and path.startswith("reports/train/")),
    }
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


def test_in_a_fresh_clone_the_data_are_checked_and_the_study_is_logged(study: Clone, tmp_path: Path) -> None:
    """Git has the verdicts and the small results; DVC's cache has the rest, Data Docs included."""
    clone = study.copy(tmp_path / "copy")
    shutil.rmtree(clone.folder / ".dvc/cache/runs")
    for path in ("reports/data_docs/masks", "reports/register"):
        shutil.rmtree(clone.folder / path)
        md5 = clone.outputs()[path]
        (clone.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()
    assert set(clone.ran(clone.reproduce())) == {"validate_results", "register"}
    assert clone.outputs() == study.outputs()
    assert (clone.folder / "reports/data_docs/masks/index.html").is_file()
    assert "sync: 0 run(s) made" in clone.run("citylens", "sync")


def test_networks_that_params_no_longer_name_are_ignored(study: Clone, tmp_path: Path) -> None:
    clone = study.copy(tmp_path / "copy")
    clone.run("citylens", "use", "smoke", "study.seeds=[0]")
    ran = {stage.split("@")[0] for stage in clone.ran(clone.reproduce())}
    assert ran == {"validate_results", "measure", "compare", "embed", "report", "register"}
    page = (clone.folder / "reports/index.html").read_text()
    assert "seed 1" not in page and (clone.folder / "data/explain/resnet18-1").is_dir()


def test_every_run_is_tracked_and_sync_adds_none(study: Clone) -> None:
    assert "sync: 0 run(s) made" in study.run("citylens", "sync")


def test_a_changed_threshold_trains_nothing_and_changed_back_costs_only_the_report(study: Clone) -> None:
    """DVC's run cache has the earlier bytes, and MLflow the earlier runs."""
    before = study.outputs()
    study.run("citylens", "use", "smoke", "measure.threshold=0.6")
    assert set(study.ran(study.run("dvc", "repro"))) == {"measure", "compare", "report", "register"}
    study.run("citylens", "use", "smoke")
    assert study.ran(study.run("dvc", "repro")) == ["report"]  # its inputs changed, and it has no run cache
    assert study.outputs() == before
    assert "sync: 0 run(s) made" in study.run("citylens", "sync")


def test_a_setting_that_was_in_use_before_trains_nothing_again(study: Clone) -> None:
    before = study.outputs()
    one = ("study.networks=[simpler]", "report.thumbnail_network=simpler")
    study.run("citylens", "use", "smoke", "train.learning_rate=0.001", "prepare.size=96", *one)
    assert "train@simpler-0" in study.ran(study.run("dvc", "repro", "train@simpler-0"))
    study.run("citylens", "use", "smoke")
    again = {stage.split("_")[0] for stage in study.ran(study.run("dvc", "repro"))}
    assert again <= {"validate", "report"} and study.outputs() == before


def test_a_failing_validation_stops_and_what_was_there_stays(study: Clone) -> None:
    before = {path: md5s.of(study.folder / path) for path in study.outputs()}
    study.run("citylens", "use", "smoke", "validate.images.min_side=500")
    printed = study.run("dvc", "repro", status=255)
    assert "of 20 rows; first:" in printed
    assert study.ran(printed) == ["validate_images"]
    assert {path: md5s.of(study.folder / path) for path in before} == before
    study.run("citylens", "use", "smoke")
    assert study.ran(study.run("dvc", "repro")) == []


def test_check_says_that_a_lock_is_cut_or_has_marks_of_a_conflict(study: Clone, tmp_path: Path) -> None:
    clone = study.copy(tmp_path / "cut")
    lock = clone.folder / "dvc.lock"
    whole = lock.read_text()
    clone.run("git", "add", "-f", "dvc.lock")
    clone.run("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-qm", "results")
    lock.write_text(whole[: whole.index("  segment:")])
    said = clone.run("citylens", "check")
    assert "check: dvc.lock lacks " in said and "segment" in said and "git checkout" in said
    lock.write_text(f"<<<<<<< HEAD\n{whole}=======\n{whole}>>>>>>> other\n")
    said = clone.run("citylens", "check", status=1)
    assert "dvc.lock" in said and "line 1" in said and "conflict" in said
