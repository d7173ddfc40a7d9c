"""The report of a small made-up study: whole, closed in itself, the same twice, and true whichever way the numbers turn out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from citylens.compare import residual
from citylens.io import files
from citylens.nets.names import key
from citylens.report import inputs
from citylens.report import page as report_page
from citylens.report import stage as report
from citylens.settings import parser
from citylens.settings.schema import Settings

ROOT = Path(__file__).resolve().parents[1]
SIDE, IMAGES = 32, 8  # pixels; test images a city
NETWORKS = ("vgg11", "resnet18", "simple", "simpler")
FIGURES = {"fig2_pipeline", "fig3_scatter", "fig4_explanations", "fig5_object_ratio", "fig6_masks"}
FIGURES |= {"table2", "all_pairs", "training", "confusion"}

BESIDE = {
    "low": 0.28,
    "high": 0.32,
    "residual_grid": 0.3,
    "swapped": 0.4,
    "kappa": 0.25,
    "kappa_low": 0.1,
    "untrained": 0.35,
    "untrained_swapped": 0.35,
}


class Study:
    """The outputs that the report reads, in the current folder."""

    def __init__(
        self, cities: tuple[str, ...], networks: tuple[str, ...], seeds: tuple[int, ...], dead: str = ""
    ) -> None:
        whole = parser.load(ROOT / "profiles/demo.yaml")
        self.cities, self.dead = cities, dead
        self.settings: Settings = dataclasses.replace(
            whole,
            study=dataclasses.replace(whole.study, networks=networks, seeds=seeds),
            prepare=dataclasses.replace(whole.prepare, size=SIDE),
            report=dataclasses.replace(whole.report, examples=1, thumbnails=12, thumbnail_network=networks[0]),
        )
        self.random = np.random.default_rng(0)
        self.index = pd.DataFrame(
            [
                {"id": f"{city}{row}", "city": city, "label": place, "spot": f"s{row}", "heading": 90.0, "split": split}
                for place, city in enumerate(cities)
                for split in ("training", "test")
                for row in range(IMAGES)
            ]
        )
        self.test = self.index[self.index["split"] == "test"].reset_index(drop=True)
        self._data()
        for trained in self.settings.study.trained:
            self._network(*trained)
        self.neighbours(agreement=0.9)
        self.mask_checks(own=0.9, swapped=0.6)
        self.probe(0.5)
        self._ratios()
        self.pairs(architecture=0.4, retrained=0.2)

    def _data(self) -> None:
        shape = (len(self.index), SIDE, SIDE, 3)
        files.write_array("data/prepare/images.npy", self.random.integers(0, 255, shape, dtype=np.uint8))
        files.write_table("data/prepare/index.csv", self.index)
        counts = self.index.groupby(["split", "city"]).agg(images=("id", "size"), spots=("spot", "nunique"))
        files.write_table("reports/prepare/splits.csv", counts.reset_index())
        files.write_json("reports/segment/scores.json", {"images": len(self.test), "coverage": 0.75})
        files.write_table("reports/segment/confusion.csv", pd.DataFrame(columns=["actual", "predicted", "pixels"]))
        for suite in inputs.CONTRACTS:
            met = {"expectation": "all is well", "success": suite != "masks", "unexpected": 3, "rows": 16}
            files.write_json(f"reports/validate/{suite}.json", {"suite": suite, "success": True, "expectations": [met]})

    def _network(self, network: str, seed: int) -> None:
        name, count = key(network, seed), len(self.test)
        dead = int(name == self.dead)
        maps = self.random.normal(size=(count, 7, 7)).astype(np.float32)
        files.write_array(f"data/explain/{name}/masks.npy", -np.abs(maps) if dead else maps)
        places = (
            dict(zip("xy", self.random.normal(size=(2, count)), strict=True))
            if not dead
            else {"x": np.nan, "y": np.nan}
        )
        files.write_table(f"data/embed/{name}/embedding.csv", self.test[["id", "city"]].assign(**places, dead=dead))
        self.accuracy(name, 1.0)
        self.named(name, self.test["city"])
        history = {"epoch": [1, 2], "learning_rate": 1e-4}
        history |= {
            f"{part}_{what}": [0.5, 0.7] for part in ("training", "validation") for what in ("loss", "accuracy")
        }
        files.write_table(f"reports/train/{name}/history.csv", pd.DataFrame(history))
        pairs = [{"actual": a, "predicted": p, "images": IMAGES * (a == p)} for a, p in product(self.cities, repeat=2)]
        files.write_table(f"reports/train/{name}/confusion.csv", pd.DataFrame(pairs))

    def neighbours(self, *, agreement: float) -> None:
        names = [key(*trained) for trained in self.settings.study.trained]
        known = {"neighbour_agreement": agreement, "chance": 0.5, "masks": len(self.test)}
        files.write_json(
            "reports/embed/scores.json", {name: {"masks": 0} if name == self.dead else known for name in names}
        )
        rows = [{"network": name, "of": of} for name in names for of in ("masks", "mask area", "untrained masks")]
        table = pd.DataFrame([*rows, {"network": "", "of": "mean colour"}]).assign(
            purity=agreement, chance=0.5, p=0.01 if agreement > 0.5 else 0.8
        )
        files.write_table("reports/embed/purity.csv", table)

    def mask_checks(self, *, own: float, swapped: float) -> None:
        gain = {"gain swapped": own - swapped, "gain swapped low": own - swapped - 0.05}
        curves = {
            kind: {"own": own, "swapped": swapped, "random": swapped} | gain for kind in ("deletion", "insertion")
        }
        similar = {"similar_last": 0.9, "similar_all": 0.1, "similar_swapped": 0.3}
        numbers = {"images": 24, "hires": 0.05, "registered": 0.1, "swapped": 0.3} | similar | curves
        for trained in self.settings.study.trained:
            files.write_json(f"reports/explain/{key(*trained)}/checks.json", numbers)

    def probe(self, accuracy: float) -> None:
        found = {"features": 6, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
        files.write_json(
            "reports/validate/probes.json", {"images": IMAGES, "largest_city": 0.5, "probes": {"colour": found}}
        )

    def accuracy(self, name: str, value: float) -> None:
        scores = {"accuracy": value, "loss": 0.1, "majority_accuracy": 1 / len(self.cities)}
        scores |= {"recall": dict.fromkeys(self.cities, value), "images": len(self.test)}
        files.write_json(f"reports/train/{name}/scores.json", scores)

    def named(self, name: str, predicted: pd.Series | str) -> None:
        """The city that the network sees in each test image."""
        index = self.test[["id", "city", "spot", "heading"]].assign(predicted=predicted, explained=predicted)
        dead = int(name == self.dead)
        files.write_table(f"data/explain/{name}/index.csv", index.assign(probability=0.9, dead=dead))

    def _ratios(self) -> None:
        rows = []
        for (network, seed), (place, city) in product(self.settings.study.trained, enumerate(self.cities)):
            alone = f"mark of {city}"
            for name, ratio in (("sky", 0.1 + 0.1 * NETWORKS.index(network)), ("tree;plant", 0.5), (alone, 0.8)):
                inside = 0 if key(network, seed) == self.dead else int(ratio * 1000)
                row = {
                    "city": city,
                    "network": network,
                    "seed": seed,
                    "label": 3 + (name != "sky") + (name == alone) * (place + 1),
                }
                row |= {
                    "object": name,
                    "ratio": inside / 1000,
                    "ratio_alive": inside / 1000,
                    "inside": inside,
                    "total": 1000,
                }
                row |= {
                    "lift": ratio / 0.4,
                    "low": ratio - 0.05,
                    "high": ratio + 0.05,
                    "chance": 0.45,
                    "z": 2.5,
                    "q": 0.001 if ratio > 0.6 else 0.5,
                    "untrained": 0.3,
                }
                rows.append(row | {"mean_pixels": 125.0, "kept": 1, "images": IMAGES, "dead": 0})
        table = pd.DataFrame(rows)
        files.write_table("reports/measure/object_ratio.csv", table)
        references = table[["city", "network", "seed", "label", "object"]].assign(edges=table["ratio"], centre=0.5)
        files.write_table("reports/measure/reference.csv", references)
        area = {key(*trained): 0.4 for trained in self.settings.study.trained}
        files.write_json("reports/measure/scores.json", {"explained_area": area})

    def pairs(self, *, architecture: float, retrained: float) -> None:
        study, value = (
            self.settings.study,
            {"architecture": architecture, "retrained": retrained, "initialisation": retrained},
        )
        counts = {"images": len(self.test), "dead": 0}
        every = [
            {"first": key(*a), "second": key(*b), "kind": residual.kind(a, b)}
            for a, b in combinations(study.trained, 2)
        ]
        ten = []
        for a, b in residual.table2_pairs(study.networks, study.seeds):
            kind = "architecture" if a[0] != b[0] else "retrained"
            ten.append({"pair": f"{a[0]}-{b[0]}", "first": key(*a), "second": key(*b), "kind": kind})
        for path, rows, extra in (("all_pairs", every, []), ("residual", ten, ["paper"])):
            columns = ["first", "second", "kind", "residual", "residual_alive", "images", "dead", *BESIDE, *extra]
            filled = [row | dict.fromkeys(("residual", "residual_alive"), value[row["kind"]]) | counts for row in rows]
            table = pd.DataFrame(filled, columns=(["pair"] if extra else []) + columns).assign(**BESIDE)
            files.write_table(f"reports/compare/{path}.csv", table.assign(paper=0.3) if extra else table)
        p = 0.01 if architecture > retrained else 0.9
        tested = {"value": architecture - retrained, "p": p, "least_p": 0.01, "groupings": 100}
        shares = dict.fromkeys(("image", "architecture", "seed", "architecture x image", "rest"), 0.2)
        found = {"gap": tested, "permanova": tested, "variance": shares}
        both = len(study.networks) > 1 < len(study.seeds)
        files.write_json(
            "reports/compare/tests.json", {kind: found if both else {} for kind in ("trained", "untrained")}
        )

    def page(self) -> str:
        report.run(self.settings)
        return report.PAGE.read_text()

    def claims(self) -> str:
        found = report_page.rendered_findings(inputs.read_results(self.settings))
        return "\n".join(f"{finding['claim']} {finding['text']}" for finding in found)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return Study(("ulm", "köln <b>"), NETWORKS, (0, 1))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A folder with a study and its report."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study = Study(("ulm", "köln <b>"), NETWORKS, (0, 1))
        study.page()
    return folder, study


@pytest.fixture
def page(drawn: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(drawn[0])
    return report.PAGE.read_text()


def digests() -> dict[str, str]:
    paths = [report.PAGE, *sorted(report.FOLDER.iterdir())]
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in paths}


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page)
    assert sources and all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    assert not re.search(r"<script|<link|<iframe|@import|url\(|https?://", page)
    assert "köln &lt;b&gt;" in page and "köln <b>" not in page
    assert str(Path.cwd()) not in page


def test_every_figure_and_table_is_there(page: str) -> None:
    assert page.count("data:image/png;base64,") == len(FIGURES)
    assert {path.stem for path in report.FOLDER.glob("*.png")} == FIGURES
    names, plain = {"accuracies", "table2", "object_ratio"}, {"metrics", "spots", "kept_ratio", "histories"}
    assert {path.stem for path in report.FOLDER.glob("*.csv")} == names | plain
    assert {path.stem for path in report.FOLDER.glob("*.json")} == names | {"scores", "summary", "findings", "trust"}
    for path in report.FOLDER.glob("*.json"):
        json.loads(path.read_text())
    accuracies = files.read_table(report.FOLDER / "accuracies.csv")
    assert accuracies["paper"].tolist()[::2] == [0.9998, 0.9996, 0.9931, 0.9818]
    assert "all is well (3 of 16 rows)" in page


@pytest.mark.usefixtures("page")
def test_dvc_plots_draws_r_by_object_and_the_curves_of_all_networks() -> None:
    kept = files.read_table(report.FOLDER / "kept_ratio.csv")
    assert kept["object"].tolist()[:3] == ["mark of köln <b> (köln <b>)", "mark of ulm (ulm)", "tree (köln <b>)"]
    assert kept["ratio"].tolist() == pytest.approx([0.8, 0.8, 0.5, 0.5, 0.25, 0.25])
    histories = files.read_table(report.FOLDER / "histories.csv")
    columns = ["training_loss", "validation_loss", "training_accuracy", "validation_accuracy"]
    assert list(histories) == ["network", "epoch", *columns] and len(histories) == 16
    assert histories["network"].tolist()[:3] == ["vgg11-0", "vgg11-0", "vgg11-1"]
    assert histories["epoch"].tolist()[:3] == [1, 2, 1] and histories["validation_loss"].tolist()[:3] == [0.5, 0.7, 0.5]


@pytest.mark.usefixtures("page")
def test_a_run_shows_some_20_main_numbers() -> None:
    shown = report.logged()
    assert shown.metrics["AR ratio"] == pytest.approx(2) and shown.metrics["dead masks"] == 0
    assert shown.metrics["accuracy simpler-1"] == 1.0 and shown.metrics["coverage"] == 0.75
    assert shown.metrics["explained share ulm"] == pytest.approx((0.25 + 0.5 + 0.8) / 3)
    assert 15 <= len(shown.metrics) <= 25 and not any("/" in name for name in shown.metrics)
    assert {path.stem for path in shown.figures} == FIGURES


@pytest.mark.usefixtures("page")
def test_texts_are_escaped_once_in_the_page_and_never_in_json() -> None:
    claims = [finding["claim"] for finding in files.read_json(report.FOLDER / "findings.json")["findings"]]
    assert (
        "köln <b>: in most of 8 networks the explanations cover mark of köln <b> more than chance (q ≤ 0.05)." in claims
    )
    assert (
        "<dt>köln &lt;b&gt;: in most of 8 networks the explanations cover mark of köln &lt;b&gt; more"
        in report.PAGE.read_text()
    )


@pytest.mark.parametrize(
    ("segmenter", "named"),
    [
        ("oracle", "label maps that belong to the data."),
        ("onnx", "an ONNX scene parser."),
        ("csail", "the scene parser resnet50dilated-ppm_deepsup."),
        ("transformers", "the scene parser segformer."),
    ],
)
def test_the_page_names_the_scene_parser_and_only_its_settings(study: Study, segmenter: str, named: str) -> None:
    segment = dataclasses.replace(study.settings.segment, segmenter=segmenter)
    results = inputs.read_results(dataclasses.replace(study.settings, segment=segment))
    text = " ".join(report_page.html(results, [], dict.fromkeys(FIGURES, bytes(20))).split())
    assert f"The names of objects come from {named}" in text
    shown = {name for name in ("onnx", "csail", "transformers") if f">segment.{name}." in text}
    assert shown == {segmenter} - {"oracle"}


def test_two_runs_give_equal_bytes(page: str, drawn: tuple[Path, Study]) -> None:
    before = digests()
    drawn[1].page()
    assert digests() == before


@pytest.mark.usefixtures("page")
def test_r_has_a_column_a_network() -> None:
    table = files.read_table(report.FOLDER / "object_ratio.csv").set_index(["city", "object"])
    row = table.loc[("ulm", "sky")]
    assert [row[f"{network}-1"] for network in NETWORKS] == [0.1, 0.2, 0.3, 0.4]
    assert row["mean"] == pytest.approx(0.25) and row["share"] == pytest.approx((0.25 + 0.5 + 0.8) / 3)


def test_what_the_paper_found_is_said_where_it_holds(study: Study) -> None:
    claims = study.claims()
    assert "All 8 trained networks tell the cities apart better" in claims
    assert "Another architecture changes the masks more than retraining does (p = 0.010)." in claims
    assert "at the same places of an image more than chance: kappa = 0.25, above 0 for 24 of 24 pairs." in claims
    assert "0.400 on average (6 pairs)" in claims and "0.200 (4 pairs), 2.00 times as much" in claims
    assert "As in the paper, every pair of architectures differs more than every retrained pair" in claims
    assert (
        "R says the same: retrained networks use more similar objects than other architectures do (p = 0.010)."
        in claims
    )
    assert "Without position (R less its chance level), p = 0.010." in claims
    assert "ulm: in most of 8 networks the explanations cover mark of ulm more than chance" in claims
    assert "Frequent enough only here: mark of ulm." in claims
    assert "No mask is dead." in claims


def test_the_opposite_is_said_where_that_holds(study: Study) -> None:
    study.pairs(architecture=0.2, retrained=0.3)
    for trained in study.settings.study.trained:
        study.accuracy(key(*trained), 0.5)
        study.named(key(*trained), "ulm")
    study.neighbours(agreement=0.4)
    claims = study.claims()
    assert "No network tells the cities apart better" in claims
    assert "Not shown here: that another architecture changes the masks more than retraining does." in claims
    assert "Unlike in the paper, the two groups overlap" in claims
    assert "R says otherwise: retrained networks use more similar objects" in claims
    assert "Not shown here: that masks of one city lie together." in claims
    assert "for 0 of 6 kept objects" in claims


def test_masks_that_agree_no_more_than_chance_are_the_headline(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.claims().startswith("All 8 trained networks")
    monkeypatch.setitem(BESIDE, "kappa_low", -0.1)
    study.pairs(architecture=0.4, retrained=0.2)
    assert study.claims().startswith("Not shown here: that two architectures agree on an image")
    page = " ".join(study.page().split())
    headline = page.index("What masks show of an image is no more than chance here.")
    assert page.index("<h1>") < headline < page.index("Findings")


def test_a_shortcut_that_comes_near_is_warned_of(study: Study) -> None:
    def answer(accuracy: float) -> str:
        study.probe(accuracy)
        (row,) = (
            row
            for row in report_page.rendered_checks(inputs.read_results(study.settings))
            if row["name"] == "shortcuts"
        )
        return str(row["answer"])

    assert "A warning: this shortcut alone gives 80% of what the networks gain" in answer(0.9)
    assert "A warning" not in answer(0.7)


def test_an_accuracy_that_chance_could_give_is_named(study: Study) -> None:
    study.accuracy("simple-1", 0.625)
    study.named("simple-1", study.test["city"].where(study.test["spot"] < "s2", "ulm"))
    study.named("vgg11-0", study.test["city"].where(study.test["spot"] < "s7", "ulm"))
    claims = study.claims()
    assert "7 of 8 trained networks tell the cities apart better" in claims
    assert "do not exclude chance for Simple, seed 1 (" in claims
    assert "They are left out of the means of R and AR." in claims and "5 pairs" not in claims and "(3 pairs)" in claims
    assert "Over all 21 pairs of trained networks" in claims
    assert "With the networks at chance too, table 2's means are 0.40 and 0.20; so is the test." in claims


def test_checks_stand_beside_chance(study: Study) -> None:
    checks = {row["question"]: row for row in report_page.rendered_checks(inputs.read_results(study.settings))}
    places = checks["Do two architectures look at the same places of an image?"]
    assert (places["value"], places["chance"], places["shown"]) == pytest.approx((0.3, 0.4, True))
    matters = checks["Does the architecture matter more than the initialisation?"]
    assert "p = 0.010; the smallest possible is 0.010" in matters["answer"] and matters["shown"]
    assert checks["Do masks of one city lie together?"]["shown"]
    better = checks["Are they better than a shortcut?"]
    assert (better["value"], better["chance"], better["shown"]) == (1.0, 0.5, True)
    used = checks["Does the network use what its mask shows?"]
    assert (used["value"], used["chance"], used["shown"]) == (0.9, 0.6, True) and "+0.300 (insertion" in used["answer"]
    assert checks["Is a mask about the network?"]["value"] == pytest.approx(0.1)
    answered = {found["question"]: found for found in report_page.answered(list(checks.values()))}
    matter = answered["Do architectures and initialisations matter?"]
    assert [row["name"] for row in matter["yes"]] == ["image", "training", "architecture"] and not matter["no"]
    interpretable = answered["Are the learnt representations interpretable?"]
    assert "image_used" in [row["name"] for row in interpretable["yes"]]
    assert [row["name"] for row in interpretable["no"]] == ["clusters"]  # They lie together before training too.
    study.pairs(architecture=0.2, retrained=0.3)
    study.mask_checks(own=0.6, swapped=0.6)
    study.probe(0.95)
    checks = {row["question"]: row for row in report_page.rendered_checks(inputs.read_results(study.settings))}
    assert not checks["Does the network use what its mask shows?"]["shown"]
    assert not checks["Are they better than a shortcut?"]["shown"]
    answers = report_page.rendered_checks(inputs.read_results(study.settings))
    assert any("Not shown here." in row["answer"] for row in answers)


@pytest.mark.parametrize(("q", "sure"), [(1.0, False), (0.0, True)])
def test_objects_are_covered_more_than_chance_where_q_says_so(study: Study, q: float, sure: bool) -> None:
    results = inputs.read_results(study.settings)
    ratios = results.ratios.assign(q=q, chance=results.ratios["ratio"] - 0.1)
    rows = report_page.rendered_checks(dataclasses.replace(results, ratios=ratios))
    said = [re.search(r"(\d+) of (\d+) values of R differ", row["answer"]) for row in rows if row["name"] == "objects"]
    assert len(said) == len(study.cities)
    for found in said:
        assert found and int(found[1]) == (int(found[2]) if sure else 0) and int(found[2]) > 0
    assert all(row["shown"] == sure for row in rows if row["name"] == "objects")


def test_only_one_is_100_percent(study: Study) -> None:
    assert [report_page._number(value, ".0%") for value in (1.0, 0.996, 0.9, 0.0)] == ["100%", "99.6%", "90%", "0%"]


def test_the_scene_parser_is_shown_beside_people(study: Study) -> None:
    scores = {"images": 16, "coverage": 1.0, "labelled_images": 12, "pixel_accuracy": 0.8, "mean_iou": 0.5}
    files.write_json("reports/segment/scores.json", scores)
    rows = [("sky", "sky", 60), ("tree", "tree", 20), ("tree", "sky", 15), ("tree", "none of these", 5)]
    files.write_table("reports/segment/confusion.csv", pd.DataFrame(rows, columns=["actual", "predicted", "pixels"]))
    sky, tree = report_page.parsed_objects(inputs.read_results(study.settings))
    assert sky == {"object": "sky", "share": 0.6, "right": 1.0, "iou": 0.8, "other": None, "mistaken": None}
    assert tree == {"object": "tree", "share": 0.4, "right": 0.5, "iou": 0.5, "other": "sky", "mistaken": 0.375}
    page = " ".join(study.page().split())
    assert ">sky (37.5%)</td>" in page
    assert "12 test images that people labelled: pixel accuracy 80.0%, mIoU over the 2 objects that occur 50.0%" in page


def test_equal_residuals_are_no_difference(study: Study) -> None:
    study.pairs(architecture=0.3, retrained=0.3)
    claims = study.claims()
    assert "Not shown here: that another architecture changes the masks" in claims and "Unlike in the paper" in claims


def test_three_cities_and_one_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study(("a", "b", "c"), ("resnet18", "simple"), (3,))
    page, claims = study.page(), study.claims()
    assert (
        "Architectures cannot be compared with retraining here." in claims and "Each network was trained once" in claims
    )
    assert {path.stem for path in report.FOLDER.glob("*.png")} == FIGURES
    assert "What tells a, b and c apart?" in page
    scores = files.read_json(report.FOLDER / "scores.json")
    assert "retrained" not in scores["residual"] and scores["residual"]["architecture"] == pytest.approx(0.4)


def test_one_architecture_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study(("a", "b"), ("simple",), (0, 1))
    assert "The study has only one architecture." in study.claims()
    assert study.page().count("data:image/png;base64,") == len(FIGURES)


def test_a_network_whose_masks_are_all_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study(("a", "b"), ("vgg11", "simple"), (0, 1), dead="vgg11-0")
    page, claims = study.page(), study.claims()
    assert claims.split(".")[0] in page
    assert "16 of 64 masks are dead" in claims and "VGG11, seed 0: 16 of 16 (100.0%)" in claims
    assert {path.stem for path in report.FOLDER.glob("*.png")} == FIGURES


def test_only_the_rows_it_shows_are_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched:
        """An array of which parts can be taken, but not the whole."""

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape = array, array.shape

        def __getitem__(self, rows: object) -> np.ndarray:
            part = np.array(self.array[rows])
            assert len(part) <= study.settings.report.thumbnails < len(self.array)
            return part

        def __array__(self, *arguments: object) -> np.ndarray:
            raise AssertionError("read whole")

    opened = files.open_array
    monkeypatch.setattr(files, "open_array", lambda path: Watched(opened(path)))
    assert study.page()
