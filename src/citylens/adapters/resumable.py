"""Arrays that are filled piece by piece over several starts of a stage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from citylens.adapters import files
from citylens.settings import InputError


class Unfinished:
    """Arrays by name, and how many rows of each are done."""

    def __init__(self, folder: Path, fingerprint: str, arrays: dict[str, np.memmap], done: int) -> None:
        self._folder, self._fingerprint, self.arrays, self.done = folder, fingerprint, arrays, done

    def mark(self, done: int) -> None:
        """From now on, these rows survive whatever happens to the process."""
        for array in self.arrays.values():
            array.flush()
        files.write_json(self._folder / "state.json", {"fingerprint": self._fingerprint, "done": done})
        self.done = done


@contextmanager
def resumable(
    folder: Path | str, fingerprint: str, arrays: Mapping[str, tuple[tuple[int, ...], str]]
) -> Iterator[Unfinished]:
    """Takes up what an earlier start with the same fingerprint left in `folder`; empties it when the block ends well.

    Args:
        arrays: shape and dtype by name, to be moved or copied away inside the block when they are whole.
    """
    folder = Path(folder)
    done = _done(folder, fingerprint)
    if not done:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    opened = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "r+")
        if done
        else files.reserved_array(folder / f"{name}.npy", shape, dtype)
        for name, (shape, dtype) in arrays.items()
    }
    yield Unfinished(folder, fingerprint, opened, done)
    shutil.rmtree(folder)


def _done(folder: Path, fingerprint: str) -> int:
    try:
        state = files.read_json(folder / "state.json")
        return int(state["done"]) if state["fingerprint"] == fingerprint else 0
    except (InputError, KeyError, TypeError, ValueError):
        return 0
