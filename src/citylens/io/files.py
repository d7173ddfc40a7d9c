"""Arrays, tables and texts on disk. Each file and folder is written whole or not at all."""

from __future__ import annotations

import glob
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from citylens.errors import InputError
from citylens.io.yaml_files import refuse_conflict

if TYPE_CHECKING:
    import pandas as pd

_TEXTS = ("id", "city", "spot", "path", "labels", "codec", "sha256", "split", "predicted", "explained")


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a new path beside `path` to write to, and rename it to `path` at the end; after an error, remove it."""
    draft = _draft(Path(path))
    draft.touch()
    mode = draft.stat().st_mode
    try:
        yield draft
        draft.chmod(mode)  # safetensors writes a file that only its owner may read
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yield a new folder that replaces `path` at the end; after an error, `path` stays as it was."""
    path = Path(path)
    draft = _draft(path)
    draft.mkdir()
    try:
        yield draft
        old = draft.with_name(draft.name + "-old")
        if path.exists():
            path.replace(old)
        try:
            draft.replace(path)
        except BaseException:  # Ctrl-C too
            if old.exists():
                old.replace(path)
            raise
        _remove(old)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(path: Path) -> Path:
    """Return a new name beside `path`, and remove the drafts of killed processes. git and DVC ignore all such names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.draft*"):
        if left.name.endswith((f".draft{path.suffix}", f".draft{path.suffix}-old")):
            _remove(left)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft{path.suffix}")


def _remove(path: Path) -> None:
    """Remove a file, a folder, or a link and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def reading(path: Path | str, fault: str) -> Iterator[None]:
    """Turn every error of a reader into one that names the file; a damaged file can raise anything.

    Args:
        fault: what the file is not, or what cannot be done with it.

    Raises:
        InputError: the path, the fault and what the reader says; or there is no such file.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` makes it, `dvc pull` fetches it") from None
    except Exception as error:
        raise InputError(f"{path}: {fault}: {error}") from None


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write an .npy file."""
    with whole_file(path) as draft:
        np.save(draft, array, allow_pickle=False)


@contextmanager
def growing_array(path: Path | str, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """Yield an array of zeros, mapped from an .npy file, to fill piece by piece without holding it in memory."""
    with whole_file(path) as draft:
        array = reserved_array(draft, shape, dtype)
        yield array
        array.flush()


def reserved_array(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap:
    """Return an array of zeros, mapped from a new .npy file whose space on disk is reserved.

    Without the reservation, a disk that fills up would kill the process when it writes to the array.

    Raises:
        OSError: the disk has too little space.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:
        _reserve(file.fileno(), path.stat().st_size)
    return array


def _reserve(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)


def scratch_array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return an array of zeros in a file without a name, which ends with the array; where memory is short, its pages leave memory.

    Raises:
        OSError: the disk has too little space.
    """
    Path(".citylens").mkdir(exist_ok=True)
    with TemporaryFile(dir=".citylens") as file:
        _reserve(file.fileno(), math.prod(shape) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


def open_array(path: Path | str) -> np.ndarray:
    """Return the array of an .npy file, mapped from the file, so that it is read where it is used.

    Raises:
        InputError: the file does not exist or holds no whole array.
    """
    with reading(path, f"not a whole .npy array (`dvc checkout --force {path}` brings back the recorded one)"):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV or Parquet, by the ending of the path; floats keep all their digits."""
    with whole_file(path) as draft:
        if draft.suffix == ".parquet":
            table.to_parquet(draft, index=False)
        else:
            table.to_csv(draft, index=False, lineterminator="\n")


@contextmanager
def growing_table(path: Path | str) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends rows to a Parquet table; all calls have the same columns."""
    import pyarrow as pa
    from pyarrow import parquet

    with whole_file(path) as draft, ExitStack() as stack:
        writer: parquet.ParquetWriter | None = None

        def append(piece: pd.DataFrame) -> None:
            nonlocal writer
            rows = pa.Table.from_pandas(piece, preserve_index=False, schema=writer and writer.schema)
            writer = writer or stack.enter_context(parquet.ParquetWriter(draft, rows.schema))
            writer.write_table(rows)

        yield append


def read_table(path: Path | str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return a CSV or Parquet table. Only an empty cell is a missing value, so a city may be called NA.

    Args:
        columns: columns that the table must have.

    Raises:
        InputError: the file does not exist or holds no table, or a column is missing or stands there twice.
    """
    import pandas as pd

    with reading(path, "not a table"):
        if Path(path).suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_TEXTS, str))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; found: {', '.join(map(str, table.columns))}")
    doubled = [name for name in columns if f"{name}.1" in table.columns]  # pandas names the second so
    if doubled:
        raise InputError(f"{path}: column {doubled[0]} stands there twice; allowed: once")
    return table


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write indented JSON with the keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Return the value of a JSON file.

    Raises:
        InputError: the file does not exist or is not JSON.
    """
    with reading(path, "not JSON"):
        text = Path(path).read_text(encoding="utf-8")
        try:
            return json.loads(text)
        except ValueError:
            refuse_conflict(text, path)
            raise


def write_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
