"""Work on threads, processes and a Ray cluster: the same bytes everywhere, and what happens when a part of it goes away."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import shard_work
import yaml
from clones import Clone, wait_for
from test_segment import network

from citylens import engine
from citylens.compare import stage as compare
from citylens.errors import InputError
from citylens.explain import stage as explain
from citylens.measure import stage as measure
from citylens.nets import checkpoints
from citylens.nets.names import key
from citylens.prepare import stage as prepare
from citylens.segment import stage as segment
from citylens.settings import parser
from citylens.settings.schema import Engine, Settings
from citylens.train import stage as train

LOCAL = Engine("local", 1, "local", 0)
RAY = Engine("ray", 2, "local", 0)
EVERYWHERE = [
    pytest.param(replace(LOCAL, workers=3), marks=pytest.mark.integration),
    replace(LOCAL, kind="processes", workers=2),
    pytest.param(replace(RAY, workers=1), marks=pytest.mark.integration),
    pytest.param(replace(RAY, workers=3), marks=pytest.mark.integration),
]
TRAIN: dict[str, Any] = {"epochs": 3, "padding": "same", "dropout": 0.0}
ONE = ("simple", 0)
ROOM = {"include_dashboard": False, "object_store_memory": 200 << 20}


@pytest.fixture(autouse=True, scope="module")
def importable() -> Iterator[None]:
    """Let the processes of a Ray cluster find the functions of this module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.setenv("RAY_worker_niceness", "0")  # as the engine sets it for a cluster of its own
        monkeypatch.setenv("RAY_local_fs_capacity_threshold", "1")  # these tests run on disks that are nearly full, too
        yield


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of one machine with three cores, which does not end with a stage."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=ROOM | {"num_cpus": 3})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def one_core() -> Iterator[Any]:
    """A cluster that works at one shard at a time."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=ROOM | {"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def reachable(plan: Engine, request: pytest.FixtureRequest) -> Engine:
    """The plan, on a cluster that is there already if it is one for Ray: stages that each start a cluster take long."""
    if plan.kind != "ray":
        return plan
    return replace(plan, address=request.getfixturevalue("one_core" if plan.workers == 1 else "nodes").address)


@pytest.mark.parametrize("plan", [LOCAL, *EVERYWHERE[:2], EVERYWHERE[-1]])
def test_results_come_in_the_order_of_shards_and_errors_as_they_were_raised(
    plan: Engine, request: pytest.FixtureRequest
) -> None:
    plan = reachable(plan, request)
    assert list(engine.map_shards(shard_work.squares, (2,), range(12), plan)) == [2 * shard**2 for shard in range(12)]
    with pytest.raises(InputError, match=r"^3\.png: damaged$"):
        list(engine.map_shards(shard_work.squares, (3,), range(10, 20), plan))
    with pytest.raises(InputError, match=r"^masks\.npy: no such file$"):
        list(engine.map_shards(shard_work.failing, (), range(3), plan))


@pytest.mark.parametrize("plan", [LOCAL, EVERYWHERE[1], EVERYWHERE[-1]])
def test_each_worker_opens_its_inputs_once(plan: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert list(engine.map_shards(shard_work.counting, (tmp_path,), range(40), reachable(plan, request))) == list(
        range(40)
    )
    opened = [path.name.split()[0] for path in tmp_path.iterdir()]
    assert len(opened) == len(set(opened)) <= (plan.workers or 1)


def test_results_that_nobody_takes_yet_stay_few() -> None:
    """A slow writer does not let results pile up."""
    begun: list[int] = []
    work = engine.map_shards(lambda: lambda shard: begun.append(shard), (), range(100), replace(LOCAL, workers=2))
    next(work)
    wait_for(lambda: len(begun) >= 4, "work ahead")
    assert len(begun) <= 1 + 2 * engine.AHEAD


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    plan = replace(LOCAL, kind="processes", workers=2)
    with pytest.raises(
        InputError, match=r"a worker process was killed, .* there were 2; allowed: fewer, by engine\.workers"
    ):
        list(engine.map_shards(shard_work.dying, (tmp_path,), range(8), plan))


def test_memory_limits_the_workers() -> None:
    seen = set()

    def start() -> Callable[[int], None]:
        return lambda shard: seen.add(threading.get_ident())

    list(engine.map_shards(start, (), range(8), replace(LOCAL, workers=8), memory=1 << 60))
    assert len(seen) == 1


@pytest.fixture(scope="module")
def place(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A finished smoke study whose objects a small ONNX network names."""
    clone = finished.copy(tmp_path_factory.mktemp("engine") / "study")
    network(clone.folder / "models" / "segmenter.onnx", "NHWC", classes=150)
    names = "".join(f"{index},thing {index}\n" for index in range(1, 151))
    (clone.folder / "models" / "objects.csv").write_text("index,name\n" + names)
    return clone


def settings(clone: Clone, plan: Engine) -> Settings:
    mapping = yaml.safe_load((clone.folder / "params.yaml").read_text())
    mapping["explain"] |= {"batch_size": 1, "checked": 2}
    mapping["segment"] |= {"segmenter": "onnx", "path": "models", "batch_size": 1, "probabilities": "top3"}
    mapping["segment"]["onnx"] |= {"size": 8, "offset": 1}
    return replace(parser.parse(mapping), engine=plan)


def computed(clone: Clone, plan: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the md5 of each file that the stages make which map over shards, of several shards each."""
    monkeypatch.chdir(clone.folder)
    for module, size in ((prepare, 3), (measure, 2), (compare, 2)):
        monkeypatch.setattr(module, "SHARD", size)
    chosen = settings(clone, plan)
    for folder in ("prepare", "segment", "measure", "compare"):
        shutil.rmtree(f"data/{folder}")
    prepare.run(chosen)
    shutil.rmtree(f"data/explain/{key(*chosen.study.trained[0])}")
    explain.run(chosen, *chosen.study.trained[0])  # one network for all: each map starts its processes anew
    segment.run(chosen)
    measure.run(chosen)
    compare.run(chosen)
    folders = [
        Path(top, name)
        for top in ("data", "reports")
        for name in ("prepare", "explain", "segment", "measure", "compare")
    ]
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def alone(place: Clone) -> dict[str, str]:
    """What one thread makes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return computed(place, LOCAL, monkeypatch)


@pytest.mark.parametrize("plan", EVERYWHERE)
def test_the_same_bytes_everywhere(
    place: Clone,
    alone: dict[str, str],
    plan: Engine,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(alone) > 20
    assert computed(place, reachable(plan, request), monkeypatch) == alone


def when_at_work(
    leave: Callable[[psutil.Process], object], parent: int | None = None
) -> tuple[threading.Thread, list[int]]:
    """Start a thread that calls `leave` with the first process of Ray that it sees at work; the list then holds its number."""
    seen: list[int] = []

    def work() -> None:
        end = time.monotonic() + 120
        while not seen and time.monotonic() < end:
            for process in psutil.process_iter(["name", "ppid"]):
                if process.info["name"].startswith("ray::task") and parent in (None, process.info["ppid"]):
                    seen.append(process.pid)
                    leave(process)
                    return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, seen


def made(stage: Any, chosen: Settings, alone: dict[str, str]) -> None:
    """Run `explain`, for one network, or another stage anew; it must make what one thread makes."""
    item = chosen.study.trained[0] if stage is explain else ()
    folder = Path("data/explain", key(*item)) if item else Path("data/segment")
    shutil.rmtree(folder)
    stage.run(chosen, *item)
    for path in folder.iterdir():
        assert alone[str(path)] == hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), path


@pytest.mark.integration
@pytest.mark.parametrize("stage", [explain, segment])
def test_a_worker_killed_in_a_stage_costs_nothing(
    place: Clone, alone: dict[str, str], nodes: Any, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    thread, killed = when_at_work(lambda process: process.kill())
    made(stage, settings(place, replace(RAY, address=nodes.address)), alone)
    thread.join()
    assert killed


@pytest.mark.integration
def test_a_machine_that_leaves_a_stage_costs_nothing(
    place: Clone, alone: dict[str, str], nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder)
    guest = nodes.add_node(num_cpus=2, object_store_memory=ROOM["object_store_memory"])
    raylet = guest.all_processes["raylet"][0].process.pid
    thread, seen = when_at_work(lambda process: nodes.remove_node(guest, allow_graceful=False), raylet)
    made(explain, settings(place, replace(RAY, workers=5, address=nodes.address)), alone)
    thread.join()
    assert seen


FILL = """
import sys
import numpy as np, ray
ray.init(address=sys.argv[1], log_to_driver=False)
kept = [ray.put(np.zeros(10 << 20, np.uint8)) for _ in range(30)]
print("full", flush=True)
sys.stdin.read()
"""


@pytest.mark.integration
def test_a_full_object_store_costs_nothing(
    place: Clone, alone: dict[str, str], nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job keeps more in the store than it has room for."""
    monkeypatch.chdir(place.folder)
    plan = replace(RAY, workers=3, address=nodes.address)
    command = [sys.executable, "-c", FILL, nodes.address]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "full\n"
        made(explain, settings(place, plan), alone)
        for shard, found in enumerate(engine.map_shards(shard_work.large, (), range(14), plan)):
            assert found.nbytes == 40 << 20
            assert (found == shard).all()
    finally:
        other.kill()
        other.communicate()


@pytest.mark.integration
def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes out where a result is made, or where one is read back from the disk; which, is chance."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_local_fs_capacity_threshold", "0")  # which Ray reads as: full
    monkeypatch.setattr(engine, "PATIENCE", 20)
    cluster = Cluster(initialize_head=True, head_node_args=ROOM | {"num_cpus": 2})
    try:
        with pytest.raises(InputError, match=r"^engine\.address: .*: .*disk (is|are) full; the same command goes on"):
            list(engine.map_shards(shard_work.large, (), range(14), replace(RAY, address=cluster.address)))
    finally:
        cluster.shutdown()


@pytest.mark.integration
def test_a_damaged_image_is_named_as_on_one_machine(
    place: Clone, nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = place.copy(tmp_path / "damaged")
    monkeypatch.chdir(clone.folder)
    path = sorted(Path("data/acquire").rglob("*.jpg"))[5]
    whole = path.read_bytes()
    path.unlink()  # it may be a link into the cache
    path.write_bytes(whole[: len(whole) // 2])
    said = []
    for plan in (LOCAL, replace(RAY, address=nodes.address)):
        with pytest.raises(InputError, match=f"{path.name}: cannot be decoded") as error:
            prepare.run(settings(clone, plan))
        said.append(str(error.value))
    assert said[0] == said[1]


def trained(clone: Clone, plan: Engine, monkeypatch: pytest.MonkeyPatch, on_epoch: Any = None) -> tuple[bytes, Any]:
    """Train a network for three epochs; return the file of its weights and its losses."""
    monkeypatch.chdir(clone.folder)
    chosen = settings(clone, plan)
    chosen = replace(chosen, train=replace(chosen.train, **TRAIN))
    train.run(chosen, *ONE, on_epoch or (lambda number, values: None))
    history = pd.read_csv(f"reports/train/{key(*ONE)}/history.csv")
    return Path(f"models/train/{key(*ONE)}/network.safetensors").read_bytes(), history["training_loss"].to_numpy()


@pytest.fixture(scope="module")
def trained_alone(place: Clone) -> tuple[bytes, Any]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return trained(place, LOCAL, monkeypatch)


@pytest.mark.integration
def test_one_worker_trains_to_the_same_bytes(
    place: Clone, trained_alone: tuple[bytes, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, _ = trained(place, replace(RAY, workers=1), monkeypatch)
    assert weights == trained_alone[0]


@pytest.mark.integration
def test_two_workers_train_together_and_go_on_when_one_is_killed(
    place: Clone, trained_alone: tuple[bytes, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under Ray, with a worker killed after an epoch, and under torchrun: the same bytes, and nearly those of one worker."""
    killed: list[int] = []

    def kill(number: int, values: object) -> None:
        if not killed:
            workers = [process for process in psutil.process_iter(["name"]) if "RayTrainWorker" in process.info["name"]]
            killed.extend(process.pid for process in workers)
            workers[-1].kill()

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what torchrun sets
    weights, losses = trained(place, RAY, monkeypatch, kill)
    assert killed
    assert losses == pytest.approx(trained_alone[1], rel=1e-3)
    clone = place.copy(tmp_path / "torchrun")
    parameters = clone.folder / "params.yaml"
    mapping = yaml.safe_load(parameters.read_text())
    mapping["train"] |= TRAIN
    mapping["study"]["networks"].append(ONE[0])
    parameters.write_text(yaml.safe_dump(mapping))
    made = clone.folder / "models" / "train" / key(*ONE) / "network.safetensors"
    made.unlink()
    clone.run(
        *("torchrun", "--nproc-per-node", "2", "--no-python", "citylens", "train", ONE[0], str(ONE[1])),
        CITYLENS_TRACKING="off",
        OMP_NUM_THREADS="1",
    )
    assert made.read_bytes() == weights


HEAD_GOES = """
import sys
from dataclasses import replace
from ray.cluster_utils import Cluster
import shard_work
import test_engine
from citylens import engine
from citylens.errors import InputError

cluster = Cluster(initialize_head=True, head_node_args=test_engine.ROOM | {"num_cpus": 2})
try:
    for result in engine.map_shards(shard_work.slow, (), range(600), replace(test_engine.RAY, address=cluster.address)):
        if result == 2:
            cluster.head_node.kill_gcs_server()
except InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.integration
def test_a_head_that_is_gone_is_said() -> None:
    """In a process of its own, which Ray may end."""
    done = subprocess.run([sys.executable, "-c", HEAD_GOES], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "the same command goes on with a cluster that works" in done.stderr, done.stderr[-3000:]


@pytest.mark.integration
def test_a_training_whose_head_is_gone_says_so_and_goes_on(
    place: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    clone = place.copy(tmp_path / "headless")
    parameters = clone.folder / "params.yaml"
    mapping = yaml.safe_load(parameters.read_text())
    mapping["train"] |= TRAIN | {"epochs": 30}
    cluster = Cluster(initialize_head=True, head_node_args=ROOM | {"num_cpus": 2})
    mapping["study"]["networks"].append(ONE[0])
    mapping["engine"] |= {"kind": "ray", "workers": 1, "address": cluster.address}
    parameters.write_text(yaml.safe_dump(mapping))
    state = clone.folder / ".citylens" / "train" / key(*ONE) / "state.safetensors"
    command = ["citylens", "train", ONE[0], str(ONE[1])]
    environment = clone.environment(CITYLENS_TRACKING="off")
    stage = subprocess.Popen(
        command, cwd=clone.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        wait_for(lambda: state.is_file() or stage.poll() is not None, "the first epoch")
        cluster.head_node.kill_gcs_server()
        _, said = stage.communicate(timeout=300)
    finally:
        stage.kill()
    assert stage.returncode == 1, said
    assert "the same command goes on with a cluster that works" in said
    done = int(checkpoints.read_tensors(state)[1]["done"])
    epochs: list[int] = []
    monkeypatch.chdir(clone.folder)
    train.run(settings(clone, LOCAL), *ONE, lambda epoch, values: epochs.append(epoch))
    # The worker that the head has left may train some more epochs before it sees that this run has begun.
    assert epochs == list(range(epochs[0], 31)) and epochs[0] > done


def broken(send: Callable[[Any], None]) -> None:
    raise ValueError("broken")


@pytest.mark.integration
def test_a_training_that_fails_otherwise_is_said(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine, "RETRIES", 0)
    with pytest.raises(InputError, match=r"^engine: the training failed on its workers: ValueError: broken"):
        list(engine._together(broken, (), replace(RAY, workers=1, address=nodes.address)))


@pytest.mark.integration
def test_what_a_cluster_has_no_room_for_is_said(place: Clone, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for ever."""
    monkeypatch.chdir(place.folder)
    with pytest.raises(InputError, match=r"^engine\.gpus_per_worker: 1: .* its machines: 3 cores, 0 GPUs$"):
        list(engine.map_shards(shard_work.squares, (2,), range(3), Engine("ray", 2, nodes.address, 1), network=True))
    with pytest.raises(InputError, match=r"^engine\.gpus_per_worker: 0\.5; allowed: whole numbers"):
        train.run(settings(place, Engine("ray", 1, nodes.address, 0.5)), *ONE)
    for plan in (Engine("ray", 9, nodes.address, 0), Engine("ray", 1, nodes.address, 1)):
        with pytest.raises(InputError, match=r"^engine\.workers: .*: the cluster has no room for it"):
            train.run(settings(place, plan), *ONE)
    with pytest.raises(InputError, match=r"^engine\.address: ray://.* does not work from outside"):
        train.run(settings(place, Engine("ray", 1, "ray://127.0.0.1:9", 0)), *ONE)


@pytest.mark.parametrize("address", ["HEAD:abc", "HEAD:70000"])
def test_an_address_that_is_none_is_said(address: str) -> None:
    with pytest.raises(InputError, match=rf"engine\.address: {address}: allowed: HOST:PORT with a port of 1 to 65535"):
        list(engine.map_shards(shard_work.squares, (2,), range(3), replace(RAY, address=address)))


def test_a_cluster_that_is_not_there_is_said() -> None:
    with pytest.raises(InputError, match=r"engine\.address: 127\.0\.0\.1:9: .*goes on with a cluster that works"):
        list(engine.map_shards(shard_work.squares, (2,), range(3), replace(RAY, address="127.0.0.1:9")))
