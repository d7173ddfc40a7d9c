"""Real servers on 127.0.0.1 for tests, each as a context manager that stops what it started."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from citylens import server
from citylens.adapters import processes
from citylens.settings import InputError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, package: str, *folders: str) -> str:
    """A server's program; installed by apt where this process may; the test is skipped where it cannot be had."""
    try:
        return processes.program(name, package, *map(Path, folders))
    except InputError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(f"{name} is not here and cannot be installed by this user: Debian's package {package} has it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", package]):
        subprocess.run(command, env=environment, capture_output=True, check=False)
    try:
        return processes.program(name, package, *map(Path, folders))
    except InputError as error:
        pytest.skip(f"{error}; apt-get could not install it")


@dataclass(frozen=True)
class S3:
    """`folder` holds the buckets' objects as files."""

    address: str
    key: str
    secret: str
    folder: Path


@contextmanager
def s3(folder: Path, *buckets: str) -> Iterator[S3]:
    """rclone's S3 server with a key of its own."""
    rclone, port = program("rclone", "rclone"), free_port()
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    for bucket in buckets:
        (folder / "s3" / bucket).mkdir(parents=True)
    with server.store(folder / "s3", port, rclone, key, secret):
        yield S3(f"http://127.0.0.1:{port}", key, secret, folder / "s3")


@dataclass(frozen=True)
class Ssh:
    port: int
    user: str
    keyfile: Path


@contextmanager
def ssh(folder: Path) -> Iterator[Ssh]:
    """OpenSSH's server with a configuration, host key and user key of its own, for this user alone."""
    sshd, port = program("sshd", "openssh-server", "/usr/sbin"), free_port()
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
    command = [sshd, "-D", "-e", "-f", str(folder / "config")]
    with processes.server(command, folder / "log", lambda: processes.listens(port)):
        yield Ssh(port, getpass.getuser(), folder / "user")


@contextmanager
def tracking(password: str) -> Iterator[server.Plan]:
    """What `make server` starts."""
    with planned(password) as plan, server.running(plan):
        yield plan


@contextmanager
def planned(password: str) -> Iterator[server.Plan]:
    """The same, not started yet, in a folder that PostgreSQL's user reaches too."""
    program("initdb", "postgresql", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))
    program("rclone", "rclone")
    folder = Path(tempfile.mkdtemp(prefix="citylens-server-"))
    folder.chmod(0o755)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(server.PASSWORD, password)
            yield server.Plan(folder, free_port(), free_port(), free_port())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
