"""The study's data on real remotes: pushed, pulled elsewhere, killed halfway, damaged, and taken by other repositories."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex

import pytest
import servers
from clones import Clone

from citylens.io import md5s
from citylens.versions import pipeline

pytestmark = pytest.mark.integration
AS_SOMEONE = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")


@dataclass(frozen=True)
class Remote:
    """A DVC remote: its address, settings that may be in git, settings that may not, and the folder its objects lie in."""

    name: str
    address: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def add(self, clone: Clone) -> None:
        clone.run("dvc", "remote", "add", "--force", self.name, self.address)
        for key, value in self.settings.items():
            clone.run("dvc", "remote", "modify", self.name, key, value)

    def unlock(self, clone: Clone) -> None:
        for key, value in ({"url": self.address} | self.secrets).items():
            clone.run("dvc", "remote", "modify", "--local", self.name, key, value)

    def beside(self, ending: str) -> Remote:
        """An empty one of another address on the same server, which clones use once they have unlocked it."""
        address, folder = f"{self.address}-{ending}", self.folder.with_name(f"{self.folder.name}-{ending}")
        return replace(self, address=address, folder=folder)

    def objects(self) -> list[Path]:
        return _objects(self.folder)


def _objects(folder: Path) -> list[Path]:
    return [path for path in folder.glob("files/md5/??/*") if len(path.name.removesuffix(".dir")) == 30]


def _commit(clone: Clone, text: str) -> None:
    clone.run("git", "add", "-A")
    clone.run(*AS_SOMEONE, "commit", "-qm", text)


@pytest.fixture(scope="module")
def source(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has run the study, its dvc.lock and reports committed."""
    clone = finished.copy(tmp_path_factory.mktemp("remotes") / "source")
    _commit(clone, "results")
    return clone


@pytest.fixture(scope="module")
def remotes(source: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Remote]]:
    """An S3, an ssh and a folder remote, known to the source and committed there."""
    with ExitStack() as stack:
        s3 = stack.enter_context(servers.s3(tmp_path_factory.mktemp("s3"), "study", key=token_hex(8)))
        ssh = stack.enter_context(servers.ssh(tmp_path_factory.mktemp("ssh")))
        far = tmp_path_factory.mktemp("far")
        known = [
            Remote(
                "s3",
                "s3://study/data",
                s3.folder / "study/data",
                {"endpointurl": s3.address, "region": "us-east-1"},
                {"access_key_id": s3.key, "secret_access_key": s3.secret},
            ),
            Remote("ssh", f"ssh://{ssh.user}@127.0.0.1:{ssh.port}{far}", far, {}, {"keyfile": str(ssh.keyfile)}),
            Remote("folder", "../folder", source.folder.parent / "folder"),
        ]
        for remote in known:
            remote.add(source)
        source.run("dvc", "remote", "default", "folder")
        _commit(source, "remotes")
        for remote in known:
            remote.unlock(source)
        yield {remote.name: remote for remote in known}


def _elsewhere(source: Clone, name: str, *remotes: Remote) -> Clone:
    """A git clone beside the source, with nothing but what is in git."""
    clone = Clone.at(source.folder.parent / name)
    subprocess.run(["git", "clone", "-q", source.folder, clone.folder], check=True)
    for remote in remotes:
        remote.unlock(clone)
    return clone


@pytest.mark.parametrize("name", ["s3", "ssh", "folder"])
def test_a_pull_elsewhere_is_a_reproduction(source: Clone, remotes: dict[str, Remote], name: str) -> None:
    remote = remotes[name]
    source.run("dvc", "push", "--run-cache", "--remote", name)
    clone = _elsewhere(source, f"at-{name}", remote)
    clone.run("dvc", "pull", "--run-cache", "--remote", name)
    assert clone.ran(clone.run("dvc", "repro")) == []
    assert clone.run("dvc", "status").strip().endswith("up to date.")
    assert {path: md5s.of(clone.folder / path) for path in clone.outputs()} == source.outputs()
    runs = [path.relative_to(source.folder) for path in source.folder.glob(".dvc/cache/runs/*/*/*")]
    assert runs and all((clone.folder / path).exists() for path in runs)
    assert "0 damaged, 0 missing" in clone.run("citylens", "verify")
    assert "0 damaged, 0 missing" in clone.run("citylens", "verify", "--remote", name)


def test_sync_fills_an_empty_database_from_a_pull(source: Clone, remotes: dict[str, Remote]) -> None:
    source.run("dvc", "push", "--remote", "folder")
    clone = _elsewhere(source, "synced")
    clone.run("dvc", "pull")
    made = clone.run("citylens", "sync")
    stages = [name for name in pipeline.declared(source.folder) if not name.startswith(("acquire", "register"))]
    assert f"sync: {len(stages)} run(s) made" in made and all(f"  {name}\n" in made for name in stages)
    assert "sync: 0 run(s) made" in clone.run("citylens", "sync")


def test_secrets_are_not_in_git(source: Clone, remotes: dict[str, Remote]) -> None:
    commits = source.run("git", "rev-list", "--all").split()
    for secret in remotes["s3"].secrets.values():
        assert secret in (source.folder / ".dvc/config.local").read_text()
        source.run("git", "grep", "--quiet", "--fixed-strings", secret, *commits, status=1)
    assert "config.local" not in source.run("git", "status", "--porcelain", "--untracked-files=all")


def _killed(clone: Clone, until: Callable[[], bool], *command: str) -> None:
    """Runs a command, and kills it and all it started in the middle: as soon as a condition holds."""
    process = subprocess.Popen(
        command,
        cwd=clone.folder,
        env=os.environ | {"PYTHONPATH": str(clone.folder / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not until() and process.poll() is None:
        time.sleep(0.002)
    assert process.poll() is None, "the command ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("name", ["s3", "ssh", "folder"])
def test_a_killed_push_and_a_killed_pull_are_repeated_without_loss(
    source: Clone, remotes: dict[str, Remote], name: str
) -> None:
    remote = remotes[name].beside("killed")
    remote.unlock(source)
    command = ("--jobs", "1", "--remote", name)
    _killed(source, lambda: len(remote.objects()) > 3, "dvc", "push", *command)
    pushed = len(remote.objects())
    source.run("dvc", "push", "--remote", name)
    assert 0 < pushed < len(remote.objects())
    assert "0 damaged, 0 missing" in source.run("citylens", "verify", "--remote", name)
    clone = _elsewhere(source, f"killed-{name}", remote)
    cache = clone.folder / ".dvc/cache"
    _killed(clone, lambda: len(_objects(cache)) > 3, "dvc", "pull", *command)
    pulled = len(_objects(cache))
    clone.run("dvc", "pull", "--remote", name)
    assert 0 < pulled < len(_objects(cache))
    assert "0 damaged, 0 missing, 0 different" in clone.run("citylens", "verify")
    assert clone.run("dvc", "status").strip().endswith("up to date.")
    remotes[name].unlock(source)


def _damage(path: Path) -> None:
    """Another byte in the middle; size, time and rights stay, as where a disk rots."""
    state = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(state.st_size // 2)
        byte = file.read(1)
        file.seek(state.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(stat.S_IMODE(state.st_mode))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def _object(folder: Path, clone: Clone, path: str) -> Path:
    md5 = md5s.of(clone.folder / path)
    return folder / "files/md5" / md5[:2] / md5[2:]


MASKS = "data/explain/resnet18-0/masks.npy"


def test_damage_in_the_cache_is_named_and_mended(source: Clone, remotes: dict[str, Remote]) -> None:
    source.run("dvc", "push", "--remote", "folder")
    clone = _elsewhere(source, "rotten")
    clone.run("dvc", "pull")
    damaged = _object(clone.folder / ".dvc/cache", clone, MASKS)
    whole = damaged.read_bytes()
    _damage(damaged)
    printed = clone.run("citylens", "verify", status=1)
    assert f"damaged: {damaged} ({MASKS})" in printed
    assert f"different: {MASKS} (data/explain/resnet18-0)" in printed
    assert "1 damaged, 0 missing, 1 different" in printed
    clone.run("citylens", "verify", "--remove", status=1)
    clone.run("dvc", "pull")
    assert damaged.read_bytes() == (clone.folder / MASKS).read_bytes() == whole
    assert "0 damaged, 0 missing, 0 different" in clone.run("citylens", "verify")


@pytest.mark.parametrize("name", ["s3", "ssh", "folder"])
def test_damage_in_a_remote_is_named_and_mended(source: Clone, remotes: dict[str, Remote], name: str) -> None:
    remote = remotes[name]
    source.run("dvc", "push", "--remote", name)
    damaged = _object(remote.folder, source, MASKS)
    _damage(damaged)
    printed = source.run("citylens", "verify", "--remote", name, status=1)
    assert f"({MASKS})" in printed and "1 damaged, 0 missing" in printed
    clone = _elsewhere(source, f"refusing-{name}", remote)
    clone.run("dvc", "remote", "modify", "--local", name, "verify", "true")
    refused = clone.run("dvc", "pull", "--remote", name, status=1)  # names the output, or on S3 the object
    assert "data/explain/resnet18-0" in refused or md5s.of(source.folder / MASKS) in refused
    assert not _object(clone.folder / ".dvc/cache", source, MASKS).exists()
    source.run("citylens", "verify", "--remote", name, "--remove", status=1)
    source.run("dvc", "push", "--remote", name)
    assert damaged.read_bytes() == (source.folder / MASKS).read_bytes()
    assert "0 damaged, 0 missing" in source.run("citylens", "verify", "--remote", name)
    clone.run("dvc", "pull", "--remote", name)
    assert clone.run("dvc", "status").strip().endswith("up to date.")


WANTED = ("data/explain/resnet18-0", "data/segment", "models/train/resnet18-0")


def test_other_repositories_take_masks_a_segmentation_and_a_network(
    source: Clone, remotes: dict[str, Remote], tmp_path: Path
) -> None:
    source.run("dvc", "push", "--remote", "folder")
    source.run(*AS_SOMEONE, "tag", "-a", "resnet18-0@v1.0.0", "-m", "first")
    upstream = _elsewhere(source, "upstream")
    other = Clone.at(tmp_path / "other")
    other.folder.mkdir()
    other.run("git", "init", "-q")
    other.run("dvc", "init", "-q")
    # A file:// address is cloned to another place, from where a relative remote leads nowhere.
    absolute = ("--remote", "folder", "--remote-config", f"url={remotes['folder'].folder}")
    for path in WANTED:
        out = path.replace("/", "-")
        other.run("dvc", "get", str(upstream.folder), path, "--out", f"{out}-0")
        other.run("dvc", "get", upstream.folder.as_uri(), path, "--out", f"{out}-1", *absolute)
        assert md5s.of(other.folder / f"{out}-0") == md5s.of(other.folder / f"{out}-1") == _in_lock(source, path)
        out = f"imported-{out}"
        other.run("dvc", "import", str(upstream.folder), path, "--out", out)
        assert md5s.of(other.folder / out) == _in_lock(source, path)
        assert upstream.run("git", "rev-parse", "HEAD").strip() in (other.folder / f"{out}.dvc").read_text()
    other.run("dvc", "update", "imported-data-segment.dvc")
    other.run("dvc", "artifacts", "get", str(upstream.folder), "resnet18-0", "--rev", "v1.0.0", "--out", "artifact")
    assert md5s.of(other.folder / "artifact") == _in_lock(source, "models/train/resnet18-0")


def _in_lock(clone: Clone, path: str) -> str:
    return clone.outputs()[path]
