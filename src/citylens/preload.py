"""Stages that need not wait for their libraries: `citylens preload dvc repro`.

A study has some thirty stages; torch takes 3 s to import, Great Expectations 5 s. So a process beside the command imports what
stages use, and a stage is a fork of it. Citylens's own code is in none: each imports it anew, as it lies on disk by then. The
process ends with the command. Where there is none, and where there cannot be one (macOS), a stage imports for itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

ADDRESS = "CITYLENS_PRELOAD"  # of the process's socket, for stages
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# In the order in which stages come to need them; torch._dynamo is what an optimiser's first step imports.
LIBRARIES = (
    *("numpy", "pandas", "yaml", "cv2", "PIL.Image", "great_expectations", "scipy.io", "torch", "torchvision"),
    *("torch._dynamo", "safetensors.torch", "pyarrow.parquet", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("sklearn.decomposition", "openTSNE", "jinja2"),
)


def run(command: Sequence[str]) -> None:
    """Becomes the command, with a process beside it that holds the stages' libraries.

    Raises:
        OSError: the command cannot be run.
    """
    if hasattr(os, "pidfd_open") and ADDRESS not in os.environ:
        folder = tempfile.mkdtemp(prefix="citylens-")  # nobody else may enter it
        os.environ[ADDRESS] = str(Path(folder, "socket"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.environ[ADDRESS])
            listener.listen(128)
            subprocess.Popen(
                [sys.executable, "-m", "citylens.preload", folder, str(listener.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                # An import that asks whether there is a GPU would otherwise keep forks from using it.
                env=os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
                start_new_session=True,  # Ctrl-C reaches a stage by way of the process that waits for it
            )
    os.execvp(command[0], [*command])


def ask(arguments: Sequence[str]) -> int | None:
    """Has a stage run by a fork, and waits for it; signals go on to it.

    Returns:
        Its exit status; None where nobody can be asked.
    """
    if ADDRESS not in os.environ:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [b" "], [0, 1, 2])
        except OSError:
            return None
        said = json.dumps([[*arguments], str(Path.cwd()), dict(os.environ)]).encode()
        connection.sendall(len(said).to_bytes(4, "big") + said)
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, lambda got, _: _forward(connection, got))
        answer = connection.recv(10)
    if not answer:
        print(f"citylens {' '.join(arguments)}: the process that ran it ended; run it again", file=sys.stderr)
        return 1
    status = int(answer)
    if status < 0:  # killed: who waits for this process sees the same
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def _forward(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it has just ended
        connection.sendall(bytes([number]))


def serve(listener: socket.socket, parent: int) -> None:
    """Forks for whoever connects, until the process that `parent` is a descriptor of has ended, and the last fork."""
    pending, running = list(LIBRARIES), dict[int, tuple[BaseProcess, socket.socket]]()
    while parent not in (
        ready := select.select([parent, listener.fileno(), *running], [], [], 0 if pending else None)[0]
    ):
        _tell(running, ready)
        if listener.fileno() in ready:
            connection = listener.accept()[0]
            gc.freeze()  # a fork's garbage collector need not touch, and so copy, what all share
            fork = get_context("fork").Process(target=_work, args=[listener, connection])
            fork.start()
            running[fork.sentinel] = fork, connection
        elif pending:
            with contextlib.suppress(Exception):  # a stage that needs it will say so
                importlib.import_module(pending.pop(0))
    listener.close()
    while running:
        _tell(running, select.select([*running], [], [])[0])


def _tell(running: dict[int, tuple[BaseProcess, socket.socket]], ready: list[int]) -> None:
    """Their exit status, to those whose forks have ended."""
    for ended in running.keys() & set(ready):
        fork, connection = running.pop(ended)
        fork.join()
        with contextlib.suppress(OSError), connection:
            connection.sendall(str(fork.exitcode).encode())


def _work(listener: socket.socket, connection: socket.socket) -> None:
    """A stage, in a fork that ends without taking the libraries apart."""
    listener.close()
    arguments = _take_over(connection)
    from citylens import cli

    sys.exit(cli.main(arguments))


def _take_over(connection: socket.socket) -> list[str]:
    """Folder, environment and standard files of whom this fork works for, and its fate; the command's arguments."""
    _, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    arguments, folder, environment = json.loads(connection.recv(length, socket.MSG_WAITALL))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["citylens", *arguments]
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    importlib.invalidate_caches()
    Thread(target=_obey, args=[connection], daemon=True).start()
    return list(arguments)


def _obey(connection: socket.socket) -> None:
    """Signals, a byte each; whoever waits for this process may be killed, and it is then, too."""
    while order := connection.recv(1):
        os.kill(os.getpid(), order[0])
    os.kill(os.getpid(), signal.SIGKILL)


def _main(folder: str, listener: str, parent: str) -> None:
    try:
        with socket.socket(fileno=int(listener)) as own, contextlib.suppress(ProcessLookupError):
            own.set_inheritable(False)
            serve(own, os.pidfd_open(int(parent)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
