"""Arrays, tables and texts on disk. Whatever is written appears whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from citylens.settings import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and is gone when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".draft{path.suffix}", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends well; otherwise what was there stays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        old = draft.with_name(draft.name + "-old")
        if path.exists():
            path.replace(old)
        draft.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Drafts that a killed process left; git and DVC ignore them by their name."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.draft*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def write_array(path: Path | str, array: np.ndarray) -> None:
    """An .npy file."""
    import numpy as np

    with whole_file(path) as draft:
        np.save(draft, array, allow_pickle=False)


@contextmanager
def growing_array(path: Path | str, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """An .npy file to be filled piece by piece without ever lying in memory whole."""
    with whole_file(path) as draft:
        array = reserved_array(draft, shape, dtype)
        yield array
        array.flush()


def reserved_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    """A new .npy file of zeros, mapped into memory, all of its room taken on disk.

    Without its room, a mapped file on a disk that fills up would kill the process on the spot.

    Raises:
        OSError: no room.
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_array(path: Path | str) -> np.ndarray:
    """An .npy file, read as it is used.

    Raises:
        InputError: no such file, or no array in it.
    """
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` makes it, `dvc pull` fetches it") from None
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as error:
        raise InputError(
            f"{path}: not a whole .npy array ({error}); `dvc checkout --force {path}` brings back the recorded one"
        ) from None


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """A table as CSV or Parquet, by its ending; floats keep all their digits."""
    with whole_file(path) as draft:
        if draft.suffix == ".parquet":
            table.to_parquet(draft, index=False)
        else:
            table.to_csv(draft, index=False, lineterminator="\n")


@contextmanager
def growing_table(path: Path | str) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A Parquet table to be written piece by piece without ever lying in memory whole; the pieces have the same columns."""
    import pyarrow as pa
    from pyarrow import parquet

    with whole_file(path) as draft, ExitStack() as stack:
        writers: list[parquet.ParquetWriter] = []

        def append(piece: pd.DataFrame) -> None:
            rows = pa.Table.from_pandas(piece, preserve_index=False, schema=writers[0].schema if writers else None)
            if not writers:
                writers.append(stack.enter_context(parquet.ParquetWriter(draft, rows.schema)))
            writers[0].write_table(rows)

        yield append


def read_table(path: Path | str, columns: list[str] | None = None) -> pd.DataFrame:
    """A CSV or Parquet table; an empty cell is missing, and a city called NA stays one.

    Args:
        columns: columns that must be there.

    Raises:
        InputError: no such file, no table in it, or a column is missing.
    """
    import pandas as pd

    path = Path(path)
    try:
        table = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=_TEXTS)
        )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` makes it, `dvc pull` fetches it") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a table: {error}") from None
    missing = [name for name in columns or [] if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; found: {', '.join(map(str, table.columns))}")
    return table


_TEXTS = dict.fromkeys(
    ("id", "city", "spot", "path", "labels", "codec", "sha256", "split", "predicted", "explained"), str
)


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Indented JSON, keys in the order given, a line end at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file.

    Raises:
        InputError: no such file, or no JSON in it.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` makes it, `dvc pull` fetches it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def write_text(path: Path | str, text: str) -> None:
    """A text file in UTF-8."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
