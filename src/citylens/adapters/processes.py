"""Server processes: started one by one, waited for, and all stopped together."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from citylens.settings import InputError

STOPPING = 20  # seconds for a server to put its things in order
TAIL = 600  # characters of a server's log that an error shows


def program(name: str, package: str, *folders: Path) -> str:
    """Where a program lies: beside this Python, on the path, or in one of these folders.

    Raises:
        InputError: nowhere; says which package has it.
    """
    places = [Path(sys.executable).parent, *map(Path, os.environ.get("PATH", "").split(os.pathsep)), *folders]
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        raise InputError(f"{name} is not here; {package} has it")
    return found


def free(port: int, option: str) -> None:
    """Looks that nobody listens on a port of this machine.

    Raises:
        InputError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"port {port} cannot be had ({error.strerror}); {option} takes another") from None


@contextmanager
def server(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
    patience: float = 120,
    stop: signal.Signals = signal.SIGTERM,
    **how: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that is ready when the block begins, and gone when it has ended.

    Where there is util-linux's setpriv, it is told to stop when this process dies, of kill -9 too.

    Raises:
        InputError: it ends by itself or is not ready in `patience` seconds; shows the end of its log.
    """
    name = Path(command[0]).name
    bound = [setpriv, "--pdeathsig", stop.name] if (setpriv := shutil.which("setpriv")) else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*bound, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | (environment or {}),
            start_new_session=True,
            **how,
        )
    try:
        until = time.monotonic() + patience
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                said = " ".join(log.read_text(errors="replace").split())[-TAIL:]
                raise InputError(f"{name} did not start; {log} ends with: {said or 'nothing'}")
            time.sleep(0.1)
        yield process
    finally:
        _stop(process, stop)


def _stop(process: subprocess.Popen[bytes], asking: signal.Signals) -> None:
    """Asks first; what of its session is still there after a while is killed."""
    try:
        process.send_signal(asking)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING)
    finally:  # of a second Ctrl-C too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def listens(port: int) -> bool:
    """Whether somebody answers on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
