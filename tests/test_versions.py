"""What `versions` reads and computes without DVC is what DVC itself says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from citylens.adapters import git, md5s, versions
from citylens.adapters.versions import read_yaml
from citylens.settings import InputError

ROOT = Path(__file__).parents[1]
DVC = str(Path(sys.executable).with_name("dvc"))
PARAMS = "networks: [vgg11, simple]\nseeds: [0, 1]\ntrain:\n  rate: 1e-05\n  path: words.txt\n  flip: false\nsize: 32\n"
PIPELINE = """
stages:
  gather:
    cmd: mkdir -p data/a/b && cp words.txt data/a/b/ä.txt && cp words.txt data/z.txt && touch data/empty
    deps: [words.txt]
    outs:
      - data/:
          persist: true
  train:
    matrix:
      network: ${networks}
      seed: ${seeds}
    cmd: mkdir -p out && echo ${item.network} ${item.seed} ${train.flip} > out/${item.network}-${item.seed}.txt
    deps:
      - ${train.path}
      - data
    params:
      - train
      - size
    outs:
      - out/${item.network}-${item.seed}.txt:
          cache: false
  count:
    cmd: wc -c data/z.txt > count.txt && echo 1 > count.json
    deps: [data/z.txt, out]
    params: [train.rate]
    metrics:
      - count.json:
          cache: false
    plots:
      - count.txt
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    for name, text in {"params.yaml": PARAMS, "dvc.yaml": PIPELINE, "words.txt": "one\r\ntwo\n"}.items():
        (folder / name).write_bytes(text.encode())
    for command in (["init", "-q", "--no-scm"], ["repro", "-q"]):
        subprocess.run([DVC, *command], cwd=folder, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "true"})
    return folder


def test_md5s_are_those_of_dvc(pipeline):
    recorded = versions.recorded(pipeline)
    assert recorded["gather"].outs["data"].endswith(".dir")
    for entry in recorded.values():
        for path, md5 in [*entry.deps.items(), *entry.outs.items()]:
            assert md5s.of(pipeline / path) == md5, path


def test_a_stage_resolves_as_dvc_resolves_it(pipeline):
    declared, recorded = versions.declared(pipeline), versions.recorded(pipeline)
    assert list(declared) == ["gather", "train@vgg11-0", "train@vgg11-1", "train@simple-0", "train@simple-1", "count"]
    assert set(declared) == set(recorded)
    for name, stage in declared.items():
        assert stage.cmd == recorded[name].cmd
        assert set(stage.deps) == set(recorded[name].deps)
        assert set(stage.outs) == set(recorded[name].outs)


@pytest.mark.parametrize("under_dvc", [True, False])
def test_a_fingerprint_is_the_same_inside_the_stage_and_from_the_lock(pipeline, monkeypatch, under_dvc):
    monkeypatch.setenv("DVC_STAGE", "any") if under_dvc else monkeypatch.delenv("DVC_STAGE", raising=False)
    prints = set()
    for name, entry in versions.recorded(pipeline).items():
        begun = versions.begun(name, pipeline)
        assert begun is not None
        assert begun.fingerprint() != entry.fingerprint()
        assert versions.finished(begun, pipeline).fingerprint() == entry.fingerprint()
        prints.add(entry.fingerprint())
    assert len(prints) == 6


def test_a_fingerprint_tells_values_and_files_apart(pipeline, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(pipeline, folder)
    entry = versions.recorded(folder)["train@simple-1"]
    assert versions.finished(versions.begun(entry.name, folder), folder).fingerprint() == entry.fingerprint()
    (folder / "params.yaml").write_text(PARAMS.replace("1e-05", "2e-05"))
    assert versions.finished(versions.begun(entry.name, folder), folder).fingerprint() != entry.fingerprint()
    (folder / "params.yaml").write_text(PARAMS)
    assert versions.present(entry, folder)
    (folder / "out/simple-1.txt").write_text("other")
    assert not versions.present(entry, folder)
    (folder / "out/simple-1.txt").unlink()
    assert not versions.present(entry, folder)


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    from ruamel.yaml import YAML

    text = "a: 1e-05\nb: no\nc: 12\nd: null\ne:\nf: true\ng: 0.0001\nh: 12:30\ni: [1, -2.5, x, ~, .inf]\nj: '3'\nk: on\nl: 1_000\nm: +3\n"
    (tmp_path / "x.yaml").write_text(text)
    values = read_yaml(tmp_path / "x.yaml")
    theirs = YAML(typ="safe").load(text)
    del values["l"], theirs["l"]  # the one difference: YAML 1.2 has no digit groups
    assert json.dumps(values) == json.dumps(theirs)
    assert yaml.safe_load(text)["b"] is False  # what PyYAML by itself makes of it


def test_names_lead_to_modules():
    assert versions.module_and_item("train@vgg11-10") == ("train", ("vgg11", 10))
    assert versions.module_and_item("validate_images") == ("validate", ("images",))
    assert versions.module_and_item("measure") == ("measure", ())


def test_a_key_that_params_lack_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("a: {b: 1}\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  x:\n    cmd: echo ${a.c}\n")
    with pytest.raises(InputError, match=r"params\.yaml: missing key a\.c, which dvc\.yaml names"):
        versions.declared(tmp_path)


def test_git_state_ignores_what_a_reproduction_writes(tmp_path):
    def call_git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments], cwd=tmp_path, check=True
        )

    assert git.state(tmp_path) == {}
    call_git("init", "-q")
    assert git.state(tmp_path) == {}
    (tmp_path / "code.py").write_text("1")
    call_git("add", ".")
    call_git("commit", "-qm", "first")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/x.json").write_text("{}")
    (tmp_path / "dvc.lock").write_text("")
    state = git.state(tmp_path)
    assert len(state["commit"]) == 40
    assert state["dirty"] == "false"
    (tmp_path / "code.py").write_text("2")
    assert git.state(tmp_path)["dirty"] == "true"


def test_artifacts_name_the_networks_of_the_default_study():
    named = read_yaml(ROOT / "dvc.yaml")["artifacts"]
    stages = versions.declared(ROOT)
    trained = {f"models/train/{name.removeprefix('train@')}" for name in stages if name.startswith("train@")}
    assert {entry["path"] for entry in named.values()} == trained
    assert all(entry["path"] == f"models/train/{name}" and entry["type"] == "model" for name, entry in named.items())
