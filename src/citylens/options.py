"""The commands of `citylens` and their options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import citylens
from citylens.nets.names import NETWORKS

STAGES = {
    "acquire": "collect or draw the images, and write the manifest",
    "validate": "check a data set against its contract",
    "prepare": "decode, resize and split the images",
    "train": "train a network with a seed",
    "explain": "compute the Grad-CAM of a trained network on every test image",
    "segment": "name the objects in every test image",
    "measure": "measure how much of each object the explanations cover (R)",
    "compare": "measure how much the masks of any two networks differ (AR)",
    "embed": "show the masks of each network in the plane (t-SNE)",
    "report": "write the figures, the tables and the page",
    "register": "list the networks for MLflow's registry, and log the study in MLflow",
}
PER_NETWORK = ("train", "explain")


def parse(arguments: Sequence[str] | None) -> tuple[str, dict[str, Any]]:
    """Return the command, and the values of its options by their names."""
    parser = argparse.ArgumentParser(prog="citylens", description=citylens.__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, text in STAGES.items():
        command = commands.add_parser(stage, help=text)
        if stage in PER_NETWORK:
            command.add_argument("network", choices=NETWORKS)
            command.add_argument("seed", type=int)
        if stage == "validate":
            command.add_argument("data", choices=("images", "splits", "results"))
    _add_data(commands)
    _add_comparing(commands)
    values = vars(parser.parse_args(arguments))
    return values.pop("command"), values


def _add_data(commands: Any) -> None:
    use = commands.add_parser("use", help="write params.yaml from a profile")
    use.add_argument("profile", help="the name of a file in profiles/, without .yaml")
    use.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="such as acquire.path=photos or train.epochs=10")
    commands.add_parser("sync", help="log the results of dvc.lock that MLflow lacks")
    check = commands.add_parser(
        "check", help="check that raw data are those of the results, and that settings and DVC's cache are whole"
    )
    check.add_argument("--accept", action="store_true", help="take changed raw data as a new version")
    fetch = commands.add_parser("fetch", help="download a scene parser's weights into segment.path")
    fetch.add_argument("what", choices=("csail",), help="csail: segment.csail.parser, from the authors of ADE20K")
    verify = commands.add_parser(
        "verify", help="hash the cache and the workspace, or a remote, and name what is damaged"
    )
    verify.add_argument("--remote", nargs="?", const="", metavar="NAME", help="this remote, or the default one")
    verify.add_argument("--remove", action="store_true", help="remove damaged objects, so that DVC brings whole ones")

    plan = commands.add_parser("plan", help="say what a study of many images would take, from reports/benchmarks.json")
    plan.add_argument("images", nargs="*", type=int, help="numbers of images; default: 150000 10000000 1000000000")
    plan.add_argument(
        "--machines", type=int, default=1, metavar="N", help="number of machines that share the work; default: 1"
    )
    plan.add_argument(
        "--memory", type=float, metavar="GB", help="memory of each machine; default: that of this machine"
    )
    plan.add_argument(
        "--price", type=float, default=0.1, help="price of one machine for one hour, in any currency; default: 0.1"
    )


def _add_comparing(commands: Any) -> None:
    gate = commands.add_parser(
        "gate", help="compare the metrics with those of a git revision; status 1 if any is worse"
    )
    gate.add_argument("--base", required=True, metavar="REV", help="a commit, branch or tag, such as origin/main")
    gate.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    gate.add_argument("--output", metavar="FILE", help="write the table to this file, and as text to the terminal")
    gate.add_argument("--other-data", action="store_true", help="compare even if the test images differ")
    promote = commands.add_parser("promote", help="make a network's challenger its champion, if it is no worse")
    promote.add_argument("network", choices=NETWORKS)
    promote.add_argument("--version", help="of the registered model; default: the version with the alias challenger")
    promote.add_argument("--reason", required=True, metavar="TEXT")
    promote.add_argument("--other-data", action="store_true", help="even if the champion was tested on other images")
    rollback = commands.add_parser("rollback", help="undo the last promotion: the champion before is champion again")
    rollback.add_argument("network", choices=NETWORKS)
    rollback.add_argument("--reason", required=True, metavar="TEXT")
    log = commands.add_parser("promotions", help="list all champions: when, which and why")
    log.add_argument("network", nargs="?", choices=NETWORKS)
