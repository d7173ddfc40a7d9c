"""The gate: verdicts on tables counted by hand, exit statuses, and what it makes of a git history."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from citylens import cli, gating, settings
from citylens.adapters import md5s
from citylens.science import gate
from citylens.settings import InputError

ROOT = Path(__file__).parents[1]
T4, T4_HALF = 2.1318, 2.7764  # Student's quantiles with 4 degrees of freedom, 0.95 and 0.975, from printed tables


def side(values: dict[str, list[float]], weights: str = "", metric: str = "m", row: str = "") -> pd.DataFrame:
    """A line a value, by unit; weights are named after the unit and the place where a prefix for them is given."""
    lines = [
        (metric, row, "", unit, f"seed {place}", value, f"{weights}{unit}{place}" if weights else "")
        for unit, some in values.items()
        for place, value in enumerate(some)
    ]
    return pd.DataFrame(lines, columns=gate.COLUMNS)


def rule(direction: str = "higher", tolerance: float = 0.01, noise: bool = True, metric: str = "m") -> gate.Rule:
    return gate.Rule(metric, direction, tolerance, noise)


def judged(base: pd.DataFrame, now: pd.DataFrame, *rules: gate.Rule) -> dict:
    (line,) = gate.compare(base, now, rules or [rule()], 0.05).to_dict("records")
    return line


@pytest.mark.parametrize(
    ("direction", "now", "verdict"),
    [
        ("higher", 0.50, "ok"),
        ("higher", 0.48, "ok"),
        ("higher", 0.479, "regression"),
        ("higher", 0.521, "better"),
        ("lower", 0.521, "regression"),
        ("lower", 0.479, "better"),
        ("same", 0.52, "ok"),
        ("same", 0.521, "changed"),
        ("same", 0.479, "changed"),
    ],
)
def test_verdicts_of_a_single_number(direction: str, now: float, verdict: str) -> None:
    line = judged(side({"": [0.5]}), side({"": [now]}), rule(direction, 0.02, noise=False))
    assert line["verdict"] == verdict
    assert line["allowed"] == 0.02


BASE = {"a": [0.8, 0.9], "b": [0.7, 0.8]}  # every spread is 0.005, pooled over two networks and two sides 4 * 0.005 / 4


@pytest.mark.parametrize(
    ("drop", "direction", "quantile", "verdict"),
    [
        (0.11, "higher", T4, "ok"),
        (0.12, "higher", T4, "regression"),
        (-0.12, "higher", T4, "better"),
        (0.12, "same", T4_HALF, "ok"),
        (0.15, "same", T4_HALF, "changed"),
    ],
)
def test_what_the_seeds_do_by_themselves_is_allowed(drop: float, direction: str, quantile: float, verdict: str) -> None:
    now = {unit: [value - drop for value in some] for unit, some in BASE.items()}
    line = judged(side(BASE), side(now), rule(direction))
    error = math.sqrt(0.005 * (1 / 2 + 1 / 2) / 2)  # two networks, two seeds a side
    assert line["allowed"] == pytest.approx(0.01 + quantile * error, abs=1e-4)
    assert line["change"] == pytest.approx(-drop)
    assert line["verdict"] == verdict


def test_networks_that_were_not_trained_anew_have_no_noise() -> None:
    now = {unit: [value - 0.02 for value in some] for unit, some in BASE.items()}
    line = judged(side(BASE, "w"), side(now, "w"))
    assert (line["allowed"], line["verdict"]) == (0.01, "regression")
    assert judged(side(BASE, "w"), side(now, "v"))["verdict"] == "ok"


def test_a_third_seed_beside_two_that_stayed() -> None:
    """Of the mean of two and the mean of three with the two in common, the change varies by 1/2 + 1/3 - 2 * 2 / 6 = 1/6."""
    line = judged(side({"a": [0.5, 0.7]}, "w"), side({"a": [0.5, 0.7, 0.9]}, "w"))
    spread = 0.08 / 2  # of the three, each once
    assert line["allowed"] == pytest.approx(0.01 + 2.91999 * math.sqrt(spread / 6), abs=1e-4)  # t(0.95, 2)


def test_chance_is_shared_by_metrics_and_rows() -> None:
    """Of 0.05, each of two metrics has half, and each of a metric's two rows half of that."""
    parts = [side(BASE, metric="m", row="x"), side(BASE, metric="m", row="y"), side(BASE, metric="n")]
    both = pd.concat(parts)
    table = gate.compare(both, both, [rule(), rule(metric="n")], 0.05).set_index(["metric", "row"])
    error = math.sqrt(0.005 / 2)
    assert table.loc[("n", ""), "allowed"] == pytest.approx(0.01 + T4_HALF * error, abs=1e-4)
    assert table.loc[("m", "x"), "allowed"] == pytest.approx(0.01 + 2.7515 * error, abs=1e-3)  # t(0.9875, 8)


def test_other_seeds_alone_turn_few_gates_red() -> None:
    """With 2 networks, 2 seeds and 3 metrics of 4 rows, noise alone gives a red row in at most some 5 % of comparisons."""
    generator = np.random.default_rng(0)

    cells = [(metric, row, row, unit, run) for metric in "mno" for row in "wxyz" for unit in "ab" for run in "01"]

    def drawn() -> pd.DataFrame:
        values = generator.normal(0, 1, len(cells))
        return pd.DataFrame(
            [(*cell, value, "") for cell, value in zip(cells, values, strict=True)], columns=gate.COLUMNS
        )

    rules = [rule("higher", 0, metric="m"), rule("same", 0, metric="n"), rule("lower", 0, metric="o")]
    red = [gate.status(gate.compare(drawn(), drawn(), rules, 0.05)) for _ in range(100)]
    assert sum(red) <= 10  # more than 10 of 100 have a chance of 1 %, were it 5 % each


def test_pairs_that_share_a_network_count_as_half_as_many_networks() -> None:
    pairs = gate.independent_pairs(["a", "b", "c", "d"], [0, 1])
    assert pairs[:2] == [(("a", 0), ("b", 0)), (("a", 1), ("b", 1))]
    assert pairs[-1] == (("d", 0), ("d", 1))
    assert len(pairs) == 6 * 2 + 4
    units = {f"{one}{gate.JOINT}{other}": [0.3, 0.4] for one, other in ("ab", "ac", "ad", "bc", "bd", "cd")}
    line = judged(side(units), side(units))
    # the spread of each is 0.005; 12 degrees of freedom shrink to 4, six pairs to two
    assert line["allowed"] == pytest.approx(0.01 + T4 * math.sqrt(0.005 / 2), abs=1e-4)


def test_missing_and_new_are_said() -> None:
    base = pd.concat([side({"a": [0.8], "b": [0.7]}, row="x"), side({"a": [0.8]}, row="gone")])
    now = pd.concat([side({"a": [0.8], "c": [0.1]}, row="x"), side({"a": [0.8]}, row="come")])
    table = gate.compare(base, now, [rule(), rule(metric="nowhere")], 0.05).set_index(["metric", "row"])
    assert table["verdict"].tolist() == ["missing", "missing", "new", "missing"]
    assert table["note"].tolist() == ["not there now: b", "not there now: a", "", "in neither"]
    assert gate.status(table) == 2
    part = judged(side({"a": [0.8, 0.9]}), side({"a": [0.8, math.nan]}))
    assert (part["verdict"], part["note"]) == ("missing", "not there now: a seed 1")
    added = judged(side({"a": [0.8]}), side({"a": [0.8], "c": [0.1]}))
    assert added["verdict"] == "ok" and "not compared, new: c" in added["note"]


def test_one_seed_tells_no_noise() -> None:
    line = judged(side({"a": [0.8], "b": [0.9]}), side({"a": [0.7], "b": [0.9]}))
    assert line["verdict"] == "regression" and line["note"] == "noise unknown: no network has two seeds"


def test_status_puts_a_regression_before_what_is_missing() -> None:
    statuses = {("ok", "better", "new"): 0, ("ok", "missing"): 2, ("missing", "regression"): 1, ("changed",): 1}
    for verdicts, expected in statuses.items():
        assert gate.status(pd.DataFrame({"verdict": verdicts})) == expected


# The command, on a git history with metrics in it


SEEDS, NETWORKS = (0, 1), ("vgg11", "simple")


def write(
    folder: Path, accuracy: float, ratio: float = 0.4, seeds: tuple[int, ...] = SEEDS, weights: str = "w"
) -> None:
    """Metrics as the stages leave them, of networks whose accuracies lie 0.01 apart."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["study"] = {"networks": list(NETWORKS), "seeds": list(seeds)}
    params["gate"]["metrics"] = [
        metric for metric in params["gate"]["metrics"] if metric["name"] in ("accuracy", "accuracy of", "R", "AR")
    ]
    keys = [f"{network}-{seed}" for network in NETWORKS for seed in seeds]
    files = {"params.yaml": yaml.safe_dump(params), "dvc.yaml": "stages: {}\n"}
    outs = [{"path": "data/prepare", "md5": "d.dir"}]
    outs += [{"path": f"models/train/{key}", "md5": weights + key} for key in keys]
    files["dvc.lock"] = yaml.safe_dump({"stages": {"all": {"cmd": "x", "outs": outs}}})
    for place, key in enumerate(keys):
        files[f"reports/train/{key}/scores.json"] = json.dumps({"accuracy": accuracy + 0.01 * (place % 2)})
    ratios = [
        ("alder", *key.split("-"), name, ratio + 0.01 * (place % 2), int(name == "sky"))
        for place, key in enumerate(keys)
        for name in ("sky", "rare")
    ]
    table = pd.DataFrame(ratios, columns=["city", "network", "seed", "object", "ratio", "kept"])
    files["reports/measure/object_ratio.csv"] = table.to_csv(index=False)
    pairs = [
        (
            f"{one[0]}-{one[1]}",
            f"{other[0]}-{other[1]}",
            "architecture" if one[0] != other[0] else "initialisation",
            0.3,
        )
        for one, other in gate.independent_pairs(NETWORKS, seeds)
    ]
    files["reports/compare/all_pairs.csv"] = pd.DataFrame(
        pairs, columns=["first", "second", "kind", "residual"]
    ).to_csv(index=False)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, and the metrics of its first commit beside it as they were; the study lies in a folder of it."""
    folder = tmp_path / "study"
    folder.mkdir()
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "nothing", "--allow-empty"], cwd=tmp_path, check=True)
    write(folder, 0.9)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "base"], cwd=tmp_path, check=True)
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: str, base: str = "HEAD") -> int:
    return cli.main(["gate", "--base", base, *arguments])


def test_every_form_says_the_same(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(history, 0.7, weights="other")
    assert run() == 1
    text = capsys.readouterr().out
    assert "WORSE" in text and "accuracy of simple" in text
    assert run("--format", "json", "--output", "gate.json") == 1
    assert capsys.readouterr().out == text
    said = json.loads(Path("gate.json").read_text())
    rows = {f"{row['metric']} {row['row']}".strip(): row for row in said["rows"]}
    assert list(rows) == [
        "accuracy",
        "accuracy of vgg11",
        "accuracy of simple",
        "R alder sky",
        "AR architecture",
        "AR initialisation",
    ]
    assert rows["accuracy"]["base"] == pytest.approx(0.905) and rows["accuracy"]["change"] == pytest.approx(-0.2)
    assert {name for name, row in rows.items() if row["verdict"] == "regression"} == {
        "accuracy",
        "accuracy of vgg11",
        "accuracy of simple",
    }
    assert run("--format", "markdown") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("### Gate against ") and sum(line.startswith("|") for line in lines) == 2 + len(rows)
    assert any("**regression**" in line for line in lines)


def test_nothing_worse(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "nothing is worse" in capsys.readouterr().out
    write(history, 0.9, seeds=(2, 3, 4), weights="other")
    assert run() == 0


def test_r_of_the_same_networks_may_not_move(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(history, 0.9, ratio=0.42)
    assert run("--format", "json") == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["metric"], row["row"]) for row in rows if row["verdict"] != "ok"] == [("R", "alder sky")]
    write(history, 0.9, ratio=0.405)
    assert run() == 0


def prepare_other_data(folder: Path) -> None:
    lock = folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("d.dir", "e.dir"))


def stale(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src/code.py").write_text("1\n")
    (folder / "dvc.yaml").write_text(
        "stages:\n  all:\n    cmd: x\n    deps: [src/code.py]\n    outs: [reports/train/vgg11-0/scores.json]\n"
    )
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    lock["stages"]["all"]["deps"] = [{"path": "src/code.py", "md5": "of before"}]
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


def half_reproduced(folder: Path) -> None:
    """Networks were trained anew; the masks are those of the ones before."""
    (folder / "dvc.yaml").write_text(
        "stages:\n  all:\n    cmd: x\n    outs: [models/train/vgg11-0]\n"
        "  explain:\n    cmd: x\n    deps: [models/train/vgg11-0]\n    outs: [data/explain/vgg11-0]\n"
        "  compare:\n    cmd: x\n    deps: [data/explain/vgg11-0]\n    outs: [reports/compare/all_pairs.csv]\n"
    )
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    masks = {"path": "data/explain/vgg11-0", "md5": "masks"}
    weights = {"path": "models/train/vgg11-0", "md5": "those before"}
    table = {"path": "reports/compare/all_pairs.csv", "md5": md5s.of(folder / "reports/compare/all_pairs.csv")}
    lock["stages"]["explain"] = {"cmd": "x", "deps": [weights], "outs": [masks]}
    lock["stages"]["compare"] = {"cmd": "x", "deps": [masks], "outs": [table]}
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (prepare_other_data, "test data differ: data/prepare is d.dir in base, e.dir now"),
        (lambda folder: (folder / "dvc.lock").unlink(), "not in dvc.lock now"),
        (lambda folder: (folder / "reports/train/simple-1/scores.json").unlink(), "not there now: simple seed 1"),
        (
            lambda folder: (folder / "reports/train/simple-1/scores.json").write_text("{"),
            "simple-1/scores.json (now): not JSON",
        ),
        (lambda folder: (folder / "reports/measure/object_ratio.csv").write_text("a\n1\n"), "column ratio is missing"),
        (lambda folder: (folder / "params.yaml").unlink(), "params.yaml: no such file"),
        (stale, "STALE: all ran with another src/code.py"),
        (half_reproduced, "STALE: explain ran with another models/train/vgg11-0"),
    ],
    ids=["other data", "no lock", "missing", "no JSON", "no column", "no settings", "stale", "half reproduced"],
)
def test_what_cannot_be_compared_ends_with_2(
    history: Path, capsys: pytest.CaptureFixture[str], spoil, said: str
) -> None:
    spoil(history)
    assert run() == 2
    assert said in "".join(capsys.readouterr())


def test_a_base_without_metrics_or_none_at_all(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(base="HEAD~1") == 2
    assert run(base="nowhere") == 2
    assert run(base="HEAD:params.yaml") == 2
    assert "nowhere: no commit that git knows here" in capsys.readouterr().err


def test_other_test_data_are_compared_only_aloud(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_other_data(history)
    assert run("--other-data") == 0
    assert "WARNING: test data differ" in capsys.readouterr().out
    assert run("--other-data", "--format", "markdown") == 0
    assert "> WARNING: test data differ" in capsys.readouterr().out


def test_the_default_study_is_its_own_base() -> None:
    """Every metric that params.yaml names is in the committed reports."""
    report = gating.compare(settings.load(ROOT / "params.yaml"), "HEAD", folder=ROOT, other_data=True)
    assert set(report.table["verdict"]) <= {"ok", "new", "better", "regression", "changed"}
    assert report.table["row"].str.contains("skyscraper").any()


@pytest.mark.parametrize("metrics", [[], ["m", "m"]])
def test_metrics_are_named_once(metrics: list[str]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    first = params["gate"]["metrics"][0]
    params["gate"]["metrics"] = [first | {"name": name} for name in metrics]
    with pytest.raises(InputError, match=r"gate\.metrics names"):
        settings.parse(params)
