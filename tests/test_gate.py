"""The gate: verdicts on tables counted by hand, exit statuses, and what it makes of a git history."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from citylens import cli
from citylens.errors import InputError
from citylens.gate import comparison, verdict
from citylens.io import md5s
from citylens.nets.names import JOINT
from citylens.report.metrics import COLUMNS, metric_table, spot_table
from citylens.settings import parser
from citylens.settings.schema import Rule

ROOT = Path(__file__).parents[1]
T2, T2_HALF = 2.9200, 4.3027  # Student's quantiles with 2 degrees of freedom, 0.95 and 0.975, from printed tables


def side(values: dict[str, list[float]], weights: str = "", metric: str = "m", row: str = "") -> pd.DataFrame:
    """Return one line per value, by unit; with a prefix `weights`, each value's weights are named after its unit and place."""
    lines = [
        (metric, row, "", unit, f"{unit}-{place}", value, f"{weights}{unit}{place}" if weights else "")
        for unit, some in values.items()
        for place, value in enumerate(some)
    ]
    return pd.DataFrame(lines, columns=comparison.COLUMNS)


def rule(direction: str = "higher", tolerance: float = 0.01, noise: str = "seeds", metric: str = "m") -> Rule:
    return Rule(metric, direction, tolerance, noise)


def judged(base: pd.DataFrame, now: pd.DataFrame, *rules: Rule) -> dict:
    (line,) = comparison.compare(base, now, rules or [rule()], 0.05).to_dict("records")
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
    line = judged(side({"": [0.5]}), side({"": [now]}), rule(direction, 0.02, noise="none"))
    assert line["verdict"] == verdict
    assert line["allowed"] == 0.02


BASE = {"a": [0.8, 0.9], "b": [0.7, 0.8]}  # every sum of squares is 0.005, pooled over two networks 2 * 0.005 / 2


@pytest.mark.parametrize(
    ("drop", "direction", "quantile", "verdict"),
    [
        (0.15, "higher", T2, "ok"),
        (0.16, "higher", T2, "regression"),
        (-0.16, "higher", T2, "better"),
        (0.22, "same", T2_HALF, "ok"),
        (0.23, "same", T2_HALF, "changed"),
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
    assert judged(side(now, "w"), side(BASE, "w"))["verdict"] == "changed"  # the same networks cannot become better
    for base, expected in (("w", "regression"), ("v", "ok")):
        line = judged(side(BASE, base), side(now, "w"), rule(noise="any"))
        assert line["verdict"] == expected


def test_a_regression_does_not_widen_what_is_allowed() -> None:
    """One network fell by 0.4 and the other by nothing; the seeds now lie 0.6 apart."""
    now = {"a": [0.1, 0.7], "b": [0.7, 0.8]}
    allowed = judged(side(BASE), side({unit: some[::-1] for unit, some in BASE.items()}))["allowed"]
    line = judged(side(BASE), side(now))
    assert line["allowed"] == allowed and line["verdict"] == "regression"


def test_the_same_seeds_are_compared_run_by_run() -> None:
    now = {unit: [value - 0.02 for value in some] for unit, some in BASE.items()}
    line = judged(side(BASE, "w"), side(now, "v"), rule(noise="other seeds"))
    assert (line["allowed"], line["verdict"], line["note"]) == (0.01, "regression", "the same seeds, run by run")
    other = side(now, "v").assign(run=["a-2", "a-3", "b-2", "b-3"])
    assert judged(side(BASE, "w"), other, rule(noise="other seeds"))["verdict"] == "ok"


@pytest.mark.parametrize(
    ("direction", "noise", "verdict"),
    [("higher", "seeds", "regression"), ("lower", "other seeds", "regression"), ("same", "seeds", "changed")],
)
def test_one_run_that_became_worse_is_not_hidden_by_another(direction: str, noise: str, verdict: str) -> None:
    """Two runs' values exchanged, on the same networks or on the same seeds: the mean stays."""
    after = "w" if noise == "seeds" else "v"
    swapped = {"a": BASE["a"][::-1], "b": BASE["b"]}
    line = judged(side(BASE, "w"), side(swapped, after), rule(direction, noise=noise))
    assert line["verdict"] == verdict and line["change"] == pytest.approx(0)
    assert line["note"].endswith(": a-1 by -0.1000" if direction == "higher" else ": a-0 by +0.1000")
    rounded = {"a": [0.815, 0.885], "b": BASE["b"]}
    assert judged(side(BASE, "w"), side(rounded, after), rule(direction, noise=noise))["verdict"] == "ok"


@pytest.mark.parametrize(
    ("base", "now", "verdict"),
    [(0.3, 0.02, "ok"), (0.3, 0.01, "regression"), (0.3, -0.2, "regression"), (0.01, -0.2, "ok"), (-0.1, 0.3, "ok")],
)
def test_what_is_above_must_stay_above(base: float, now: float, verdict: str) -> None:
    line = judged(side({"": [base]}), side({"": [now]}), rule("above", noise="none"))
    assert line["verdict"] == verdict


def test_spots_count_as_wholes() -> None:
    """Of two spots with ten images each, one network names right 10 and 0, then 0 and 10: 1 and -1 about their mean."""
    runs = pd.DataFrame(
        [(f"{unit}-{run}", spot, 10, 10 * (run == spot)) for unit in "ab" for run in (0, 1) for spot in (0, 1)],
        columns=["run", "spot", "images", "right"],
    )
    base = side({"a": [0.5, 0.5], "b": [0.5, 0.5]}, metric="accuracy")
    table = comparison.compare(base, base, [rule(metric="accuracy")], 0.05, runs)
    # A run's deviations at the spots are 0.5 and -0.5, of variance 0.5; two runs, of which one is free, over two spots.
    error, freedom_1 = math.sqrt(0.5), 6.3138
    assert table["allowed"].tolist() == [pytest.approx(0.01 + freedom_1 * error, abs=1e-3)]


def test_ar_of_twins_takes_the_spread_between_networks() -> None:
    units = {name: [value] for name, value in zip("abcd", (0.2, 0.3, 0.3, 0.4), strict=True)}
    base = side(units).assign(run=[f"{name}-0{JOINT}{name}-1" for name in units])
    line = judged(base, base.assign(run=base["run"] + "x"))
    assert line["allowed"] == pytest.approx(0.01 + 2.3534 * math.sqrt(0.02 / 3 * 2 / 4), abs=1e-4)  # t(0.95, 3)


def test_a_value_that_neither_side_has_is_said() -> None:
    line = judged(side({"a": [math.nan]}), side({"a": [math.nan]}))
    assert (line["verdict"], line["note"]) == ("ok", "no value in either")


def test_a_third_seed_beside_two_that_stayed() -> None:
    """Of the mean of two and the mean of three with the two in common, the change varies by 1/2 + 1/3 - 2 * 2 / 6 = 1/6."""
    line = judged(side({"a": [0.5, 0.7]}, "w"), side({"a": [0.5, 0.7, 0.9]}, "w"))
    assert line["allowed"] == pytest.approx(0.01 + 6.3138 * math.sqrt(0.02 / 6), abs=1e-4)  # t(0.95, 1)


def test_chance_is_shared_by_metrics_and_rows() -> None:
    """Of 0.05, each of two metrics has half, and each of a metric's two rows half of that."""
    parts = [side(BASE, metric="m", row="x"), side(BASE, metric="m", row="y"), side(BASE, metric="n")]
    both = pd.concat(parts)
    table = comparison.compare(both, both, [rule(), rule(metric="n")], 0.05).set_index(["metric", "row"])
    error = math.sqrt(0.005 / 2)
    assert table.loc[("n", ""), "allowed"] == pytest.approx(0.01 + T2_HALF * error, abs=1e-4)
    assert table.loc[("m", "x"), "allowed"] == pytest.approx(0.01 + 3.4954 * error, abs=1e-3)  # t(0.9875, 4)


def test_other_seeds_alone_turn_few_gates_red() -> None:
    """With 2 networks, 2 seeds and 3 metrics of 4 rows, noise alone gives a red row in at most some 5 % of comparisons."""
    generator = np.random.default_rng(0)

    cells = [(metric, row, row, unit, run) for metric in "mno" for row in "wxyz" for unit in "ab" for run in "01"]

    def drawn() -> pd.DataFrame:
        values = generator.normal(0, 1, len(cells))
        return pd.DataFrame(
            [(*cell, value, "") for cell, value in zip(cells, values, strict=True)], columns=comparison.COLUMNS
        )

    rules = [rule("higher", 0, metric="m"), rule("same", 0, metric="n"), rule("lower", 0, metric="o")]
    red = [comparison.status(comparison.compare(drawn(), drawn(), rules, 0.05)) for _ in range(100)]
    assert sum(red) <= 10  # more than 10 of 100 have a chance of 1 %, were it 5 % each


def test_pairs_that_share_a_network_count_as_half_as_many_networks() -> None:
    units = {f"{one}{JOINT}{other}": [0.3, 0.4] for one, other in ("ab", "ac", "ad", "bc", "bd", "cd")}
    line = judged(side(units), side(units))
    # the spread of each is 0.005; of four networks three are free, and six pairs count as two
    assert line["allowed"] == pytest.approx(0.01 + 2.3534 * math.sqrt(0.005 / 2), abs=1e-4)


def test_missing_and_new_are_said() -> None:
    base = pd.concat([side({"a": [0.8], "b": [0.7]}, row="x"), side({"a": [0.8]}, row="gone")])
    now = pd.concat([side({"a": [0.8], "c": [0.1]}, row="x"), side({"a": [0.8]}, row="come")])
    table = comparison.compare(base, now, [rule(), rule(metric="nowhere")], 0.05).set_index(["metric", "row"])
    assert table["verdict"].tolist() == ["missing", "missing", "new", "missing"]
    assert table["note"].tolist() == ["not there now: b", "not there now: a", "", "in neither"]
    assert comparison.status(table) == 2
    part = judged(side({"a": [0.8, 0.9]}), side({"a": [0.8, math.nan]}))
    assert (part["verdict"], part["note"]) == ("missing", "not there now: a-1")
    less, other = side({"a": [0.8, 0.9]}), side({"a": [0.8, 0.9]}, metric="other")
    now = pd.concat([less[:1], other])
    table = comparison.compare(pd.concat([less, other]), now, [rule()], 0.05)
    assert table[["verdict", "note"]].to_numpy().tolist() == [["missing", "not there now: a-1"]]
    added = judged(side({"a": [0.8]}), side({"a": [0.8], "c": [0.1]}))
    assert added["verdict"] == "ok" and "not compared, new: c" in added["note"]


def test_one_seed_tells_no_noise() -> None:
    line = judged(side({"a": [0.8], "b": [0.9]}), side({"a": [0.7], "b": [0.9]}))
    assert line["verdict"] == "regression" and line["note"] == "noise unknown: no network has two seeds"


def test_status_puts_a_regression_before_what_is_missing() -> None:
    statuses = {("ok", "better", "new"): 0, ("ok", "missing"): 2, ("missing", "regression"): 1, ("changed",): 1}
    for verdicts, expected in statuses.items():
        assert comparison.status(pd.DataFrame({"verdict": verdicts})) == expected


# The table of metrics


def results(networks: str, seeds: tuple[int, ...]) -> SimpleNamespace:
    """The results of all stages, as far as metrics are made from them; values are counted from 0."""
    keys = [f"{network}-{seed}" for network in networks for seed in seeds]
    ratios = [
        ("alder", *key.split("-"), name, 0.1 * (place + 1) * (name != "sky") + 0.2, int(name != "rare"), 6, 100)
        for place, key in enumerate(keys)
        for name in ("sky", "road", "rare")
    ]
    pairs = [
        (first, second, "initialisation" if first[0] == second[0] else "architecture", float(place), 6 - (place == 1))
        for place, (first, second) in enumerate(combinations(keys, 2))
    ]
    images = pd.DataFrame({"city": ["alder"] * 4 + ["birch"] * 2, "spot": [1, 1, 2, 2, 3, 3]})
    return SimpleNamespace(
        keys=keys,
        test=images,
        splits=pd.DataFrame({"split": ["test", "test", "training"], "images": [4, 2, 20]}),
        scores={
            key: {"accuracy": 0.5 + place, "loss": place, "majority_accuracy": 0.75, "images": 6}
            for place, key in enumerate(keys)
        },
        histories={key: pd.DataFrame({"training_loss": [0.7, 0.6, 0.1 * place]}) for place, key in enumerate(keys)},
        explained=dict.fromkeys(keys, images.assign(predicted=["alder"] * 3 + ["birch"] * 3)),
        ratios=pd.DataFrame(
            ratios, columns=["city", "network", "seed", "object", "ratio", "kept", "images", "total"]
        ).assign(lift=1.5, z=-2.0),
        all_pairs=pd.DataFrame(pairs, columns=["first", "second", "kind", "residual", "images"]).assign(kappa=0.25),
        dead=dict.fromkeys(keys, 3),
        explained_area={key: (place + 1) / 10 for place, key in enumerate(keys)},
        neighbours={key: {"neighbour_agreement": 0.9} if place else {} for place, key in enumerate(keys)},
        segmentation={"coverage": 0.75, "images": 6},
        validation={"masks": {"success": True}, "splits": {"success": False}},
    )


def test_each_metric_is_one_value_per_network() -> None:
    table = metric_table(results("ab", (0, 1)))
    assert list(table) == COLUMNS
    found = dict(list(table.groupby("metric")))
    runs = ["a-0", "a-1", "b-0", "b-1"]
    for name, values in {"accuracy": [0.5, 1.5, 2.5, 3.5], "explained area": [0.1, 0.2, 0.3, 0.4]}.items():
        assert found[name]["value"].tolist() == values and found[name]["run"].tolist() == runs
        assert (found[name][["row", "pool"]] == "").all(axis=None)
    assert found["accuracy of"]["row"].tolist() == ["a", "a", "b", "b"]
    assert math.isnan(found["neighbour agreement"]["value"].iloc[0]) and len(found["neighbour agreement"]) == 4
    ratios = found["R"].set_index(["row", "run"])["value"]
    assert set(found["R"]["row"]) == {"alder sky", "alder road"} and ratios["alder road", "b-0"] == pytest.approx(0.5)
    means = found["mean R"].set_index(["row", "run"])["value"]
    assert means["alder", "b-0"] == pytest.approx((0.5 + 0.2) / 2)  # of the objects that are kept
    assert (found["R"]["pool"] == found["R"]["row"]).all()
    single = table[table["run"] == ""].set_index(["metric", "row"])["value"]
    whole = {"segmentation coverage": 0.75, "contract of masks": 1.0, "contract of splits": 0.0}
    assert single[:, ""].to_dict() == whole | {"pixels": 300}
    counts = {"test": 6, "training": 20, "tested": 6, "explained": 6, "segmented": 6, "measured": 6, "compared": 5}
    assert single["images"].to_dict() == counts
    assert single["objects"].to_dict() == {"alder": 2}
    assert single["pairs"].to_dict() == {"architecture": 4, "initialisation": 2}
    assert (
        set(found["lift"]["value"]) == {1.5}
        and set(found["z"]["value"]) == {2.0}
        and set(found["kappa"]["value"]) == {0.25}
    )
    assert found["above largest city"]["value"].tolist() == [-0.25, 0.75, 1.75, 2.75]
    assert found["first training loss"]["value"].tolist() == [0.7] * 4
    assert found["last training loss"]["value"].tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    # Pairs are numbered a0-a1, a0-b0, a0-b1, a1-b0, a1-b1, b0-b1.
    assert found["AR gap"][["run", "value"]].values.tolist() == [["a-0 and a-1", 2.5], ["b-0 and b-1", -2.5]]
    assert found["AR order"]["value"].tolist() == [2.5, -2.5]


def test_spots_are_sums_of_their_images() -> None:
    table = spot_table(results("a", (0, 1)))
    own = table[table["run"] == "a-1"].drop(columns="run").values.tolist()
    assert own == [["alder/1", 2, 2], ["alder/2", 2, 1], ["birch/3", 2, 2]] and len(table) == 6


@pytest.mark.parametrize(("seeds", "twins"), [((0, 1), 4), ((0, 1, 2), 4), ((3, 5, 7, 9), 8)])
def test_a_run_stands_once_in_the_pairs_of_two_architectures(seeds: tuple[int, ...], twins: int) -> None:
    made = results("abcd", seeds)
    table = metric_table(made)
    pairs = table[table["metric"] == "AR"]
    assert pairs["row"].value_counts().to_dict() == {"architecture": 6 * len(seeds), "initialisation": twins}
    units = [tuple(key[0] for key in run.split(JOINT)) for run in pairs["run"]]
    for unit in set(units):
        keys = [key for run, own in zip(pairs["run"], units, strict=True) if own == unit for key in run.split(JOINT)]
        assert len(keys) == len(set(keys))


# The command, on a git history with metrics in it


SEEDS, NETWORKS = (0, 1), ("vgg11", "simple")
TABLE = "reports/report/metrics.csv"


def write(
    folder: Path, accuracy: float, ratio: float = 0.4, seeds: tuple[int, ...] = SEEDS, weights: str = "w"
) -> None:
    """Write metrics as `report` does, of networks whose accuracies lie 0.01 apart."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["gate"]["metrics"] = [
        metric for metric in params["gate"]["metrics"] if metric["name"] in ("accuracy", "accuracy of", "R", "AR")
    ]
    keys = [f"{network}-{seed}" for network in NETWORKS for seed in seeds]
    outs = [{"path": "data/prepare", "md5": "d.dir"}]
    outs += [{"path": f"models/train/{key}", "md5": weights + key} for key in keys]
    rows = []
    for place, key in enumerate(keys):
        rows += [("accuracy", "", "", key, accuracy + 0.01 * (place % 2))]
        rows += [("accuracy of", key.split("-")[0], "", key, accuracy + 0.01 * (place % 2))]
        rows += [("R", "alder sky", "alder sky", key, ratio + 0.01 * (place % 2))]
        rows += [("unnamed", "", "", key, 0.0)]
    one, other = NETWORKS
    rows += [("AR", "architecture", "", f"{one}-{seed} and {other}-{seed}", 0.3) for seed in seeds]
    rows += [("AR", "initialisation", "", f"{name}-{seeds[0]} and {name}-{seeds[1]}", 0.3) for name in NETWORKS]
    files = {
        "params.yaml": yaml.safe_dump(params),
        "dvc.yaml": "stages: {}\n",
        "dvc.lock": yaml.safe_dump({"stages": {"all": {"cmd": "x", "outs": outs}}}),
        TABLE: pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False),
    }
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


def test_the_output_that_a_user_names_is_written_to_and_not_replaced(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root, a device such as /dev/null would become a file for all programs."""
    os.mkfifo("pipe")
    Path("link").symlink_to("target")
    reader = os.open("pipe", os.O_RDWR | os.O_NONBLOCK)
    assert run("--output", "pipe") == run("--output", "link") == 0
    assert b"nothing is worse" in os.read(reader, 1 << 16)
    os.close(reader)
    assert Path("pipe").is_fifo() and Path("link").is_symlink()
    assert "nothing is worse" in Path("target").read_text()
    assert run("--output", "..") == 2
    assert "--output: ..: a folder; allowed: a file" in capsys.readouterr().err


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


def test_a_change_that_loosens_the_gate_is_said(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    rules = params["gate"]["metrics"]
    assert [rule["name"] for rule in rules] == ["accuracy", "accuracy of", "R", "AR"]
    rules[0]["tolerance"] = rules[1]["tolerance"] = 1
    params["gate"] |= {"metrics": rules[:3], "false_alarms": 0.001}
    write(history, 0.5)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert run() == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
    assert told == [
        "WARNING: the rule on accuracy differs from base's: tolerance 0.01 is now 1",
        "WARNING: the rule on accuracy of differs from base's: tolerance 0.02 is now 1",
        "WARNING: the rule on AR differs from base's: it is gone",
        "WARNING: gate.false_alarms 0.05 is now 0.001",
    ]


def prepare_other_data(folder: Path) -> None:
    lock = folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("d.dir", "e.dir"))


def rendered(folder: Path, md5: str, **changes: str) -> None:
    """Let dvc.lock say that the test data were rendered."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    world, code = changes.get("world", "w"), changes.get("code", "c")
    deps = [{"path": "worlds/default.yaml", "md5": world}, {"path": "src/streetscenes", "md5": code}]
    source = {"source": changes.get("source", "render"), "render": {"seed": changes.get("seed", "0")}}
    pixels = [{"path": "data/acquire", "md5": f"acquired {md5}"}]
    lock["stages"]["acquire"] = {
        "cmd": "x",
        "deps": deps,
        "outs": pixels,
        "params": {"params.yaml": {"acquire": source}},
    }
    size = {"params.yaml": {"prepare": {"size": changes.get("size", "96")}}}
    lock["stages"]["prepare"] = {"cmd": "x", "deps": pixels, "params": size}
    lock["stages"]["all"]["outs"][0]["md5"] = md5
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


@pytest.mark.parametrize("name", ["world", "code", "seed", "size", "source"])
def test_images_rendered_from_the_same_are_the_same(
    history: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """On another processor, OpenCV renders other pixels from the same world, code and settings."""
    rendered(history, "d.dir")
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "base"], check=True)
    rendered(history, "e.dir")
    assert run() == 0
    assert "other bytes than in base, as rendered on another processor" in capsys.readouterr().out
    rendered(history, "e.dir", **{name: "other"})
    assert run() == 2
    assert "test data differ" in capsys.readouterr().err


def test_photographs_are_the_same_only_with_the_same_bytes(history: Path) -> None:
    rendered(history, "d.dir", source="folder")
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qam", "base"], check=True)
    assert run() == 0
    rendered(history, "e.dir", source="folder")
    assert run() == 2


def test_a_row_that_stands_twice_is_refused(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(TABLE).read_text().splitlines(keepends=True)
    Path(TABLE).write_text("".join([*lines, lines[1]]))
    assert run() == 2
    assert "a run has a metric's row twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "value", "allowed"),
    [("accuracy", "95", "0 to 1"), ("AR", "-0.1", "0 to 1"), ("loss", "inf", "0 or more"), ("loss", "-1", "0 or more")],
)
def test_a_number_that_cannot_be_is_no_gain(
    history: Path, capsys: pytest.CaptureFixture[str], metric: str, value: str, allowed: str
) -> None:
    """Per cent in the place of a share would be `better`."""
    table = Path(TABLE).read_text().replace("unnamed,,,vgg11-0,0.0", f"{metric},x,,vgg11-0,{value}")
    Path(TABLE).write_text(table)
    assert run() == 2
    assert f"{metric} x vgg11-0 is {value}; allowed: {allowed}" in capsys.readouterr().err


def test_a_table_of_spots_that_is_none(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spots = history / "reports/report/spots.csv"
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for text, said in (("run,spot\n", "not a table of spots"), ("run,spot,images,right\na,b,1,1\na,b,1,1\n", "twice")):
        spots.write_text(text)
        subprocess.run(["git", "add", "-A"], check=True)
        subprocess.run(["git", *identity, "commit", "-qm", "spots"], check=True)
        assert run() == 2
        assert said in capsys.readouterr().err


def stale(folder: Path) -> None:
    """Code that has not run yet, in a folder beside its byte code."""
    (folder / "src/code/__pycache__").mkdir(parents=True)
    (folder / "src/code/stage.py").write_text("1\n")
    (folder / "dvc.yaml").write_text(f"stages:\n  all:\n    cmd: x\n    deps: [src/code]\n    outs: [{TABLE}]\n")
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    lock["stages"]["all"]["deps"] = [{"path": "src/code", "md5": md5s.of(folder / "src/code")}]
    lock["stages"]["all"]["outs"] += [{"path": TABLE, "md5": md5s.of(folder / TABLE)}]
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    (folder / "src/code/__pycache__/stage.pyc").write_text("1\n")
    assert run() == 0
    (folder / "src/code/stage.py").write_text("2\n")


def half_reproduced(folder: Path) -> None:
    """Networks were trained anew; the masks are those of the ones before."""
    (folder / "dvc.yaml").write_text(
        "stages:\n  all:\n    cmd: x\n    outs: [models/train/vgg11-0]\n"
        "  explain:\n    cmd: x\n    deps: [models/train/vgg11-0]\n    outs: [data/explain/vgg11-0]\n"
        f"  report:\n    cmd: x\n    deps: [data/explain/vgg11-0]\n    outs: [{TABLE}]\n"
        "  other:\n    cmd: x\n    outs: [reports/other.csv]\n"
    )
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    masks = {"path": "data/explain/vgg11-0", "md5": "masks"}
    weights = {"path": "models/train/vgg11-0", "md5": "those before"}
    table = {"path": TABLE, "md5": md5s.of(folder / TABLE)}
    lock["stages"]["explain"] = {"cmd": "x", "deps": [weights], "outs": [masks]}
    lock["stages"]["report"] = {"cmd": "x", "deps": [masks], "outs": [table]}
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))


def without(text: str) -> Callable[[Path], None]:
    """Return what deletes the lines of the table that have this text."""

    def spoil(folder: Path) -> None:
        lines = (folder / TABLE).read_text().splitlines(keepends=True)
        (folder / TABLE).write_text("".join(line for line in lines if text not in line))

    return spoil


def without_value(folder: Path) -> None:
    (folder / TABLE).write_text(
        (folder / TABLE).read_text().replace("accuracy,,,simple-1,0.91", "accuracy,,,simple-1,")
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (prepare_other_data, "test data differ: data/prepare is d.dir in base, e.dir now"),
        (lambda folder: (folder / "dvc.lock").unlink(), "not in dvc.lock now"),
        (without_value, "not there now: simple-1"),
        (without("simple-"), "not there now: simple"),
        (
            lambda folder: (folder / TABLE).unlink(),
            "metrics.csv (now): no such file; allowed: as `make repro` writes it",
        ),
        (lambda folder: (folder / TABLE).write_text("a\n1\n"), "metrics.csv (now): not a table of metrics: Usecols"),
        (
            lambda folder: (folder / TABLE).write_text((folder / TABLE).read_text().replace("0.9", "high", 1)),
            "metrics.csv (now): not a table of metrics",
        ),
        (
            lambda folder: (folder / TABLE).write_text((folder / TABLE).read_text().replace("simple-1", "simple")),
            "metrics.csv (now): not a table of metrics",
        ),
        (lambda folder: (folder / "params.yaml").unlink(), "params.yaml: no such file"),
        (stale, "STALE: all ran with another src/code;"),
        (half_reproduced, "STALE: explain ran with another models/train/vgg11-0"),
    ],
    ids=[
        "other data",
        "no lock",
        "no value",
        "no network",
        "no table",
        "no column",
        "no number",
        "no seed",
        "no settings",
        "stale",
        "half reproduced",
    ],
)
def test_what_cannot_be_compared_ends_with_2(
    history: Path, capsys: pytest.CaptureFixture[str], spoil, said: str
) -> None:
    spoil(history)
    assert run() == 2
    assert said in "".join(capsys.readouterr())


def test_a_base_without_metrics_or_none_at_all(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--other-data", base="HEAD~1") == 2
    assert "metrics.csv (base): no such file; allowed: a revision that has it" in capsys.readouterr().err
    assert run(base="nowhere") == 2
    assert run(base="HEAD:params.yaml") == 2
    assert "nowhere: no commit that git knows here" in capsys.readouterr().err


def test_what_hides_a_base_is_said(
    history: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shallow = history.parent.parent / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth=1", history.parent.as_uri(), str(shallow)], check=True)
    monkeypatch.chdir(shallow / "study")
    assert run(base="HEAD~1") == 2
    assert "HEAD~1: no commit that git knows here; allowed: a branch, tag or commit, and `git fetch --unshallow`" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("PATH", str(history))
    assert run() == 2
    assert "git cannot be run; allowed: the gate needs git in PATH" in capsys.readouterr().err


def test_other_test_data_are_compared_only_aloud(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_other_data(history)
    assert run("--other-data") == 0
    assert "WARNING: test data differ" in capsys.readouterr().out
    assert run("--other-data", "--format", "markdown") == 0
    assert "> WARNING: test data differ" in capsys.readouterr().out


def test_the_default_study_is_its_own_base() -> None:
    """Every metric of params.yaml is in the committed table."""
    report = verdict.compare(parser.load(ROOT / "params.yaml"), "HEAD", folder=ROOT, other_data=True)
    assert set(report.table["verdict"]) <= {"ok", "new", "better", "regression", "changed"}
    assert report.table["row"].str.contains("skyscraper").any()


@pytest.mark.parametrize("metrics", [[], ["m", "m"]])
def test_metrics_are_named_once(metrics: list[str]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    first = params["gate"]["metrics"][0]
    params["gate"]["metrics"] = [first | {"name": name} for name in metrics]
    with pytest.raises(InputError, match=r"gate\.metrics names"):
        parser.parse(params)
