"""MLflow stores: where runs go, and how to open a store."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from citylens.errors import InputError
from citylens.io.masking import masked
from citylens.settings.schema import Tracking
from citylens.tracking import pages

if TYPE_CHECKING:
    from mlflow import MlflowClient

OFF = "off"
SQLITE = "sqlite:///"
HERE = ("127.0.0.1", "localhost", "::1")
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
FIRST_ANSWER, LATER_ANSWERS = 5, 60  # seconds
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow itself retries for minutes.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True)
class Store:
    """The address of an MLflow store, and the folder of its artefacts if that is on this file system."""

    address: str
    artifacts: Path | None


@dataclass(frozen=True)
class Experiment:
    """An experiment in an open store."""

    store: Store
    client: MlflowClient
    id: str
    name: str


def address(settings: Tracking) -> str | None:
    """Return where runs go, None for a database in the project's folder, or `off` for nowhere.

    CITYLENS_TRACKING comes first, then `tracking.address`, then MLflow's own MLFLOW_TRACKING_URI.
    """
    given = (os.environ.get("CITYLENS_TRACKING"), settings.address, os.environ.get("MLFLOW_TRACKING_URI"))
    first = next((text.strip() for text in given if text and text.strip()), None)
    return OFF if first and first.lower() == OFF else first


def main_folder(folder: Path | str = ".") -> Path:
    """Return the project's folder; for one of DVC's temporary experiment copies, the folder that it was copied from."""
    whole = Path(folder).resolve()
    for parent in whole.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return whole


def store(address: str | None, folder: Path | str = ".") -> Store:
    """Return the store at an MLflow address; None stands for a database in the main folder, which relative paths start from."""
    main = main_folder(folder)
    if address is None:
        address = f"{SQLITE}mlflow.db"
    if not address.startswith(SQLITE):
        return Store(address, None if address.startswith("http") else main / "mlartifacts")
    database = main / _database(address)
    return Store(_sqlite(database), database.parent / "mlartifacts")


def _sqlite(database: Path) -> str:
    """Return a database's address. MLflow makes the folder of an encoded name too, so an odd path is relative."""
    path = os.path.relpath(database) if {"%", "?"} & set(str(database)) else str(database)
    return SQLITE + path.replace("%", "%25").replace("?", "%3F")


def _database(address: str) -> Path:
    return Path(unquote(address.removeprefix(SQLITE)))


def lock(where: Store, purpose: str) -> FileLock:
    """Return a lock that one process at a time can hold, for all that use this store on this machine."""
    if where.address.startswith(SQLITE):
        database = _database(where.address)
        database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(database.with_name(f"{database.name}.{purpose}.lock"))
    folder = main_folder() / ".citylens"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / f"{purpose}.lock")


def connect(where: Store, name: str) -> Experiment:
    """Open a store and its experiment of this name; make database and experiment if they are missing.

    Raises:
        Exception: the one that MLflow raises if the store cannot be reached.
    """
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)
    _hush()
    _knock(where.address)
    with timeout(FIRST_ANSWER), lock(where, "open"):
        if where.address.startswith(SQLITE):
            _make_database(_database(where.address).absolute())
        import mlflow

        mlflow.set_tracking_uri(where.address)
        mlflow.set_registry_uri(where.address)
        client = mlflow.MlflowClient()
        known = client.get_experiment_by_name(name)
        while known is None:
            location = where.artifacts.as_uri() if where.artifacts else None
            with made_once():
                client.create_experiment(name, artifact_location=location)
            known = client.get_experiment_by_name(name)
        for tag, value in pages.experiment_tags(known.experiment_id).items():
            if tag not in known.tags:  # What a user has changed stays.
                _tag(client, known.experiment_id, tag, value)
    return Experiment(where, client, str(known.experiment_id), name)


def _tag(client: MlflowClient, experiment: str, tag: str, value: str) -> None:
    """Set a tag of an experiment; if two machines do so at once, MLflow's database refuses one of them."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment, tag, value)
    except MlflowException:
        if tag not in client.get_experiment(experiment).tags:
            raise


@contextmanager
def made_once() -> Iterator[None]:
    """Take no offence if another machine has made meanwhile what the block makes."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def reached(where: Store) -> Iterator[None]:
    """Turn failures of MLflow inside the block into errors that the user can act on.

    Raises:
        InputError: names the store and MLflow's reason.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = masked(" ".join(str(error).split()))[:300] or type(error).__name__
        raise InputError(f"tracking at {masked(where.address)} failed: {reason}") from None


@contextmanager
def timeout(seconds: int) -> Iterator[None]:
    """Wait at most so long for each answer of a tracking server inside the block, unless the user's environment says otherwise."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    given = name in os.environ
    if not given:
        os.environ[name] = str(seconds)
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


def _hush() -> None:
    """Keep remarks of MLflow off the terminal; failures still raise."""
    warnings.filterwarnings("ignore", module="mlflow")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _knock(address: str) -> None:
    """Check that a database server answers: MLflow itself would try for a minute and a half.

    Raises:
        OSError: no server answers.
    """
    parts = urlsplit(address)
    port = parts.port or PORTS.get(parts.scheme.partition("+")[0])
    if parts.hostname and port and not parts.scheme.startswith("http"):
        socket.create_connection((parts.hostname, port), FIRST_ANSWER).close()


def _make_database(database: Path) -> None:
    """Make a database file, whole or not at all: MLflow cannot repair one whose migration was killed."""
    if not database.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        draft = database.with_name(f"{database.name}.draft")
        draft.unlink(missing_ok=True)
        SqlAlchemyStore(_sqlite(draft), (database.parent / "mlartifacts").as_uri()).engine.dispose()
        draft.replace(database)


def local_folder(uri: str, address: str) -> Path | None:
    """Return the folder of artefacts on this file system, or None for artefacts elsewhere.

    Args:
        uri: where the store says that they are.
        address: the store's own address.

    Raises:
        ValueError: a server on another machine names a folder of this one; it could have any folder written into.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if not is_local_uri(uri):
        return None
    server = urlsplit(address) if address.startswith("http") else None
    if server is not None and server.hostname not in HERE:
        raise ValueError(
            f"the server on {server.hostname} keeps artefacts in {uri}, a folder of this machine; allowed: a server that takes "
            "them itself (mlflow server --artifacts-destination)"
        )
    return Path(local_file_uri_to_path(uri))
