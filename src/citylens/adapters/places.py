"""Where MLflow's runs and artefacts lie, made ready for many processes at once."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
HERE = ("127.0.0.1", "localhost", "::1")
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
PATIENCE = 5  # seconds
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that is down is noticed in seconds; by itself MLflow tries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Place:
    """An MLflow store's address, and the folder of its artefacts where they are on this file system."""

    address: str
    artifacts: Path | None


def main_folder(folder: Path | str = ".") -> Path:
    """The project's folder; of one of DVC's temporary experiment copies, which vanish, the folder it was copied from."""
    whole = Path(folder).resolve()
    parts = whole.parts
    for place in range(len(parts)):
        if parts[place : place + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:place])
    return whole


def place(address: str | None, folder: Path | str = ".") -> Place:
    """Where runs go: an address of MLflow's, relative files taken from the main folder; None for a database there."""
    main = main_folder(folder)
    if address is None:
        address = f"{SQLITE}mlflow.db"
    if not address.startswith(SQLITE):
        return Place(address, None if address.startswith("http") else main / "mlartifacts")
    database = main / address.removeprefix(SQLITE)
    return Place(f"{SQLITE}{database}", database.parent / "mlartifacts")


def connect(where: Place, experiment: str) -> tuple[MlflowClient, str]:
    """A client, and the experiment's id; database and experiment are made where they are missing.

    Raises:
        Exception: whatever MLflow raises where the store cannot be reached.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _knock(where.address)
    if where.address.startswith(SQLITE):
        _make_database(Path(where.address.removeprefix(SQLITE)), where, experiment)
    return _opened(where, experiment)


def _knock(address: str) -> None:
    """Of a database on another machine, whether anybody answers: MLflow would ask for a minute and a half.

    Raises:
        OSError: nobody does.
    """
    parts = urlsplit(address)
    port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname and port and not parts.scheme.startswith("http"):
        socket.create_connection((parts.hostname, port), PATIENCE).close()


def hush() -> None:
    """Keeps MLflow's remarks off the terminal for the rest of the process; failures still raise."""
    warnings.filterwarnings("ignore")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _opened(where: Place, experiment: str) -> tuple[MlflowClient, str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=where.address, registry_uri=where.address)
    known = client.get_experiment_by_name(experiment)
    if known is not None:
        return client, str(known.experiment_id)
    location = where.artifacts.as_uri() if where.artifacts else None
    return client, str(client.create_experiment(experiment, artifact_location=location))


def _make_database(database: Path, where: Place, experiment: str) -> None:
    """MLflow's migration breaks a database that two processes start at once: one makes it, whole, while the others wait."""
    if _has(database, experiment):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(database.with_name(database.name + ".lock")):
        if not database.exists():
            draft = database.with_name(database.name + ".draft")
            draft.unlink(missing_ok=True)
            _fill(draft, where, experiment)
            draft.replace(database)
        elif not _has(database, experiment):
            _opened(where, experiment)


def _fill(draft: Path, where: Place, experiment: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if where.artifacts is None:
        raise ValueError(f"{where.address} has no folder for artefacts")
    store = SqlAlchemyStore(f"{SQLITE}{draft}", where.artifacts.as_uri())
    store.create_experiment(experiment, artifact_location=where.artifacts.as_uri())
    store.engine.dispose()


def _has(database: Path, experiment: str) -> bool:
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as connection:
            return connection.execute("SELECT 1 FROM experiments WHERE name = ?", (experiment,)).fetchone() is not None
    except sqlite3.Error:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; whoever dies lets go."""
    with path.open("a") as file:  # empties nothing that a link in its place may lead to
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def local_folder(uri: str, store: str) -> Path | None:
    """The folder of artefacts on this file system, or None for those elsewhere.

    Args:
        uri: where the store says that they lie.
        store: its address.

    Raises:
        ValueError: a server on another machine names a folder of this one, and would have any folder written into.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if not is_local_uri(uri):
        return None
    server = urlsplit(store) if store.startswith("http") else None
    if server is not None and server.hostname not in HERE:
        raise ValueError(
            f"the server on {server.hostname} keeps artefacts in {uri}, a folder of this machine; allowed: a server that takes "
            "them itself (mlflow server --artifacts-destination)"
        )
    return Path(local_file_uri_to_path(uri))


def link(source: Path, target: Path) -> None:
    """A hard link to the file itself (not to a link to it), or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy(source, target)


@contextmanager
def patient() -> Iterator[None]:
    """Gives a server a minute to answer while files are on their way to it."""
    with setting("MLFLOW_HTTP_REQUEST_TIMEOUT", "60"):
        yield


@contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, as MLflow reads it each time, for the length of a block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
