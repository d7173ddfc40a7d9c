"""The command `citylens`: a stage by its name, or a way to work with the study. Imports only what the command needs."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from citylens import options, preload, settings
from citylens.settings import InputError

CSAIL = "http://sceneparsing.csail.mit.edu/model/pytorch"
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
MEMORY = ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory")  # torch's own errors say
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # cuBLAS gives equal bytes for equal runs only with a fixed workspace.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # torch then asks for large pages, which halves VGG11's step on a machine where page faults are dear; read at import.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; 0 where it went well, 1 where the input cannot be used, 2 where two sides cannot be compared, 130 where
    it was stopped."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if arguments is None and sys.argv[1:2] and sys.argv[1] in options.STAGES:
        status = preload.ask(sys.argv[1:])
        if status is not None:
            return status
    # Imports make few cycles, and many objects to look for them among: a tenth of a stage's start.
    gc.set_threshold(50_000)
    chosen = options.parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda got, _: sys.exit(128 + got))  # so that drafts are swept up and servers stopped
    title = " ".join(str(part) for part in (chosen.command, *options.item(chosen)))
    try:
        return int(_COMMANDS.get(chosen.command, _run_stage)(chosen) or 0)
    except InputError as error:
        from citylens.adapters import masking

        print(f"citylens {title}: {masking.masked(str(error))}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"citylens {title}: stopped; what was finished stays, and the same command goes on", file=sys.stderr)
        return 130
    except Exception as error:
        short = _shortage(error)
        if short is None:
            raise
        print(f"citylens {title}: {short}; nothing was half written, and the same command goes on", file=sys.stderr)
        return 1


def _shortage(error: Exception) -> str | None:
    """What the machine has too little of, or forbids; None where the error is another."""
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.strerror}: {error.filename or 'while writing'}"
    if isinstance(error, MemoryError) or any(text in str(error) for text in MEMORY):
        return "out of memory"
    return None


def _keep_memory() -> None:
    """Memory that torch lets go of stays with the process: giving it back and asking anew costs VGG11 a tenth of each step."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # glibc's alone
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no large block as a map of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def _run_stage(chosen: argparse.Namespace) -> None:
    from citylens.adapters import edits, tracker

    _keep_memory()

    loaded, item = settings.load(), options.item(chosen)
    if chosen.command in options.PER_NETWORK and item not in loaded.study.trained:
        named = ", ".join(settings.key(*trained) for trained in loaded.study.trained)
        raise InputError(f"{settings.key(*item)} is not in params.yaml's study; allowed: {named}")
    name = _dvc_name(chosen.command, item)
    watch = edits.Watch(name)
    module = importlib.import_module(f"citylens.stages.{chosen.command}")
    if not hasattr(module, "track"):
        module.run(loaded, tracker.Silent(), *item)
        watch.check()
        return
    with tracker.start(name, loaded) as run:
        module.run(loaded, run, *item)
        module.track(loaded, run, *item)
        watch.check()


def _dvc_name(command: str, item: tuple[Any, ...]) -> str:
    if command == "validate":
        return f"validate_{item[0]}"
    return f"{command}@{settings.key(*item)}" if item else command


def _use(chosen: argparse.Namespace) -> None:
    from citylens import profiles
    from citylens.adapters.files import write_text

    write_text("params.yaml", profiles.text(chosen.profile, chosen.changes))
    print(f"params.yaml is now profile {chosen.profile}" + "".join(f", {change}" for change in chosen.changes))


def _sync(chosen: argparse.Namespace) -> None:
    from citylens.sync import sync

    made: list[str] = sync(settings.load())
    print(f"sync: {len(made)} run(s) made" + "".join(f"\n  {name}" for name in made))


def _check(chosen: argparse.Namespace) -> None:
    from citylens import raw
    from citylens.verify import mend

    raw.check_parser(settings.load().segment)
    for path in raw.check(chosen.accept):
        print(f"check: {path} is taken as a new version")
    for finding in mend():
        print(f"check: {finding.path} was damaged, in DVC's cache too; it is taken away, to be made again or pulled")


def _fetch(chosen: argparse.Namespace) -> None:
    from citylens.adapters import downloads

    plan = settings.load().segment
    released = {plan.csail.encoder: "encoder_epoch_20.pth", plan.csail.decoder: "decoder_epoch_20.pth"}
    addresses = {name: f"{CSAIL}/ade20k-{plan.csail.parser}/{file}" for name, file in released.items()}
    made = downloads.fetch(addresses, Path(plan.path))
    print(f"fetch: {', '.join(made) or 'nothing to do'}; {Path(plan.path, downloads.SUMS)} has the sums")


def _verify(chosen: argparse.Namespace) -> int:
    from citylens.verify import DAMAGED, verify

    looked, found = verify(chosen.remote, chosen.remove)
    for finding in found:
        print(f"{finding.state}: {finding.location} ({finding.path})")
    counted = ", ".join(
        f"{sum(one.state == state for one in found)} {state}" for state in ("damaged", "missing", "different")
    )
    print(f"verify: {looked} objects; {counted}")
    if found and not chosen.remove and any(finding.state == DAMAGED for finding in found):
        print("`citylens verify --remove` with the same options takes damaged objects away")
    if found and chosen.remote is None:
        print(
            "`dvc pull` fetches what is missing, `dvc repro` makes it again; a different file: remove it, then `dvc checkout`"
        )
    elif found:
        print("`dvc push`, where the cache is whole, brings to the remote what is missing there")
    return 1 if found else 0


def _server(chosen: argparse.Namespace) -> None:
    from citylens.server import Plan, serve

    serve(Plan(chosen.folder.resolve(), chosen.port, chosen.database_port, chosen.store_port))


def _preload(chosen: argparse.Namespace) -> None:
    if not chosen.command_line:
        raise InputError("no command; allowed: a command that runs stages, such as citylens preload dvc repro")
    try:
        preload.run(chosen.command_line)
    except OSError as error:
        raise InputError(f"{chosen.command_line[0]} cannot be run: {error.strerror}") from None


def _tidy(chosen: argparse.Namespace) -> None:
    from citylens.tidy import forget_verdicts, tidy

    for path in tidy(settings.load()):
        print(f"tidy: {path} removed; params.yaml no longer names it")
    for path in forget_verdicts():
        print(f"tidy: {path} removed; its Data Docs are not here, so the data will be checked once more")


def _gate(chosen: argparse.Namespace) -> int:
    from citylens import gating
    from citylens.adapters.files import write_text

    try:
        report = gating.compare(settings.load(), chosen.base, other_data=chosen.other_data)
    except InputError as error:
        if chosen.output:
            write_text(chosen.output, gating.refused(chosen.base, error).text(chosen.format))
        raise settings.Incomparable(str(error)) from None
    if chosen.output:
        write_text(chosen.output, report.text(chosen.format))
    print(report.text("text" if chosen.output else chosen.format), end="")
    return report.status


def _promote(chosen: argparse.Namespace) -> int:
    from citylens import promoting

    return promoting.promote(
        settings.load(), chosen.network, chosen.reason, version=chosen.version, other_data=chosen.other_data
    )


def _rollback(chosen: argparse.Namespace) -> None:
    from citylens import promoting

    promoting.rollback(settings.load(), chosen.network, chosen.reason)


def _promotions(chosen: argparse.Namespace) -> None:
    from citylens import promoting

    print(promoting.log(settings.load(), chosen.network))


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "use": _use,
    "sync": _sync,
    "check": _check,
    "fetch": _fetch,
    "tidy": _tidy,
    "gate": _gate,
    "promote": _promote,
    "rollback": _rollback,
    "promotions": _promotions,
    "preload": _preload,
    "verify": _verify,
    "server": _server,
}

if __name__ == "__main__":
    sys.exit(main())
