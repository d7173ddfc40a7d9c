"""Raw data that are not those that the results were made from, and how they come into the project."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import configured
import pytest
import yaml

from citylens.acquire import links
from citylens.errors import InputError
from citylens.io import md5s
from citylens.segment import files_needed
from citylens.versions import raw


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stage that reads weights which git ignores, beside a .gitkeep that it holds; and the stage's line in dvc.lock."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/.gitkeep").touch()
    (tmp_path / "models/weights.bin").write_bytes(b"weights")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  segment:\n    cmd: x\n    deps: [models, data/made]\n    outs: [data/segment]\n"
        "  make:\n    cmd: x\n    outs: [data/made/one]\n"
    )
    (tmp_path / "data/made/one").mkdir(parents=True)
    deps = [{"path": path, "hash": "md5", "md5": md5s.of(path)} for path in ("models", "data/made")]
    stages = {
        "segment": {"cmd": "x", "deps": deps},
        "dropped": {"cmd": "x", "deps": [{"path": "models", "md5": "old"}]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    return tmp_path


def test_weights_beside_a_file_of_git_are_raw(project: Path) -> None:
    assert raw.check() == []
    (project / "data/made/one/new").touch()  # another stage's matter
    assert raw.check() == []
    (project / "models/weights.bin").write_bytes(b"others")
    with pytest.raises(InputError, match=r"models: 1 edited \(weights\.bin\)"):
        raw.check()
    assert raw.check(accept=True) == ["models"]


def test_files_that_are_new_or_gone_are_named(project: Path) -> None:
    assert raw.check() == []
    (project / "models/weights.bin").unlink()
    for number in range(7):
        (project / f"models/{number}.bin").touch()
    with pytest.raises(
        InputError,
        match=r"models: 7 new \(0\.bin, 1\.bin, 2\.bin, 3\.bin, 4\.bin, \.\.\.\), 1 gone \(weights\.bin\)\. Put",
    ):
        raw.check()
    subprocess.run(["git", "rm", "-q", "--cached", "models/.gitkeep"], check=True)
    shutil.rmtree(project / "models")
    with pytest.raises(InputError, match=r"made from: models is gone\."):
        raw.check()


def test_without_an_earlier_check_the_md5s_are_named(project: Path) -> None:
    (project / "models/weights.bin").write_bytes(b"others")
    with pytest.raises(InputError, match=rf"models has md5 {md5s.of('models')}, not \w{{32}}\.dir\."):
        raw.check()
    assert raw.check(accept=True) == ["models"]
    listing = next(Path(".citylens/raw").glob("*/*"))
    listing.chmod(0o644)
    listing.write_text("spoilt")
    with pytest.raises(InputError, match=r"models has md5"):
        raw.check()


def test_a_link_to_nothing_is_named(project: Path) -> None:
    (project / "models/.#weights.bin").symlink_to("nobody@nowhere")
    with pytest.raises(InputError, match=r"models/\.#weights\.bin: a link to nothing"):
        raw.check()


def test_a_scene_parser_that_lacks_a_file_is_named(tmp_path: Path) -> None:
    plan = configured.settings("paper").segment
    for name in ("encoder", "decoder"):
        with pytest.raises(
            InputError, match=rf"segment\.csail\.{name}: .*{name}_epoch_20\.pth: no such file; `citylens fetch"
        ):
            files_needed.check_files(dataclasses.replace(plan, path=str(tmp_path)))
        (tmp_path / f"{name}_epoch_20.pth").touch()
    files_needed.check_files(dataclasses.replace(plan, path=str(tmp_path)))


def test_two_rows_bring_one_file_once(tmp_path: Path) -> None:
    source, target = tmp_path / "labels.png", tmp_path / "data/labels.png"
    source.write_bytes(b"labels")
    links.link(str(source), str(target))
    links.link(str(source), str(target))
    assert target.read_bytes() == b"labels"


def test_a_file_of_somebody_else_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    source, target = tmp_path / "photo.jpg", tmp_path / "data/photo.jpg"
    source.write_bytes(b"photo")
    monkeypatch.setattr(os, "chmod", refused)
    monkeypatch.setattr(links, "_clone", refused)
    links.link(str(source), str(target))
    assert target.read_bytes() == b"photo" and not target.samefile(source)
