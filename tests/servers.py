"""Real servers on 127.0.0.1 for tests, each as a context manager that stops what it started."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from clones import wait_for

NAME = "mlflow"  # the database's role and the S3 server's key


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(address: str) -> bool:
    """Return whether an MLflow server is ready."""
    try:
        with urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def program(name: str, package: str, *folders: Path) -> str:
    """Return the path of a program. Install its Debian package if this user may; otherwise skip the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *map(str, folders)])
    found = shutil.which(name, path=path)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", package]):
            subprocess.run(command, env=environment, capture_output=True, check=False)
        found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not here and cannot be installed; Debian's package {package} has it")
    return found


@contextmanager
def running(
    command: Sequence[object],
    log: Path,
    ready: Callable[[], bool],
    *,
    stop: signal.Signals = signal.SIGTERM,
    environment: dict[str, str] | None = None,
    **how: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, wait until it is ready, and stop it and its children when the block ends.

    With util-linux's setpriv the server also ends when the tests are killed.
    """
    bound = ["setpriv", "--pdeathsig", stop.name] if shutil.which("setpriv") else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*bound, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,
            **how,
        )
    try:
        wait_for(lambda: process.poll() is not None or ready(), f"{command[0]}, with the log {log},")
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        yield process
    finally:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class S3:
    """`folder` holds the buckets' objects as files."""

    address: str
    key: str
    secret: str
    folder: Path


@contextmanager
def s3(folder: Path, *buckets: str, key: str = NAME, secret: str | None = None) -> Iterator[S3]:
    """rclone's S3 server of a folder, with a key of its own."""
    rclone, port, secret = program("rclone", "rclone"), free_port(), secret or secrets.token_hex(16)
    for bucket in buckets:
        (folder / "s3" / bucket).mkdir(parents=True)
    with running(
        [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", os.devnull, folder / "s3"],
        folder / "s3.log",
        lambda: listens(port),
        environment={"RCLONE_AUTH_KEY": f'"{key},{secret}"'},  # read as a row of CSV
    ):
        yield S3(f"http://127.0.0.1:{port}", key, secret, folder / "s3")


@dataclass(frozen=True)
class Ssh:
    port: int
    user: str
    keyfile: Path


@contextmanager
def ssh(folder: Path) -> Iterator[Ssh]:
    """OpenSSH's server with a configuration, host key and user key of its own, for this user alone."""
    sshd, port = program("sshd", "openssh-server", Path("/usr/sbin")), free_port()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's sshd asks for it
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(command, check=True, capture_output=True)
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\nMaxStartups 100\nMaxSessions 100\n"
    )
    with running([sshd, "-D", "-e", "-f", folder / "config"], folder / "log", lambda: listens(port)):
        yield Ssh(port, getpass.getuser(), folder / "user")


@contextmanager
def postgres(folder: Path, password: str) -> Iterator[int]:
    """PostgreSQL with an empty cluster of its own, for the role `mlflow`; yields its port.

    PostgreSQL does not run as root, so root starts it as Debian's user postgres, in a folder that this user may enter.
    """
    initdb = program("initdb", "postgresql", *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    how: dict[str, Any] = {"cwd": "/"}
    if os.geteuid() == 0:
        how |= {"user": "postgres", "group": "postgres", "extra_groups": []}
    programs, port, cluster = Path(initdb).resolve().parent, free_port(), Path(tempfile.mkdtemp())
    try:
        (cluster / "password").write_text(password)
        for path in (cluster, cluster / "password") if "user" in how else ():
            shutil.chown(path, how["user"], how["group"])
        command = [initdb, "-D", cluster / "data", "-U", NAME, "--auth=scram-sha-256"]
        subprocess.run([*command, f"--pwfile={cluster}/password"], check=True, capture_output=True, **how)
        (cluster / "password").unlink()
        address = ["-h", "127.0.0.1", "-p", str(port)]
        with running(
            [programs / "postgres", "-D", cluster / "data", *address, "-c", "unix_socket_directories="],
            folder / "postgres.log",
            lambda: subprocess.run([programs / "pg_isready", "-q", *address]).returncode == 0,
            stop=signal.SIGINT,  # it then does not wait for clients that are still connected
            **how,
        ):
            yield port
    finally:
        shutil.rmtree(cluster)


@contextmanager
def mlflow(folder: Path, port: int, database: str, artifacts: object, **variables: str) -> Iterator[str]:
    """An MLflow server with these stores and environment variables; yields its address."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", artifacts]
    with running(command, folder / "mlflow.log", lambda: answers(address), environment=variables):
        yield address


@dataclass(frozen=True)
class Team:
    """An MLflow server's address, and the folder with the servers' logs and the S3 server's objects."""

    address: str
    folder: Path


@contextmanager
def team(folder: Path, password: str) -> Iterator[Team]:
    """MLflow on PostgreSQL and S3, as in deploy/compose.yaml, all with the same password."""
    with postgres(folder, password) as port, s3(folder, "mlflow", secret=password) as store:
        settings = {
            "PGPASSWORD": password,
            "AWS_ACCESS_KEY_ID": store.key,
            "AWS_SECRET_ACCESS_KEY": store.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": store.address,
            # rclone knows no checksums of Amazon's newer kind.
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }
        database = f"postgresql+psycopg://{NAME}@127.0.0.1:{port}/postgres"
        with mlflow(folder, free_port(), database, "s3://mlflow", **settings) as address:
            yield Team(address, folder)
