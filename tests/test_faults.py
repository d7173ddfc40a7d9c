"""Faults injected into real runs: each is survived, nothing is lost, nothing wrong is passed on. The table: docs/faults.md."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import yaml
from clones import ROOT, SECONDS, Clone, wait_for
from servers import free_port

pytestmark = pytest.mark.integration
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def study(finished: Clone) -> Clone:
    """A clone in which nothing went wrong."""
    return finished


@pytest.fixture
def copy(study: Clone, tmp_path: Path) -> Clone:
    return study.copy(tmp_path / "copy")


def items(stage: str) -> list[str]:
    """The stage's names in `dvc repro`, of the smoke profile's first network where it has several."""
    return [f"{stage}@resnet18-0"] if "matrix" in STAGES[stage] else [stage]


def forget(clone: Clone, stage: str) -> None:
    """Makes DVC run a stage again: its outputs, its cached runs and its line in dvc.lock are gone."""
    lock = clone.folder / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    for out in content["stages"].pop(stage)["outs"]:
        path = clone.folder / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    lock.write_text(yaml.safe_dump(content))
    shutil.rmtree(clone.folder / ".dvc/cache/runs", ignore_errors=True)


def started(clone: Clone, *command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=clone.folder,
        env=clone.environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stage_process(clone: Clone) -> int | None:
    """The process of the stage that runs in the clone."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if (
                len(words) > 2
                and words[1].endswith(b"/citylens")
                and (process / "cwd").resolve() == clone.folder.resolve()
            ):
                return int(process.name)
        except OSError:
            continue
    return None


AT_WORK = {
    "acquire": 1.5,
    "prepare": 1.0,
    "segment": 1.5,
    "measure": 1.0,
    "compare": 1.0,
    "register": 0.7,
}  # others: 3.5 s


@pytest.mark.parametrize("stage", [item for stage in STAGES for item in items(stage)])
def test_kill_in_a_stage(study: Clone, copy: Clone, stage: str) -> None:
    """Killed at its start and then at work, a stage makes the same bytes the third time."""
    forget(copy, stage)
    assert kill_after(0, copy, stage)
    killed = kill_after(AT_WORK.get(stage, 3.5), copy, stage)
    assert copy.ran(copy.run("dvc", "repro", "-s", stage)) == [stage] * killed
    assert copy.outputs() == study.outputs()
    drafts = [path for path in copy.folder.rglob(".*.draft*") if ".venv" not in path.parts]
    assert drafts == []
    if not killed:
        pytest.skip(f"{stage} gives the same bytes, but ended before it could be killed at work")


def kill_after(seconds: float, clone: Clone, stage: str) -> bool:
    """Has DVC run a stage, and kills both so long after the stage's process began; returns whether it was still at work."""
    running = started(clone, "dvc", "repro", "-s", stage)
    wait_for(lambda: stage_process(clone) or running.poll() is not None, f"{stage}'s process")
    time.sleep(seconds)
    if seconds and stage_process(clone) is None:
        running.communicate()
        return False
    assert stage_process(clone) is not None
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return True


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("stage", ["prepare", "train@resnet18-0", "explain@resnet18-0"])
def test_a_full_disk(study: Clone, tmp_path: Path, stage: str) -> None:
    command = STAGES[stage.split("@")[0]]["cmd"].split()[:2] + stage.replace("-", "@").split("@")[1:]
    with small_disk(tmp_path / "disk", 1000):
        clone = study.copy(tmp_path / "disk/copy")
        forget(clone, stage)
        free = shutil.disk_usage(tmp_path / "disk").free
        ballast = tmp_path / "disk/ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)
        printed = clone.run(*command, status=1)
        assert "No space left on device" in printed and "Traceback" not in printed
        ballast.unlink()
        clone.run("dvc", "repro")
        assert clone.outputs() == study.outputs()


class Failing(BaseHTTPRequestHandler):
    """A tracking server that answers everything with 500."""

    def answer(self) -> None:
        self.send_error(500)

    do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None: ...


def test_a_tracking_server_that_answers_500(study: Clone, copy: Clone) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        for stage in ("measure", "register"):
            forget(copy, stage)
        printed = copy.run("dvc", "repro", CITYLENS_TRACKING=address)
        server.shutdown()
    assert "register" in copy.ran(printed) and printed.count("tracking at http") == 1
    assert "`citylens sync` logs them later" in printed
    assert copy.outputs() == study.outputs()


def test_a_tracking_server_that_goes_down(study: Clone, copy: Clone) -> None:
    """In the middle of a training and at its end: it goes on, and what the server has missed comes with `citylens sync`."""
    port = free_port()
    address = {"CITYLENS_TRACKING": f"http://127.0.0.1:{port}"}
    for name, moment in (("resnet18-0", "middle"), ("simpler-0", "end")):
        forget(copy, f"train@{name}")
        server = mlflow_server(copy, port)
        running = started(copy, "dvc", "repro", "-s", f"train@{name}", **address)
        network = copy.folder / "models/train" / name / "network.safetensors"
        wait_for((lambda: stage_process(copy)) if moment == "middle" else network.exists, moment)
        time.sleep(4 if moment == "middle" else 0)
        os.killpg(server.pid, signal.SIGKILL)
        printed, _ = running.communicate(timeout=SECONDS)
        server.wait()
        assert running.returncode == 0, printed
        assert printed.count("tracking:") <= 1
    assert copy.outputs() == study.outputs()
    server = mlflow_server(copy, port)
    try:
        assert "train@resnet18-0" in copy.run("citylens", "sync", **address)
        assert "sync: 0 run(s) made" in copy.run("citylens", "sync", **address)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def mlflow_server(clone: Clone, port: int) -> subprocess.Popen[bytes]:
    store = f"sqlite:///{clone.folder}/server.db"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(clone.folder / "served")]
    # A pipe that nobody reads would stop the server once it is full.
    with (clone.folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=clone.folder, env=clone.environment(), stdout=log, stderr=log, start_new_session=True
        )
    wait_for(lambda: answers(port), "the tracking server")
    return server


def answers(port: int) -> bool:
    from urllib.request import urlopen

    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_two_reproductions_at_once(study: Clone, copy: Clone) -> None:
    for stage in ("measure", "compare", "report"):
        forget(copy, stage)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(started(copy, "dvc", "repro").communicate) for _ in range(2)]
        printed = [part.result()[0] for part in both]
    assert all(text for text in printed)
    copy.run("dvc", "repro")
    assert copy.outputs() == study.outputs()
    assert "up to date" in copy.run("dvc", "status")


def test_a_clock_moved_back(study: Clone, copy: Clone) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    forget(copy, "measure")
    printed = copy.run("faketime", "-f", "-2d", "dvc", "repro")
    assert set(copy.ran(printed)) == {"measure"}
    assert copy.outputs() == study.outputs()
    assert copy.ran(copy.run("dvc", "repro")) == []


def test_a_read_only_reports_folder(study: Clone, copy: Clone) -> None:
    reports = copy.folder / "reports"
    bound = subprocess.run(["mount", "--bind", str(reports), str(reports)], capture_output=True)
    if bound.returncode:
        pytest.skip("a read-only folder cannot be mounted here (needs root)")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(reports)], check=True)
        printed = copy.run("citylens", "report", status=1)
        assert "Read-only file system" in printed and "reports" in printed
    finally:
        subprocess.run(["umount", "-l", str(reports)], check=True)
    assert copy.ran(copy.run("dvc", "repro")) == []
    assert copy.outputs() == study.outputs()


def test_a_changed_byte_in_the_packed_images(study: Clone, copy: Clone) -> None:
    copy.run("dvc", "checkout", "--relink")
    spoil(copy.folder / "data/prepare/images.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert "data/prepare/images.npy was damaged" in copy.run("citylens", "check")
    copy.run("dvc", "repro")
    assert copy.outputs() == study.outputs()
    assert (copy.folder / "data/prepare/images.npy").read_bytes() == (
        study.folder / "data/prepare/images.npy"
    ).read_bytes()


def test_half_a_mask_file(study: Clone, copy: Clone) -> None:
    masks = Path("data/explain/resnet18-0/masks.npy")
    copy.run("dvc", "checkout", "--relink")
    spoil(copy.folder / masks, lambda content: content[: len(content) // 2])
    assert "not a whole .npy array" in copy.run("citylens", "compare", status=1)
    assert f"{masks} was damaged" in copy.run("citylens", "check")
    copy.run("dvc", "repro")
    assert copy.outputs() == study.outputs()
    np.testing.assert_array_equal(np.load(copy.folder / masks), np.load(study.folder / masks))


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    """In place, as a failing disk would: whatever else is this file by another name is spoilt too."""
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(change(content))
    path.chmod(0o444)


def test_sources_edited_during_a_run(study: Clone, copy: Clone) -> None:
    stage = "train@resnet18-0"
    forget(copy, stage)
    source = copy.folder / "src/citylens/nets/networks.py"
    text = source.read_text()
    running = started(copy, "dvc", "repro", "-s", stage)
    wait_for(lambda: stage_process(copy), f"{stage}'s process")
    time.sleep(3)
    source.write_text(text + "# edited\n")
    printed, _ = running.communicate(timeout=SECONDS)
    assert running.returncode and "networks.py changed while the stage ran" in printed, printed
    assert stage not in yaml.safe_load((copy.folder / "dvc.lock").read_text())["stages"]
    source.write_text(text)
    copy.run("dvc", "repro")
    assert copy.outputs() == study.outputs()


def test_raw_data_edited_by_accident(study: Clone, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(study.folder / "data/acquire/images", photos)
    clone = Clone(tmp_path / "study", "smoke", "acquire.source=folder", f"acquire.path={photos}")
    clone.run("citylens", "check")
    clone.run("dvc", "repro", "-s", "acquire")
    clone.run("citylens", "check")
    first = sorted(photos.rglob("*.jpg"))[0]
    content = first.read_bytes()
    first.unlink()
    first.write_bytes(content + b"\0")
    printed = clone.run("citylens", "check", status=1)
    assert f"1 edited ({first.relative_to(photos)})" in printed
    first.write_bytes(content)
    clone.run("citylens", "check")
    first.unlink()
    assert f"1 gone ({first.relative_to(photos)})" in clone.run("citylens", "check", status=1)
    assert "taken as a new version" in clone.run("citylens", "check", "--accept")


def test_a_remote_that_is_down(study: Clone, copy: Clone, tmp_path: Path) -> None:
    copy.run("dvc", "remote", "add", "--default", "team", f"ssh://127.0.0.1:{free_port()}/srv")
    push = started(copy, "dvc", "push")
    printed, _ = push.communicate(timeout=SECONDS)
    assert push.returncode and "ERROR" in printed
    copy.run("dvc", "remote", "modify", "team", "url", str(tmp_path / "remote"))
    copy.run("dvc", "push")
    assert "Everything is up to date" in copy.run("dvc", "push")
    assert copy.outputs() == study.outputs()


def test_memory_that_runs_out_is_said(copy: Clone) -> None:
    """The address space ends below what training needs, even with half a batch. Whatever asks for memory first, one line says so."""
    forget(copy, "train@resnet18-0")
    limited = [sys.executable, "-c", LIMITED, "train", "resnet18", "0"]
    printed = copy.run(*limited, status=1, CITYLENS_TRACKING="off", OMP_NUM_THREADS="1")
    assert "out of memory" in printed


LIMITED = """
import resource, sys
import pyarrow.pandas_compat, torch, torchvision
import citylens.cli, citylens.tracking.live, citylens.train.stage, citylens.versions.edits
torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True).zero_grad()  # imports the rest of torch
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (150 << 20),) * 2)
from citylens.cli import main
sys.exit(main(sys.argv[1:]))
"""
