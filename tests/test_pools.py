"""Processes that work for others: they end when nobody waits for their work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import pytest
from clones import wait_for

from citylens.adapters import pools
from citylens.settings import InputError


def late(path: Path) -> None:
    time.sleep(30)
    path.touch()


def test_work_ends_where_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError), pools.pool() as pool:
        pool.submit(os.getpid).result()
        pool.submit(late, tmp_path / "late")
        raise InputError("damaged")
    assert active_children() == [] and not (tmp_path / "late").exists()


def named(path: Path) -> None:
    """Says that it is at work, and works on."""
    path.with_name(str(os.getpid())).touch()
    time.sleep(300)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pools import named
from citylens.adapters import pools
with pools.pool() as pool:
    pool.submit(pools.apart, named, Path(sys.argv[2]), 1 << 30, "time")
    pool.submit(named, Path(sys.argv[2]))
"""


def test_nobody_outlives_a_killed_process(tmp_path: Path) -> None:
    """Neither those of a pool, nor a file's reader that one of them waits for."""
    running = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "list")])
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, "what they say")
    running.kill()
    running.wait()
    wait_for(lambda: not any(Path("/proc", path.name).exists() for path in tmp_path.iterdir()), "their end")
