"""`citylens plan`: hours, disk and what fails first, computed by hand from small costs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import configured
import pytest

from citylens import cli, plan
from citylens.errors import InputError
from citylens.io import files
from citylens.nets.names import NETWORKS
from citylens.settings.schema import Settings

HOUR = 3600.0


def known(side: int) -> dict[str, Any]:
    """Return costs of one second per image, for eight networks."""
    costs = [
        {"stage": f"{stage} {name}", "side": side, "seconds": 1} for stage in ("train", "explain") for name in NETWORKS
    ]
    costs += [
        {"stage": name, "side": side, "networks": 8, "seconds": 1, "memory": 1000, "disk": 280}
        for name in ("measure", "compare")
    ]
    costs += [
        {"stage": name, "seconds": 1, "memory": 1000} for name in ("acquire", "segment", "prepare whole", "embed")
    ]
    return {cost["stage"]: cost for cost in (*costs, {"stage": "near-copies", "seconds": 1e-6})}


@pytest.fixture
def settings() -> Settings:
    demo = configured.settings("demo")
    prepare, train = replace(demo.prepare, shares=(0.6, 0.2, 0.2)), replace(demo.train, epochs=2)
    return replace(demo, prepare=prepare, train=train, embed=replace(demo.embed, most=100))


def test_hours_are_those_of_the_images_that_each_stage_sees(settings: Settings) -> None:
    found = plan.hours(1000, known(settings.prepare.size), settings, machines=2)
    epochs = 2 * (600 + 200 / 3)  # shares .6 and .2; validation images cost a third
    assert found["train"] * HOUR == pytest.approx(8 * epochs / 2)
    assert found["explain"] * HOUR == pytest.approx(8 * 200 * 2 / 2)
    assert found["measure"] * HOUR == found["compare"] * HOUR == pytest.approx(200 / 2)
    assert found["prepare"] * HOUR == pytest.approx(1000 / 2)
    assert found["embed"] * HOUR == pytest.approx(8 * 100)
    assert found["search for near-copies"] * HOUR == pytest.approx(
        3
    )  # by `prepare`, and by `validate` in other splits and cities
    assert "segment" not in found
    double = plan.hours(1000, known(settings.prepare.size // 2 + 1), settings)["explain"]
    assert double / found["explain"] == pytest.approx(2 * (97 / 49) ** 2)


def test_the_disk_holds_what_stages_write(settings: Settings) -> None:
    found = plan.disk(1000, known(97), settings)
    assert found["packed images"] == 3 * 97 * 97 * 1000 and found["labels"] == 97 * 97 * 200
    # At 97 px the maps have 6, 4, 12 and 24 cells per side; two seeds, trained and untrained, float32.
    assert found["maps"] == (36 + 16 + 144 + 576) * 2 * 2 * 4 * 200
    assert found["tables per image"] == pytest.approx(2 * 280 * 200)


def test_what_fails_first_comes_first(settings: Settings) -> None:
    found = plan.limits(known(97), settings, plan.Machines(1, 1e9, 0.1), free=1e15)
    counts = {limit.what.split(":")[0].split(",")[0]: limit.images for limit in found}
    assert list(counts.values()) == sorted(counts.values())
    assert counts["t-SNE no longer shows all masks"] == pytest.approx(500)  # 100 of a fifth
    assert counts["the manifest"] == pytest.approx(1_000_000)
    assert counts["what `measure` and `compare` keep of each image fills the memory"] == pytest.approx(5_000_000)
    assert counts["the search for near-copies takes a day"] == pytest.approx((86_400 / 3e-6) ** 0.5)


def test_a_stage_that_was_not_measured_is_named(settings: Settings) -> None:
    costs = {name: cost for name, cost in known(97).items() if name != "embed"}
    with pytest.raises(InputError, match=r"benchmarks\.json: no cost of embed; `make bench`"):
        plan.hours(1000, costs, settings)


def test_the_command_prints_a_column_per_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write_text(tmp_path / "params.yaml", configured.text("demo"))
    rows = [{"costs": list(known(97).values())}]
    files.write_json(tmp_path / "reports/benchmarks.json", {"all": {"machine": "a machine", "rows": rows}})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", "1000", "2000", "--memory", "8", "--price", "3"]) == 0
    printed = capsys.readouterr().out
    assert "1,000 images" in printed and "2,000 images" in printed and "8 GB of memory, 3 per hour" in printed
    hours, price = (re.search(rf"^{name} +(\S+)", printed, re.MULTILINE) for name in ("all, hours", "price"))
    assert hours and price and float(price[1]) == pytest.approx(3 * float(hours[1]), rel=0.01)
    assert cli.main(["plan", "0"]) == 1
