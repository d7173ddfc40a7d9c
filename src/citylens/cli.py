"""The command `citylens`: a stage by its name, or a way to work with the study. Imports only what the command needs."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from citylens import preload, settings
from citylens.settings import InputError

SUITES = ("images", "splits", "masks", "segmentation")
STAGES = {
    "acquire": "bring the images in and write the manifest",
    "validate": "check a data set against its contract",
    "prepare": "decode, resize and split the images",
    "train": "train a network with a seed",
    "explain": "Grad-CAM of a trained network on every test image",
    "segment": "name the objects in every test image",
    "measure": "how much of each object each network uses (R)",
    "compare": "how far the masks of any two networks differ (AR)",
    "embed": "a network's masks in the plane (t-SNE)",
    "report": "figures, tables and the page",
    "register": "the networks into the MLflow registry",
}
PER_NETWORK = ("train", "explain", "embed")
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
    if arguments is None and sys.argv[1:2] and sys.argv[1] in STAGES:
        status = preload.ask(sys.argv[1:])
        if status is not None:
            return status
    # Imports make few cycles, and many objects to look for them among: a tenth of a stage's start.
    gc.set_threshold(50_000)
    chosen = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, lambda got, _: sys.exit(128 + got))  # so that drafts are swept up and servers stopped
    title = " ".join(str(part) for part in (chosen.command, *_item(chosen)))
    try:
        return int(chosen.run(chosen) or 0)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="citylens", description=sys.modules["citylens"].__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, text in STAGES.items():
        command = commands.add_parser(stage, help=text)
        command.set_defaults(run=_run_stage)
        if stage in PER_NETWORK:
            command.add_argument("network", choices=settings.NETWORKS)
            command.add_argument("seed", type=int)
        if stage == "validate":
            command.add_argument("suite", choices=SUITES)
    use = commands.add_parser("use", help="write params.yaml from a profile")
    use.add_argument("profile", help="a file's name in profiles/, without .yaml")
    use.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as acquire.path=photos or train.epochs=10")
    use.set_defaults(run=_use)
    commands.add_parser("sync", help="make whatever MLflow runs of dvc.lock are missing").set_defaults(run=_sync)
    check = commands.add_parser(
        "check", help="whether raw data are those that results were made from, and the cache is whole"
    )
    check.add_argument("--accept", action="store_true", help="what changed is a new version")
    check.set_defaults(run=_check)
    fetch = commands.add_parser("fetch", help="download a scene parser's weights into segment.path")
    fetch.add_argument("what", choices=("csail",), help="csail: segment.csail.parser, by ADE20K's authors")
    fetch.set_defaults(run=_fetch)
    commands.add_parser("tidy", help="remove outputs of networks that params.yaml no longer names").set_defaults(
        run=_tidy
    )
    _add_comparing(commands)
    _add_operations(commands)
    return parser


def _add_comparing(commands: Any) -> None:
    gate = commands.add_parser("gate", help="compare the metrics with those of a git revision; 1 where they are worse")
    gate.add_argument("--base", required=True, metavar="REV", help="a commit, branch or tag, such as origin/main")
    gate.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    gate.add_argument(
        "--output", metavar="FILE", help="write the table there, and as text to the terminal all the same"
    )
    gate.add_argument("--other-data", action="store_true", help="compare although the test images differ")
    gate.set_defaults(run=_gate)
    promote = commands.add_parser("promote", help="make a network's challenger its champion, if the gate passes")
    promote.add_argument("network", choices=settings.NETWORKS)
    promote.add_argument("--version", help="of the registered model; without it, the alias challenger")
    promote.add_argument("--reason", required=True, metavar="TEXT")
    promote.add_argument("--other-data", action="store_true", help="although the champion was tested on other images")
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser("rollback", help="make the champion before the champion again")
    rollback.add_argument("network", choices=settings.NETWORKS)
    rollback.add_argument("--reason", required=True, metavar="TEXT")
    rollback.set_defaults(run=_rollback)
    log = commands.add_parser("promotions", help="who was made champion when, and why")
    log.add_argument("network", nargs="?", choices=settings.NETWORKS)
    log.set_defaults(run=_promotions)


def _add_operations(commands: Any) -> None:
    preloaded = commands.add_parser(
        "preload", help="run a command whose stages share libraries that are imported once: citylens preload dvc repro"
    )
    preloaded.add_argument("command_line", nargs=argparse.REMAINDER, metavar="COMMAND")
    preloaded.set_defaults(run=_preload)
    verify = commands.add_parser(
        "verify", help="hash the cache and the workspace, or a remote, and name what is damaged"
    )
    verify.add_argument("--remote", nargs="?", const="", metavar="NAME", help="this remote, or the default one")
    verify.add_argument(
        "--remove", action="store_true", help="take damaged objects away, so that DVC brings whole ones"
    )
    verify.set_defaults(run=_verify)
    server = commands.add_parser("server", help="an MLflow server on PostgreSQL and S3, on this machine alone")
    server.add_argument("--folder", type=Path, default=Path(".citylens/server"), help="where it keeps what it holds")
    for option, port in (("--port", 5000), ("--database-port", 5433), ("--store-port", 9000)):
        server.add_argument(option, type=int, default=port, help=f"on 127.0.0.1; {port} unless told")
    server.set_defaults(run=_server)


def _item(chosen: argparse.Namespace) -> tuple[Any, ...]:
    if chosen.command in PER_NETWORK:
        return chosen.network, chosen.seed
    return (chosen.suite,) if chosen.command == "validate" else ()


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

    loaded, item = settings.load(), _item(chosen)
    if chosen.command in PER_NETWORK and item not in loaded.study.trained:
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
    from citylens.adapters.files import write_text

    write_text("params.yaml", profile_text(chosen.profile, chosen.changes))
    print(f"params.yaml is now profile {chosen.profile}" + "".join(f", {change}" for change in chosen.changes))


def profile_text(name: str, changes: Sequence[str] = ()) -> str:
    """params.yaml for a profile with some values changed; checked, and with its comments.

    Raises:
        InputError: unknown profile, or a change that params.yaml does not allow.
    """
    from ruamel.yaml import YAML

    known = sorted(path.stem for path in Path("profiles").glob("*.yaml"))
    if name not in known:
        allowed = ", ".join(known) or "none here: run citylens in the project's folder"
        raise InputError(f"unknown profile {name!r}; allowed: {allowed}")
    text = Path("profiles", f"{name}.yaml").read_text(encoding="utf-8")
    if not changes:
        settings.parse(settings.parse_yaml(text, f"profiles/{name}.yaml"))
        return text
    yaml, written = YAML(), io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    mapping = yaml.load(text)
    for change in changes:
        _change(mapping, change)
    yaml.dump(mapping, written)
    settings.parse(settings.parse_yaml(written.getvalue(), "params.yaml"))
    return written.getvalue()


def _change(mapping: Any, change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"{change!r} is no change; allowed: KEY=VALUE, such as train.epochs=10")
    *sections, name = key.split(".")
    for section in sections:
        mapping = mapping.get(section) if isinstance(mapping, dict) else None
    if not isinstance(mapping, dict) or name not in mapping:
        raise InputError(f"unknown key {key}; allowed: the keys of params.yaml")
    mapping[name] = settings.parse_yaml(value, change)


def _sync(chosen: argparse.Namespace) -> None:
    from citylens.sync import sync

    made: list[str] = sync(settings.load())
    print(f"sync: {len(made)} run(s) made" + "".join(f"\n  {name}" for name in made))


def _check(chosen: argparse.Namespace) -> None:
    from citylens.raw import check
    from citylens.verify import mend

    for path in check(chosen.accept):
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
    except (FileNotFoundError, PermissionError) as error:
        raise InputError(f"{chosen.command_line[0]} cannot be run: {error.strerror}") from None


def _tidy(chosen: argparse.Namespace) -> None:
    from citylens.tidy import tidy

    for path in tidy(settings.load()):
        print(f"tidy: {path} removed; params.yaml no longer names it")


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


if __name__ == "__main__":
    sys.exit(main())
