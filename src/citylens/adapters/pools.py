"""Processes that work for this one, and end with it."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def pool() -> ProcessPoolExecutor:
    """One process a core. Where this process is killed, they end too: by themselves they would wait for work for ever."""
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver"), initializer=_watch)


def _watch() -> None:
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
