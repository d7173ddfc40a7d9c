"""What `versions` reads and computes without DVC is what DVC itself says."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import configured
import pytest
import yaml

from citylens.errors import InputError
from citylens.io import md5s
from citylens.io.files import read_json
from citylens.io.yaml_files import read_optional_yaml, read_yaml
from citylens.nets.names import key
from citylens.versions import edits, git, pipeline, verify

ROOT = Path(__file__).parents[1]
DVC = str(Path(sys.executable).with_name("dvc"))
PARAMS = "networks: [vgg11, simple]\nseeds: [0, 1]\ntrain:\n  rate: 1e-05\n  path: words.txt\n  flip: false\nsize: 32\n"
PIPELINE = """
stages:
  gather:
    cmd: >-
      mkdir -p data/a/b data/__pycache__ && cp words.txt data/a/b/ä.txt && cp words.txt data/z.txt &&
      touch data/empty data/__pycache__/z.pyc data/.z.1.draft
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
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    shutil.copy(ROOT / ".dvcignore", folder)
    for name, text in {"params.yaml": PARAMS, "dvc.yaml": PIPELINE, "words.txt": "one\r\ntwo\n"}.items():
        (folder / name).write_bytes(text.encode())
    for command in (["init", "-q", "--no-scm"], ["repro", "-q"]):
        subprocess.run([DVC, *command], cwd=folder, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "true"})
    return folder


def test_md5s_are_those_of_dvc(project):
    recorded = pipeline.recorded(project)
    assert recorded["gather"].outs["data"].endswith(".dir")
    for entry in recorded.values():
        for path, md5 in [*entry.deps.items(), *entry.outs.items()]:
            assert md5s.of(project / path) == md5, path


def test_a_stage_resolves_as_dvc_resolves_it(project):
    declared, recorded = pipeline.declared(project), pipeline.recorded(project)
    assert list(declared) == ["gather", "train@vgg11-0", "train@vgg11-1", "train@simple-0", "train@simple-1", "count"]
    assert set(declared) == set(recorded)
    for name, stage in declared.items():
        assert {file: set(keys) for file, keys in stage.params.items()} == {
            file: set(values) for file, values in recorded[name].params.items()
        }
        assert set(stage.deps) == set(recorded[name].deps)
        assert set(stage.outs) == set(recorded[name].outs)


def test_a_lock_that_is_cut_is_noticed_wherever_it_is_cut(project, tmp_path):
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    lock, whole = tmp_path / "dvc.lock", pipeline.recorded(project)
    text = lock.read_text()
    assert pipeline.behind(None, tmp_path) == pipeline.behind(text, tmp_path) == []
    first = text.index("  gather:")
    for end in range(first, len(text), 3):
        lock.write_text(text[:end])
        try:
            noticed = bool(pipeline.behind(text, tmp_path))
        except InputError as error:
            noticed = "dvc.lock: " in str(error)
        assert noticed or pipeline.recorded(tmp_path) == whole, text[end - 100 : end]
    lock.write_text(text[: text.index("md5:", text.index("  count:")) + 12])
    with pytest.raises(
        InputError, match=r"^.*dvc\.lock: the entry of count is cut short, no whole md5 of data/z\.txt; `git"
    ):
        pipeline.behind(None, tmp_path)
    lock.write_text(text[: text.index("  count:")])
    assert pipeline.behind(text, tmp_path) == ["count"]
    (tmp_path / "dvc.yaml").write_text(PIPELINE.partition("  count:")[0])
    assert pipeline.behind(text, tmp_path) == []


@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml", "params.yaml", "suite.json"])
def test_marks_of_a_conflict_are_named(project, tmp_path, name):
    """As git leaves them, also with the common ancestor and with the line ends of Windows."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    read = read_json if name.endswith("json") else read_yaml
    for end, old in (("\n", ""), ("\r\n", "||||||| a1b2c3d{0}train: 0{0}")):
        (tmp_path / name).write_bytes(
            f"a: 1{end}<<<<<<< HEAD{end}b: 1{end}{old.format(end)}======={end}b: 2{end}>>>>>>> x{end}".encode()
        )
        with pytest.raises(InputError, match=rf"{name}: line 2 is git's mark of a conflict; allowed: one side \(docs/"):
            read(tmp_path / name)


def test_a_fingerprint_tells_all_parts_of_an_entry_apart(project):
    entries = pipeline.recorded(project)
    assert len({entry.fingerprint() for entry in entries.values()}) == 6
    entry = entries["train@simple-1"]
    changes = {
        "name": "x",
        "cmd": "x",
        "deps": {**entry.deps, "data": "x"},
        "params": {"params.yaml": {**entry.params["params.yaml"], "size": 33}},
        "outs": {**entry.outs, "out/simple-1.txt": "x"},
    }
    changed = {dataclasses.replace(entry, **{name: value}).fingerprint() for name, value in changes.items()}
    assert len(changed | {entry.fingerprint()}) == 6
    assert entry.fingerprint() == pipeline.recorded(project)[entry.name].fingerprint()


def test_results_that_are_changed_or_gone_are_not_present(project, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(project, folder)
    entry = pipeline.recorded(folder)["train@simple-1"]
    assert pipeline.present(entry, folder)
    (folder / "out/simple-1.txt").write_text("other")
    assert not pipeline.present(entry, folder)
    (folder / "out/simple-1.txt").unlink()
    assert not pipeline.present(entry, folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: Path("code/net.py").write_text("2"), "code/net.py changed"),
        (lambda: Path("code/new.py").write_text("2"), "code/new.py changed"),
        (lambda: Path("code/net.py").unlink(), "code/net.py changed"),
        (lambda: Path("params.yaml").write_text("train: {rate: 2}\nother: 1\n"), "train changed"),
        (lambda: Path("params.yaml").write_text("train: {rate: 1}\nother: 2\n"), None),
        (lambda: Path("code/__pycache__/new.pyc").touch(), None),
        (lambda: Path("beside").touch(), None),
    ],
)
def test_an_edit_while_a_stage_runs_is_named(tmp_path, monkeypatch, change, named):
    monkeypatch.chdir(tmp_path)
    Path("code/__pycache__").mkdir(parents=True)
    Path("code/net.py").write_text("1")
    Path("params.yaml").write_text("train: {rate: 1}\nother: 1\n")
    Path("dvc.yaml").write_text("stages:\n  train:\n    cmd: x\n    deps: [code]\n    params: [train]\n")
    refused = pytest.raises(InputError, match=f"^{named} while the stage ran") if named else nullcontext()
    with refused, edits.watched("train"):
        change()


def rot(path):
    """Change a byte in place, and so in every hard link; size and time stay."""
    state = path.stat()
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    path.chmod(0o444)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    md5s._file_md5.cache_clear()  # as in a new process


@pytest.fixture
def linked(tmp_path, monkeypatch):
    """A project with a folder whose files are hard links to DVC's cache."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in "ab":
        Path("data", name).write_text(name)
    for command in (["init", "-q", "--no-scm"], ["config", "cache.type", "hardlink"], ["add", "-q", "data"]):
        subprocess.run([DVC, *command], check=True, env=os.environ | {"DVC_NO_ANALYTICS": "true"})
    assert Path("data/a").stat().st_nlink == 2
    return tmp_path


def cached(path):
    md5 = md5s.of(path)
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


def test_damage_is_found_by_reading_all(linked):
    damaged, gone = cached("data/a"), cached("data/b")
    assert verify.verify() == (3, [])
    rot(Path("data/a"))
    gone.unlink()
    looked, found = verify.verify()
    assert looked == 3
    assert {(one.state, os.path.relpath(one.location), one.path) for one in found} == {
        ("damaged", str(damaged), "data/a"),
        ("missing", str(gone), "data/b"),
        ("different", "data/a", "data"),
    }
    assert damaged.exists()
    verify.verify(remove=True)
    assert not damaged.exists() and not Path("data/a").exists() and Path("data/b").exists()


def test_mend_removes_damage_and_reads_only_what_has_another_time(linked, monkeypatch):
    damaged = cached("data/a")
    assert verify.mend() == []
    rot(Path("data/a"))
    assert verify.mend() == []
    os.utime("data/a", ns=(0, 0))
    assert [(one.state, one.path) for one in verify.mend()] == [("damaged", "data/a")]
    assert not damaged.exists() and not Path("data/a").exists()
    assert cached("data/b").exists() and verify.mend() == []


def test_what_is_no_dvc_project_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^not all could be verified: "):
        verify.verify()


def test_yaml_is_read_as_dvc_reads_it(tmp_path):
    from ruamel.yaml import YAML

    text = "a: 1e-05\nb: no\nc: 12\nd: null\ne:\nf: true\ng: 0.0001\nh: 12:30\ni: [1, -2.5, x, ~, .inf]\nj: '3'\nk: on\nl: 1_000\nm: +3\n"
    (tmp_path / "x.yaml").write_text(text)
    values = read_optional_yaml(tmp_path / "x.yaml")
    theirs = YAML(typ="safe").load(text)
    del values["l"], theirs["l"]  # the one difference: YAML 1.2 has no digit groups
    assert json.dumps(values) == json.dumps(theirs)
    assert yaml.safe_load(text)["b"] is False  # what PyYAML by itself makes of it


def test_names_lead_to_modules():
    assert pipeline.module_and_item("train@vgg11-10") == ("train", ("vgg11", 10))
    assert pipeline.module_and_item("validate_images") == ("validate", ("images",))
    assert pipeline.module_and_item("measure") == ("measure", ())


def test_a_key_that_params_lack_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("a: {b: 1}\n")
    (tmp_path / "dvc.yaml").write_text("stages:\n  x:\n    cmd: echo ${a.c}\n")
    with pytest.raises(InputError, match=r"params\.yaml: missing key a\.c, which dvc\.yaml names"):
        pipeline.declared(tmp_path)


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
    named = read_optional_yaml(ROOT / "dvc.yaml")["artifacts"]
    trained = {f"models/train/{key(*trained)}" for trained in configured.settings("demo").study.trained}
    assert {entry["path"] for entry in named.values()} == trained
    assert all(entry["path"] == f"models/train/{name}" and entry["type"] == "model" for name, entry in named.items())


def test_a_clone_has_the_same_bytes_whatever_line_ends_git_makes(tmp_path: Path) -> None:
    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    (tmp_path / "metrics.csv").write_bytes(b"metric,value\naccuracy,1\n")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", str(tmp_path), str(clone)], check=True)
    assert (clone / "metrics.csv").read_bytes() == b"metric,value\naccuracy,1\n"
