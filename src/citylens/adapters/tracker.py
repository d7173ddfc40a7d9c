"""Runs of the stages in MLflow, as a stage sees them.

A stage writes what it has to say to a process beside it, which notices when the stage dies. That process is forked from a
server which has imported MLflow (some seconds): the first stage starts it, those that follow find it. Tracking is best
effort: what fails there costs one warning, never the stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from citylens.adapters import places
from citylens.settings import Settings

IDLE = 30  # seconds; twice in a row without a stage, and the server ends
PATIENCE = 900  # seconds for what is still to be sent when the stage has ended; a network on its way to a far server


class Run(Protocol):
    """What a stage can log. Nothing here raises for what fails in the tracking."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Settings beside those that dvc.yaml names, which every run has; nested mappings become dotted names."""

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, at a step such as the epoch; nested mappings become dotted names, what is no number is left out."""

    def table(self, path: Path | str) -> None:
        """A CSV file, as it is and as a table that MLflow's pages show."""

    def file(self, path: Path | str, folder: str = "") -> None:
        """A file, or all files of a folder."""

    def figure(self, path: Path | str) -> None:
        """A PNG image."""

    def dataset(self, name: str, digest: str) -> None:
        """A version of data that the run used, beside the stage's dependencies; its digest has 36 characters at most."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Texts by name."""

    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None:
        """A network's safetensors file as a model that MLflow loads, serves and registers."""

    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
        """The logged model with these weights as a version of the registered model `name`; twice gives one version."""


class Silent:
    """Logs nothing."""

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None: ...
    def table(self, path: Path | str) -> None: ...
    def file(self, path: Path | str, folder: str = "") -> None: ...
    def figure(self, path: Path | str) -> None: ...
    def dataset(self, name: str, digest: str) -> None: ...
    def tags(self, values: Mapping[str, Any]) -> None: ...
    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None: ...
    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None: ...


class Beside:
    """Hands everything to the process beside the stage, one line of JSON a call: [method, [arguments], {keywords}]."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection: socket.socket | None = connection
        self.lines: list[bytes] = []

    def _send(self, method: str, *arguments: Any, **keywords: Any) -> None:
        self.lines.append(json.dumps([method, arguments, keywords], default=_plain).encode() + b"\n")
        if self._connection is None:
            return
        try:
            self._connection.sendall(self.lines[-1])
        except OSError:  # the process beside has ended, and said why
            self._connection = None

    def params(self, values: Mapping[str, Any]) -> None:
        self._send("params", values)

    def metrics(self, values: Mapping[str, Any], step: int | None = None) -> None:
        self._send("metrics", values, step)

    def table(self, path: Path | str) -> None:
        self._send("table", path)

    def file(self, path: Path | str, folder: str = "") -> None:
        self._send("file", path, folder)

    def figure(self, path: Path | str) -> None:
        self._send("figure", path)

    def dataset(self, name: str, digest: str) -> None:
        self._send("dataset", name, digest)

    def tags(self, values: Mapping[str, Any]) -> None:
        self._send("tags", values)

    def network(
        self, weights: Path | str, *, key: str, cities: tuple[str, ...], size: int, metrics: Mapping[str, float]
    ) -> None:
        self._send("network", weights, key=key, cities=cities, size=size, metrics=metrics)

    def register(self, name: str, weights_md5: str, tags: Mapping[str, Any]) -> None:
        self._send("register", name, weights_md5, tags)

    def end(self, status: str) -> None:
        """The last line; status is FINISHED, FAILED or KILLED."""
        self._send("end", status)


def _plain(value: Any) -> Any:
    """What json does not know: numpy's numbers as numbers, all else, such as paths, as text."""
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def start(stage: str, settings: Settings) -> Iterator[Run]:
    """A run of a DVC stage (`train@vgg11-0`) that ends with the block.

    An exception of the block marks the run FAILED, Ctrl-C marks it KILLED, and either goes on its way.
    """
    if address(settings) == "off":
        yield Silent()
        return
    with _connection() as connection:
        connection.settimeout(PATIENCE)
        run = Beside(connection)
        run._send("begin", stage, settings.tracking.experiment, address(settings), dict(os.environ), Path.cwd())
        try:
            yield run
        except BaseException as error:
            run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        else:
            run.end("FINISHED")
        finally:
            _conclude(connection, run.lines)


def _conclude(connection: socket.socket, lines: list[bytes]) -> None:
    said = _wait(connection)
    if not said:  # the server died before it took the stage up, so nothing is logged yet
        with _private() as own:
            own.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                own.sendall(b"".join(lines))
            said = _wait(own)
    if not said.endswith(b"done"):
        print("tracking: ended early; the results are on disk, `citylens sync` logs them later", file=sys.stderr)


def _wait(connection: socket.socket) -> bytes:
    """What the process beside says: its number when it begins, and `done` when it ends."""
    said = b""
    try:
        connection.shutdown(socket.SHUT_WR)
        while not said.endswith(b"done") and (part := connection.recv(100)):
            said += part
    except TimeoutError:
        if not said:
            return b"nothing in time"
        os.kill(int(said), signal.SIGKILL)
    except OSError:
        pass
    return said


def _connection() -> socket.socket:
    """To a process beside this one: a fork of the project's server or, where there can be none, one of our own."""
    try:
        connection = _server()
        socket.send_fds(connection, [b" "], [2])  # standard error, for warnings
    except OSError:
        return _private()
    return connection


def _private() -> socket.socket:
    connection, theirs = socket.socketpair()
    with theirs:
        _spawn(stdin=theirs)
    return connection


def _server() -> socket.socket:
    """A connection to the project's server, started where none answers.

    The server inherits a socket that listens already: what stages send while it imports MLflow lies ready.
    """
    if sys.platform == "darwin":
        raise OSError("libraries of macOS do not survive a fork")
    folder = places.main_folder() / ".citylens"
    folder.mkdir(exist_ok=True)
    path = folder / f"tracking-{_made_from()}"
    short = os.path.relpath(path)  # a socket's address has some 100 characters at most
    connection = socket.socket(socket.AF_UNIX)
    with places.locked(folder / "tracking.lock"):
        try:
            connection.connect(short)
        except (FileNotFoundError, ConnectionRefusedError):  # none, or one that was killed
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(short)
                path.chmod(0o600)
                listener.listen(128)
                _spawn(path, IDLE, stdin=listener, stderr=subprocess.DEVNULL, cwd=folder.parent, start_new_session=True)
                connection.connect(short)
    if not _is_ours(connection):
        raise OSError("another user listens there")
    return connection


def _is_ours(connection: socket.socket) -> bool:
    """Whether who listens is this user, and so may have the environment, keys included."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", said)[1] == os.geteuid())


def _made_from() -> str:
    """A digest of what a server has in it: other code or packages take another server."""
    files = [Path(sysconfig.get_path("purelib")), *sorted(Path(__file__).parents[1].rglob("*.py"))]
    times = [(str(file), file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((sys.executable, times)).encode()).hexdigest()[:12]


def _spawn(*arguments: Any, **how: Any) -> None:
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "citylens.adapters.tracking", *map(str, arguments)]
    environment = places.DEFAULTS | os.environ | {"PYTHONPATH": path}
    subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, **how)


def address(settings: Settings) -> str | None:
    """Where runs go: CITYLENS_TRACKING before params.yaml's; `off` for nowhere, None for the database in the project's folder."""
    return os.environ.get("CITYLENS_TRACKING") or settings.tracking.address
