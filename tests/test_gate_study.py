"""The gate on a study in which networks do learn: red on planted regressions, green on a rerun with other seeds."""

from __future__ import annotations

import json

import pytest
from clones import Clone

pytestmark = pytest.mark.integration

WORLD = """
cities: [alder, birch]
objects:
  building:    {alder: 0.1, birch: 0.1}
  earth:       {alder: 0.9, birch: 0}
  fence:       {alder: 0,   birch: 0.9}
  sidewalk:    {alder: 1,   birch: 1}
  skyscraper:  {alder: 20,  birch: 0}
  tree:        {alder: 2,   birch: 2}
  car:         {alder: 5,   birch: 5}
  person:      {alder: 5,   birch: 5}
  streetlight: {alder: 1,   birch: 1}
  signboard:   {alder: 0,   birch: 40}
  pole:        {alder: 0,   birch: 4}
"""
STUDY = (
    "acquire.path=worlds/clear.yaml",
    "acquire.render.spots=20",
    "acquire.render.headings=4",
    "train.epochs=5",
    "train.batch_size=8",
    "train.learning_rate=0.0003",
)
IDENTITY = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The study, run and committed."""
    clone = Clone(tmp_path_factory.mktemp("gate"), "smoke")
    (clone.folder / "worlds/clear.yaml").write_text(WORLD)
    clone.run("citylens", "use", "smoke", *STUDY)
    clone.reproduce()
    clone.run("git", "add", "-A")
    clone.run(*IDENTITY, "commit", "-qm", "base")
    return clone


@pytest.fixture
def study(base: Clone) -> Clone:
    """The study as it was committed, results and all."""
    base.run("git", "checkout", "--quiet", ".")
    base.run("git", "clean", "--quiet", "--force", "-d", "reports")
    base.run("dvc", "checkout", "--force", "--quiet")
    return base


def edit(clone: Clone, path: str, old: str, new: str) -> None:
    file = clone.folder / path
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def gate(clone: Clone, status: int) -> dict[str, str]:
    """Verdict by metric and row."""
    printed = clone.run(
        "citylens", "gate", "--base", "HEAD", "--output", "gate.json", "--format", "json", status=status
    )
    print(printed)
    said = json.loads((clone.folder / "gate.json").read_text())
    assert said["doubts"] == [] and said["status"] == status
    return {f"{row['metric']} {row['row']}".strip(): row["verdict"] for row in said["rows"]}


def test_nothing_changed(study: Clone) -> None:
    assert set(gate(study, 0).values()) == {"ok"}


def test_a_wrong_denominator_of_r_is_red(study: Clone) -> None:
    edit(study, "src/citylens/measure/object_ratio.py", "total.sum(axis=0)\n", "np.full(total.shape[1], total.sum())\n")
    study.reproduce()
    verdicts = gate(study, 1)
    moved = {name for name, verdict in verdicts.items() if verdict != "ok"}
    assert len(moved) > 5 and all(
        name.removeprefix("mean ").startswith("R ") and verdicts[name] == "changed" for name in moved
    )


def test_code_that_has_not_run_yet_is_not_passed(study: Clone) -> None:
    edit(study, "src/citylens/measure/object_ratio.py", "total.sum(axis=0)\n", "np.full(total.shape[1], total.sum())\n")
    printed = study.run("citylens", "gate", "--base", "HEAD", status=2)
    assert "STALE: measure ran with another src/citylens/measure;" in printed


def test_training_on_shuffled_labels_is_red(study: Clone) -> None:
    edit(
        study,
        "src/citylens/train/stage.py",
        'training.Images(pixels, labels, rows["training"], rows["validation"])',
        'training.Images(pixels, np.random.default_rng(0).permutation(labels), rows["training"], rows["validation"])',
    )
    study.reproduce()
    assert gate(study, 1)["accuracy"] == "regression"


def test_other_seeds_are_green(study: Clone) -> None:
    study.run("citylens", "use", "smoke", *STUDY, "study.seeds=[2, 3]")
    study.run("citylens", "tidy")
    study.reproduce()
    verdicts = gate(study, 0)
    assert verdicts["accuracy"] in ("ok", "better")
