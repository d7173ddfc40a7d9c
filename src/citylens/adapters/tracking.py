"""The process beside a stage that makes its MLflow run, and the server that it is forked from."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from citylens.adapters import masking, places, runs, versions


def serve(path: str, idle: str) -> None:
    """Forks a process for each stage that connects to standard input, a listening socket, until none has for a while."""
    places.hush()
    with contextlib.suppress(Exception):  # whoever is forked fails in the same way, and says so
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")  # opens nothing that a fork must not share
    listener = socket.socket(fileno=0)
    listener.settimeout(float(idle))
    busy = True
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            with places.locked(Path(path).with_name("tracking.lock")):  # no stage is looking for the server now
                if not busy and not select.select([listener], [], [], 0)[0]:
                    Path(path).unlink()
                    return
            busy = _children()
        else:
            if os.fork() == 0:
                _attend(connection)
            connection.close()
            busy = True


def _children() -> bool:
    """Whether any are still at work."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _attend(connection: socket.socket) -> None:
    """The process beside one stage, whose standard error comes with the first byte."""
    try:
        _, (stderr,), *_ = socket.recv_fds(connection, 1, 1)
        os.dup2(stderr, 2)
        os.dup2(connection.fileno(), 0)
        main()
    finally:
        os._exit(0)  # what the server holds is not ours to put away


def main() -> None:
    """Makes the run that lines on standard input, a socket, describe; says once what failed, and then takes the rest in silence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage, which then says how the run ended
    places.hush()
    _say(str(os.getpid()))
    lines = _lines()
    try:
        _work(lines)
    except Exception as error:
        reason = masking.masked(" ".join(str(error).split())) or type(error).__name__
        print(f"tracking: {reason[:300]}; the results are on disk, `citylens sync` logs them later", file=sys.stderr)
    for _ in lines:
        pass
    _say("done")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the stage is gone
        os.write(0, text.encode())


def _lines() -> Iterator[str]:
    with contextlib.suppress(ConnectionResetError):  # a stage that was killed may not have read what we said
        yield from sys.stdin


def _work(lines: Iterator[str]) -> None:
    _, (stage, experiment, address, environment, folder), _ = json.loads(next(lines))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    entry = versions.begun(stage)
    run = runs.begin(places.place(address), experiment, stage, {})
    try:
        if entry is not None:
            run.describe(entry)
        for line in lines:
            method, arguments, keywords = json.loads(line)
            if method == "end":
                if arguments == ["FINISHED"] and entry is not None:
                    run.conclude(versions.finished(entry))
                run.end(*arguments)
                return
            getattr(run, method)(*arguments, **keywords)
    except Exception:
        with contextlib.suppress(Exception):
            run.end("FAILED")
        raise
    run.end("KILLED")  # the stage is gone without a word


if __name__ == "__main__":
    serve(*sys.argv[1:]) if sys.argv[1:] else main()
