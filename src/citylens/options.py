"""What can be said to `citylens` on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import citylens
from citylens import settings

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


def parser() -> argparse.ArgumentParser:
    """Of all commands; `command` is the chosen one's name."""
    whole = argparse.ArgumentParser(prog="citylens", description=citylens.__doc__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, text in STAGES.items():
        command = commands.add_parser(stage, help=text)
        if stage in PER_NETWORK:
            command.add_argument("network", choices=settings.NETWORKS)
            command.add_argument("seed", type=int)
        if stage == "validate":
            command.add_argument("suite", choices=SUITES)
    use = commands.add_parser("use", help="write params.yaml from a profile")
    use.add_argument("profile", help="a file's name in profiles/, without .yaml")
    use.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as acquire.path=photos or train.epochs=10")
    commands.add_parser("sync", help="make whatever MLflow runs of dvc.lock are missing")
    check = commands.add_parser(
        "check", help="whether raw data are there, and those that results were made from, and the cache is whole"
    )
    check.add_argument("--accept", action="store_true", help="what changed is a new version")
    fetch = commands.add_parser("fetch", help="download a scene parser's weights into segment.path")
    fetch.add_argument("what", choices=("csail",), help="csail: segment.csail.parser, by ADE20K's authors")
    commands.add_parser("tidy", help="remove what params.yaml no longer names, and verdicts without Data Docs")
    _add_comparing(commands)
    _add_operations(commands)
    return whole


def _add_comparing(commands: Any) -> None:
    gate = commands.add_parser("gate", help="compare the metrics with those of a git revision; 1 where they are worse")
    gate.add_argument("--base", required=True, metavar="REV", help="a commit, branch or tag, such as origin/main")
    gate.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    gate.add_argument(
        "--output", metavar="FILE", help="write the table there, and as text to the terminal all the same"
    )
    gate.add_argument("--other-data", action="store_true", help="compare although the test images differ")
    promote = commands.add_parser("promote", help="make a network's challenger its champion, if the gate passes")
    promote.add_argument("network", choices=settings.NETWORKS)
    promote.add_argument("--version", help="of the registered model; without it, the alias challenger")
    promote.add_argument("--reason", required=True, metavar="TEXT")
    promote.add_argument("--other-data", action="store_true", help="although the champion was tested on other images")
    rollback = commands.add_parser("rollback", help="make the champion before the champion again")
    rollback.add_argument("network", choices=settings.NETWORKS)
    rollback.add_argument("--reason", required=True, metavar="TEXT")
    log = commands.add_parser("promotions", help="who was made champion when, and why")
    log.add_argument("network", nargs="?", choices=settings.NETWORKS)


def _add_operations(commands: Any) -> None:
    preloaded = commands.add_parser(
        "preload", help="run a command whose stages share libraries that are imported once: citylens preload dvc repro"
    )
    preloaded.add_argument("command_line", nargs=argparse.REMAINDER, metavar="COMMAND")
    verify = commands.add_parser(
        "verify", help="hash the cache and the workspace, or a remote, and name what is damaged"
    )
    verify.add_argument("--remote", nargs="?", const="", metavar="NAME", help="this remote, or the default one")
    verify.add_argument(
        "--remove", action="store_true", help="take damaged objects away, so that DVC brings whole ones"
    )
    server = commands.add_parser("server", help="an MLflow server on PostgreSQL and S3, on this machine alone")
    server.add_argument("--folder", type=Path, default=Path(".citylens/server"), help="where it keeps what it holds")
    for option, port in (("--port", 5000), ("--database-port", 5433), ("--store-port", 9000)):
        server.add_argument(option, type=int, default=port, help=f"on 127.0.0.1; {port} unless told")


def item(chosen: argparse.Namespace) -> tuple[Any, ...]:
    """What a stage runs on: network and seed, a suite, or nothing."""
    if chosen.command in PER_NETWORK:
        return chosen.network, chosen.seed
    return (chosen.suite,) if chosen.command == "validate" else ()
