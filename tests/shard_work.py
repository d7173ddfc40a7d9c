"""Work for the tests of maps over shards. Apart from them, for their imports take seconds in each worker process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from citylens.errors import InputError


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


def counting(folder: Path) -> Callable[[int], int]:
    """Leave a file in the folder, and return a function of a shard."""
    (folder / f"{os.getpid()} {time.monotonic_ns()}").touch()
    return lambda shard: shard


def large() -> Callable[[int], np.ndarray]:
    """Return a function whose results together are larger than the cluster's object store."""
    return lambda shard: np.full(40 << 20, shard, np.uint8)


def slow() -> Callable[[int], int]:
    def work(shard: int) -> int:
        time.sleep(0.5)
        return shard

    return work
