"""Profiles: the demo with its comments, and others that say only what differs from it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import configured
import pytest
import yaml

from citylens.errors import InputError
from citylens.settings import parser, profiles

OVERLAYS = ("smoke", "photos", "paper")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(configured.ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leaves(mapping: dict, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in mapping.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
    return found


@pytest.mark.parametrize("profile", OVERLAYS)
def test_a_profile_says_what_differs_from_the_demo_and_nothing_else(profile: str) -> None:
    own = leaves(yaml.safe_load((configured.ROOT / f"profiles/{profile}.yaml").read_text()))
    demo, whole = (leaves(configured.mapping(name)) for name in ("demo", profile))
    assert list(demo) == list(whole)
    assert {key: value for key, value in whole.items() if value != demo[key]} == own


@pytest.mark.parametrize("profile", OVERLAYS)
def test_a_profile_keeps_the_demos_comments_but_has_a_head_of_its_own(profile: str) -> None:
    demo, whole = configured.text("demo"), configured.text(profile)
    assert whole.startswith(f"# {profile}: ") and "# demo: " not in whole
    comments = [line.partition(" # ")[2] for line in demo.splitlines()]
    assert all(comment in whole for comment in comments)
    assert "address: null" in " ".join(whole.split())


def test_the_demo_is_written_as_it_stands() -> None:
    assert configured.text("demo") == (configured.ROOT / "profiles/demo.yaml").read_text()


def test_the_params_in_git_are_the_demos() -> None:
    """Those of the working tree may be another profile's meanwhile."""
    show = ["git", "show", "HEAD:params.yaml"]
    found = subprocess.run(show, cwd=configured.ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("params.yaml is not in git here")
    demo = ["git", "show", "HEAD:profiles/demo.yaml"]
    assert found.stdout == subprocess.run(demo, cwd=configured.ROOT, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {epoch: 3}", r"profiles/mine\.yaml: unknown key train\.epoch; allowed: the keys of profiles/demo"),
        ("trian: {epochs: 3}", r"profiles/mine\.yaml: unknown key trian"),
        ("train: {epochs: many}", r"train\.epochs is 'many'"),
        ("train: 3", r"train is 3; allowed: a mapping"),
        ("segment: {onnx: {size: 3}}", r"segment\.onnx\.size is 3"),
        ("a: [", r"profiles/mine\.yaml: not YAML"),
        ("[train]", r"profiles/mine\.yaml: not a mapping"),
    ],
)
def test_a_profile_that_is_not_allowed_is_named(project: Path, text: str, said: str) -> None:
    (project / "profiles/mine.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        profiles.text("mine")


def test_what_the_demo_leaves_empty_a_profile_fills_and_a_change_replaces(project: Path) -> None:
    (project / "profiles/mine.yaml").write_text("segment: {merge: {house: building}}\nstudy: {seeds: [4, 5, 6]}\n")

    def merged(*changes: str) -> dict[str, str]:
        return parser.parse(yaml.safe_load(profiles.text("mine", changes))).segment.merge

    assert merged() == {"house": "building"} and merged("segment.merge={}") == {}
    assert parser.parse(yaml.safe_load(profiles.text("mine"))).study.seeds == (4, 5, 6)
