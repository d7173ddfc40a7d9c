"""Work on threads, processes and a Ray cluster: the same bytes everywhere, and what happens when a part of it goes away."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from clones import Clone, wait_for
from test_segment import network

from citylens import engine
from citylens.compare import stage as compare
from citylens.errors import InputError
from citylens.explain import stage as explain
from citylens.measure import stage as measure
from citylens.prepare import stage as prepare
from citylens.segment import stage as segment
from citylens.settings import parser
from citylens.settings.schema import Engine, Settings

LOCAL = Engine("local", 1, "local", 0)
RAY = Engine("ray", 2, "local", 0)
EVERYWHERE = [
    replace(LOCAL, workers=3),
    replace(LOCAL, kind="processes", workers=2),
    *(pytest.param(replace(RAY, workers=count), marks=pytest.mark.integration) for count in (1, 3)),
]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a Ray cluster find the functions of this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


def squares(factor: int) -> Callable[[int], int]:
    """Return a function of a shard that fails for 13."""

    def square(shard: int) -> int:
        if shard == 13:
            raise InputError(f"{factor}.png: damaged")
        return factor * shard * shard

    return square


def failing() -> Callable[[int], int]:
    raise InputError("masks.npy: no such file")


def dying(folder: Path) -> Callable[[int], int]:
    """Return a function whose process is killed in shard 3, once."""

    def work(shard: int) -> int:
        if shard == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shard

    return work


@pytest.mark.parametrize("plan", [LOCAL, *EVERYWHERE])
def test_results_come_in_the_order_of_shards_and_errors_as_they_were_raised(plan: Engine) -> None:
    assert list(engine.map_shards(squares, (2,), range(12), plan)) == [2 * shard**2 for shard in range(12)]
    with pytest.raises(InputError, match=r"^3\.png: damaged$"):
        list(engine.map_shards(squares, (3,), range(10, 20), plan))
    with pytest.raises(InputError, match=r"^masks\.npy: no such file$"):
        list(engine.map_shards(failing, (), range(3), plan))


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
        list(engine.map_shards(dying, (tmp_path,), range(8), plan))


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
    mapping["explain"]["batch_size"] = 1
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
    for trained in chosen.study.trained:
        shutil.rmtree(f"data/explain/{'-'.join(map(str, trained))}")
        explain.run(chosen, *trained)
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
    place: Clone, alone: dict[str, str], plan: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(alone) > 20
    assert computed(place, plan, monkeypatch) == alone
