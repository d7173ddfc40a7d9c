"""Worker processes: they end with the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import pytest
from clones import wait_for

from citylens.errors import InputError
from citylens.io import files, pools


def late(path: Path) -> None:
    time.sleep(30)
    path.touch()


def test_work_ends_where_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError), pools.pool() as pool:
        pool.submit(os.getpid).result()
        pool.submit(late, tmp_path / "late")
        raise InputError("damaged")
    assert active_children() == [] and not (tmp_path / "late").exists()


def crash(path: Path) -> None:
    os._exit(1)


def test_a_reader_that_crashes_or_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a\.mat: damaged, such that its reader crashes"):
        pools.apart(crash, tmp_path / "a.mat", 1 << 30, "time")
    monkeypatch.setattr(pools, "PATIENCE", 1)
    with pytest.raises(InputError, match=r"a\.mat: not read in 1 seconds"):
        pools.apart(late, tmp_path / "a.mat", 1 << 30, "time")
    assert active_children() == [] and not (tmp_path / "a.mat").exists()


def named(path: Path) -> None:
    """Leave the process's id in a file beside the path, and work on."""
    path.with_name(str(os.getpid())).touch()
    time.sleep(300)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pools import named
from citylens.io import pools
with pools.pool() as pool:
    pool.submit(pools.apart, named, Path(sys.argv[2]), 1 << 30, "time")
    pool.submit(named, Path(sys.argv[2]))
"""


def test_workers_end_with_a_killed_process(tmp_path: Path) -> None:
    """The workers of a pool end, and so does the reader of a file that one of them waits for."""
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "list")])
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, "what they say")
    running.kill()
    running.wait()
    wait_for(lambda: not any(Path("/proc", path.name).exists() for path in tmp_path.iterdir()), "their end")


LIMITED = """
import multiprocessing.synchronize, os, sys
from pathlib import Path
from citylens.io import pools

def refused(*_, **__):
    raise OSError(38, "Function not implemented")

if sys.argv[1] == "shm":
    multiprocessing.synchronize.SemLock.__init__ = refused
with pools.pool() as pool:
    print(list(pool.map(abs, [-1, 2])), pools.apart(os.path.basename, Path("a/b"), 1 << 30, "time"))
"""


@pytest.mark.parametrize("lacking", ["tmp", "shm"])
def test_pools_work_with_a_long_tmpdir_and_without_semaphores(tmp_path: Path, lacking: str) -> None:
    """A scheduler's TMPDIR may be longer than a socket's name may be; a container may lack /dev/shm."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    variables = os.environ | ({"TMPDIR": str(long)} if lacking == "tmp" else {})
    done = subprocess.run([sys.executable, "-c", LIMITED, lacking], capture_output=True, text=True, env=variables)
    assert (done.stdout, done.stderr) == ("[1, 2] b\n", "")


def test_workers_that_need_scratch_space_at_one_time_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        arrays = list(threads.map(lambda _: files.scratch_array((3, 4), "int32"), range(200)))
    for index, array in enumerate(arrays):
        assert not array.any()
        array[:] = 1 + index
    assert [int(array.sum()) for array in arrays] == [12 * (1 + index) for index in range(200)]
    assert list(Path(".citylens").iterdir()) == []
