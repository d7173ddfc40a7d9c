"""Small inputs of real use that once failed (../shared/cases): each is read, or refused for the right reason."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from configured import mapping

from citylens import cli
from citylens.io import files

SHARED = Path(__file__).resolve().parents[2] / "shared"
CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the cases beside the checkout")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that runs a stage with changed settings and returns its exit status and its messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("suites").symlink_to(Path(__file__).resolve().parents[1] / "suites")
    for folder in ("reports/prepare", "reports/segment", "reports/validate", "reports/data_docs"):
        Path(folder).mkdir(parents=True)

    def stage(*command: str, **changes: dict[str, Any]) -> tuple[int, str]:
        values = mapping("smoke")
        for section, own in changes.items():
            values[section] |= own
        Path("params.yaml").write_text(yaml.safe_dump(values))
        status = cli.main(command)
        return status, capsys.readouterr().err

    return stage


def manifest(case: str) -> dict[str, Any]:
    return {"source": "manifest", "path": str(CASES / case / "photos")}


def test_02_several_cities_in_one_folder(run: Any) -> None:
    plan = mapping("paper")["acquire"]["datasets"][0] | {"layout": "vpr", "choose": "all"}
    both = [plan | {"city": name, "path": f"msls/{name}"} for name in ("train", "val")]
    status, said = run("acquire", acquire={"source": "datasets", "path": str(CASES / "02" / "msls"), "datasets": both})
    assert status == 1 and "several cities in one folder? notes end with: boston, zurich; allowed: note: NAME" in said


@pytest.mark.parametrize(
    ("case", "command", "said"),
    [
        ("04", ("validate", "images"), "JPEG"),
        ("07", ("acquire",), "column city stands there 2 times"),
        ("17", ("validate", "images"), '"no file is of two cities"'),
    ],
)
def test_what_is_refused(run: Any, case: str, command: tuple[str, ...], said: str) -> None:
    status, message = 0, ""
    for stage in dict.fromkeys((("acquire",), command)):
        status, message = run(*stage, acquire=manifest(case))
    assert status == 1 and said in message


def test_06_what_is_left_out_is_counted(run: Any) -> None:
    status, said = run("acquire", acquire={"source": "folder", "path": str(CASES / "06" / "photos")})
    assert status == 0 and ".heic" in said.lower()
    endings = {Path(path).suffix.lower() for path in files.read_table("data/acquire/manifest.csv")["path"]}
    assert {".jfif", ".avif"} <= endings


def test_08_one_city_in_two_forms_is_one(run: Any) -> None:
    status, said = run("acquire", acquire=manifest("08"))
    assert (status, said) == (0, "")
    assert files.read_table("data/acquire/manifest.csv")["city"].nunique() == 2


def test_09_a_png_with_much_text_is_read(run: Any, tmp_path: Path) -> None:
    for city in ("a", "b"):
        (tmp_path / "photos" / city).mkdir(parents=True)
        for number, path in enumerate(sorted((CASES / "09").glob("*.png")) * 3):
            shutil.copy(path, tmp_path / "photos" / city / f"{number}.png")
    assert run("acquire", acquire={"source": "folder", "path": "photos"}) == (0, "")


def test_12_turned_photographs_are_warned_of(run: Any) -> None:
    assert run("acquire", acquire=manifest("12"))[0] == 0
    status, said = run("validate", "images", acquire=manifest("12"))
    assert status == 0 and "acquire.labels_orientation" in said


@pytest.mark.parametrize(
    ("segment", "status", "said"),
    [
        (
            {"segmenter": "onnx", "path": str(CASES / "03" / "l_nan")},
            1,
            "gives NaN or infinity; allowed: finite numbers",
        ),
        ({"segmenter": "transformers", "path": str(CASES / "19" / "d_fp16")}, 0, ""),
        ({"segmenter": "transformers", "path": str(CASES / "19" / "e_nan")}, 1, "finite"),
    ],
    ids=["03", "19 fp16", "19 NaN"],
)
def test_scene_parsers(run: Any, segment: dict[str, Any], status: int, said: str) -> None:
    if segment["segmenter"] == "transformers":
        pytest.importorskip("transformers")
    segment |= {"onnx": mapping("smoke")["segment"]["onnx"] | {"size": 64, "layout": "NCHW", "offset": 1}}
    for name in ("barcelona", "boston"):
        Path("photos", name).mkdir(parents=True)
        for path in sorted((SHARED / "streets" / "images").glob(f"{name}*.jpg"))[:6]:
            shutil.copy(path, Path("photos", name))
    plan = {"source": "folder", "path": "photos"}
    for stage in ("acquire", "prepare"):
        assert run(stage, acquire=plan)[0] == 0
    found, message = run("segment", acquire=plan, segment=segment)
    assert found == status and said in message, message
