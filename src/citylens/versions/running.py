"""Guards of a running stage: it works alone on what it writes, and ends with the DVC that started it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

LOCKS = Path(".citylens/locks")
PATIENCE = 30  # seconds from SIGTERM to the end of a stage
SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ksh", "busybox")  # which may stay between DVC and its command


@contextmanager
def alone(stage: str) -> Iterator[None]:
    """Hold a stage's lock in this folder; while another process holds it, name that process and wait."""
    from filelock import FileLock, Timeout

    LOCKS.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(LOCKS / f"{stage}.lock"), LOCKS / f"{stage}.pid"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        held = holder.read_text(encoding="utf-8") if holder.exists() else "of unknown number"
        print(f"{stage}: process {held} runs this stage in this folder; waiting for its end", file=sys.stderr)
        lock.acquire()
    try:
        holder.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def end_with_dvc() -> None:
    """End this process a second after the `dvc` that started it, even if that was killed. A stage started by hand goes on."""
    if "DVC_STAGE" in os.environ:
        Thread(target=_wait_and_end, args=(_starters(),), daemon=True).start()


def _wait_and_end(starters: list[int]) -> None:
    while _starters() == starters:  # An orphan gets another parent.
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(128 + signal.SIGTERM)  # still in one call of a library


def _starters() -> list[int]:
    """Return the ids of the parents, from the nearest to the first that is no shell."""
    import psutil

    found: list[int] = []
    try:
        for parent in psutil.Process().parents():
            found.append(parent.pid)
            if parent.name() not in SHELLS:
                break
    except psutil.Error:  # gone meanwhile
        pass
    return found
