"""The command `citylens`: it runs a stage of the study, or a tool for its data, versions and networks."""

from __future__ import annotations

import contextlib
import errno
import gc
import getpass
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from citylens import options
from citylens.errors import Incomparable, InputError
from citylens.io import masking  # not later: an error may leave no memory for an import
from citylens.nets.names import key
from citylens.settings import parser
from citylens.settings.schema import Settings

CSAIL = "http://sceneparsing.csail.mit.edu/model/pytorch"
DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ESTALE),
    *(errno.EBUSY, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EMFILE, errno.ENFILE),
)
"""A disk that is full, broken or away, a limit of files, a mount in the place of an output: nothing that a traceback explains."""
MEMORY = ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory")  # in torch's own errors
PRIMITIVE = "could not create a primitive"  # all that torch says where memory runs out within oneDNN
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # cuBLAS gives equal bytes for equal runs only with a fixed workspace.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Large pages halve VGG11's step on a machine where page faults are slow; torch reads this at import.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 after success, 1 if the input cannot be used or the machine lacks something, 2 if two sides cannot be compared, 130
        if the command was interrupted.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal may lack letters of a city's name.
            stream.reconfigure(errors="backslashreplace")
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in /etc/passwd
        os.environ["USER"] = str(os.getuid())
    # Imports make many objects and few cycles; looking for them takes a tenth of a stage's start.
    gc.set_threshold(50_000)
    command, values = options.parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda got, _: sys.exit(128 + got))  # so that drafts are removed
    try:
        return int(_TOOLS.get(command, partial(_run_stage, command))(**values) or 0)
    except (Exception, KeyboardInterrupt) as error:
        status, text = _explained(error)
        if not text:
            raise
        item = values.values() if command in options.STAGES else ()
        print(f"citylens {' '.join(map(str, (command, *item)))}: {text}", file=sys.stderr)
        return status


def _explained(error: BaseException) -> tuple[int, str]:
    """Return exit status and message of an error that the user can act on; an empty message for any other."""
    if isinstance(error, InputError):
        return error.status, masking.masked(str(error))
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped; finished results are kept, and the same command continues"
    reason = ""
    if isinstance(error, OSError) and error.errno in DISK:
        reason = f"{error.strerror}: {error.filename or 'while writing'}"
    elif isinstance(error, MemoryError) or str(error) == PRIMITIVE or any(text in str(error) for text in MEMORY):
        reason = "out of memory"
    return 1, reason and f"{reason}; no half-written file is left, and the same command continues"


def _run_stage(command: str, **values: Any) -> None:
    from citylens.versions import edits, running

    running.end_with_dvc()
    _keep_memory()
    settings, item = parser.load(), tuple(values.values())
    if command in options.PER_NETWORK and item not in settings.study.trained:
        named = ", ".join(key(*trained) for trained in settings.study.trained)
        raise InputError(f"{key(*item)} is not in params.yaml's study; allowed: {named}")
    if command == "train" and os.environ.get("RANK", "0") != "0":  # torchrun's first process locks, logs and writes
        importlib.import_module("citylens.train.stage").run(settings, *item)
        return
    name = f"{command}@{key(*item)}" if command in options.PER_NETWORK else "_".join((command, *item))
    with running.alone(name), edits.watched(name):
        stage = importlib.import_module(f"citylens.{command}.stage")
        (_train if command == "train" else stage.run)(settings, *item)
    if command == "register":
        _log_study(settings)


def _keep_memory() -> None:
    """Keep memory that torch frees in the process: returning and requesting it again takes 6 % of VGG11's step."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: no large block as a map of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def _train(settings: Settings, network: str, seed: int) -> None:
    from citylens.tracking import live
    from citylens.train import stage

    with live.training(settings, network, seed) as run:
        if run is None:
            stage.run(settings, network, seed)
        else:
            stage.run(settings, network, seed, run.epoch)
            run.finish(stage.logged(network, seed))


def _log_study(settings: Settings) -> None:
    """Log the study; if the store cannot be reached, warn, because the results are on disk."""
    from citylens.tracking import stores, sync

    if stores.address(settings.tracking) == stores.OFF:
        return
    try:
        print(f"register: {len(sync.sync(settings))} run(s) logged in MLflow")
    except InputError as error:
        print(f"{error}; the results are on disk, `citylens sync` logs them later", file=sys.stderr)


def _use(profile: str, changes: list[str]) -> None:
    from citylens.io.files import write_text
    from citylens.settings import profiles

    write_text("params.yaml", profiles.text(profile, changes))
    print(", ".join((f"params.yaml is now profile {profile}", *changes)))


def _sync() -> None:
    from citylens.tracking.sync import sync

    made = sync(parser.load())
    print("\n  ".join((f"sync: {len(made)} run(s) made", *made)))


def _check(accept: bool) -> None:
    from citylens.segment.files_needed import check_files
    from citylens.versions import git, pipeline, raw
    from citylens.versions.verify import mend

    settings = parser.load()
    _check_maps(settings)
    if lost := pipeline.behind(git.show("HEAD", "dvc.lock")):
        few = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        print(f"check: dvc.lock lacks {few}; if they were not removed on purpose, {pipeline.WAY_OUT}")
    check_files(settings.segment)
    for path in raw.check(accept):
        print(f"check: {path} is taken as a new version")
    for finding in mend():
        print(
            f"check: {finding.path} was damaged, in DVC's cache too; removed; `dvc repro` makes it again, "
            "`dvc pull` fetches it"
        )


def _check_maps(settings: Settings) -> None:
    """Check that the networks' maps are fine enough.

    Raises:
        InputError: names the networks whose maps have too few cells, or that cannot take images of this size.
    """
    from citylens.nets import networks

    size, padding, least = settings.prepare.size, settings.train.padding, settings.explain.least_cells
    try:
        sides = networks.map_sides(settings.study.networks, size=size, padding=padding)
    except ValueError as error:
        raise InputError(str(error)) from None
    coarse = ", ".join(f"{name} {side} x {side}" for name, side in sides.items() if side < least)
    if coarse:
        raise InputError(
            f"at {size} px the Grad-CAM maps have these cells: {coarse}; allowed: {least} x {least} or more "
            "(explain.least_cells). A larger prepare.size, or train.padding: same for the shallow networks, gives more"
        )


def _fetch(what: str) -> None:
    from citylens.segment import downloads

    plan = parser.load().segment
    released = {plan.csail.encoder: "encoder_epoch_20.pth", plan.csail.decoder: "decoder_epoch_20.pth"}
    addresses = {name: f"{CSAIL}/ade20k-{plan.csail.parser}/{file}" for name, file in released.items()}
    downloads.fetch(addresses, Path(plan.path))
    print(f"fetch: {', '.join(addresses)} are in {plan.path}, with the sums in {downloads.SUMS}")


def _plan(images: list[int], machines: int, memory: float | None, price: float) -> None:
    import shutil

    import psutil

    from citylens import plan
    from citylens.io.files import read_json

    if min(images, default=1) < 1 or machines < 1:
        raise InputError("plan: images and --machines; allowed: whole numbers from 1 on")
    known, free = read_json("reports/benchmarks.json"), shutil.disk_usage(".").free
    each = plan.Machines(machines, memory * plan.GB if memory else psutil.virtual_memory().total, price)
    print(plan.text(images or plan.IMAGES, known, parser.load(), each, free))


def _verify(remote: str | None, remove: bool) -> int:
    from citylens.versions.verify import DAMAGED, DIFFERENT, MISSING, verify

    looked, found = verify(remote, remove)
    for finding in found:
        print(f"{finding.state}: {finding.location} ({finding.path})")
    states = [finding.state for finding in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in (DAMAGED, MISSING, DIFFERENT))
    print(f"verify: {looked} objects; {counted}")
    if DAMAGED in states and not remove:
        print("`citylens verify --remove` with the same options removes damaged objects")
    if found and remote is None:
        print(
            "`dvc pull` fetches what is missing, `dvc repro` makes it again; a different file: remove it, then `dvc checkout`"
        )
    elif found:
        print("`dvc push`, where the cache is whole, brings to the remote what is missing there")
    return 1 if found else 0


def _gate(base: str, format: str, output: str | None, other_data: bool) -> int:
    from citylens.gate import verdict

    try:
        report = verdict.compare(parser.load(), base, other_data=other_data)
    except InputError as error:
        if output:
            _write_output(output, verdict.refused(base, error).text(format))
        raise Incomparable(str(error)) from None
    if output:
        _write_output(output, report.text(format))
    print(report.text("text" if output else format), end="")
    return report.status


def _write_output(output: str, text: str) -> None:
    """Write to a file, to what a link leads to, or into a device or a pipe, which must not be replaced by a file.

    Raises:
        Incomparable: it is a folder.
    """
    from citylens.io.files import write_text

    path = Path(output).resolve()
    if path.is_dir():
        raise Incomparable(f"--output: {output}: a folder; allowed: a file")
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        write_text(path, text)


def _promote(**values: Any) -> int:
    from citylens.tracking import promotion

    return promotion.promote(parser.load(), **values)


def _rollback(**values: Any) -> None:
    from citylens.tracking import promotion

    promotion.rollback(parser.load(), **values)


def _promotions(network: str | None) -> None:
    from citylens.tracking import promotion

    print(promotion.log(parser.load(), network))


_TOOLS: dict[str, Any] = {
    tool.__name__.removeprefix("_"): tool
    for tool in (_use, _sync, _check, _fetch, _gate, _promote, _rollback, _promotions, _verify, _plan)
}

if __name__ == "__main__":
    sys.exit(main())
