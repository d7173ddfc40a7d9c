"""What a study of many images would take: hours, price, disk and memory, from the costs that `make bench` measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from citylens.errors import InputError
from citylens.nets import networks
from citylens.settings.schema import Settings

GB = 1e9
IMAGES = (150_000, 10_000_000, 1_000_000_000)
HASHED, LISTED = 41 / 48_000, 7.5 / 48_000
"""Seconds per file for DVC's first hash of a folder and for `dvc status` (measured, see docs/architecture.md)."""
LARGEST_FILE = 16 * 1024**4
"""Bytes of the largest file on ext4."""
BACKWARD = 3
"""A training step costs about three forward passes."""


@dataclass(frozen=True)
class Machines:
    """How many machines share the work, and of each the memory in bytes and the price per hour."""

    count: int
    memory: float
    price: float


@dataclass(frozen=True)
class Limit:
    """From how many images on something no longer works as it is, and the way past it."""

    images: float
    what: str
    way: str


def costs(benchmarks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is known of each stage in reports/benchmarks.json, by the stage's name.

    `seconds` are those of one image on the whole machine: for `explain` and `train` with one network, for `measure` and `compare` with
    all `networks` of that run, at `side` pixels. `memory` and `disk` are bytes per image.
    """
    rows = (row for part in benchmarks.values() for row in part["rows"])
    return {cost["stage"]: cost for row in rows for cost in row.get("costs", ())}


def hours(images: int, known: Mapping[str, Any], settings: Settings, machines: int = 1) -> dict[str, float]:
    """Return the hours of each stage. The stages that spread are divided by the number of machines; the others run on one.

    Raises:
        InputError: the benchmarks lack a stage.
    """
    study, train = settings.study, settings.train
    training, validation, test = (share * images for share in settings.prepare.shares)
    count = len(study.trained)
    needed = {name: len(study.seeds) for name in study.networks}
    epochs = train.epochs * (training + validation / BACKWARD)

    def took(stage: str) -> float:
        return _scaled(_known(known, stage), settings)

    seconds = {
        "train": sum(took(f"train {name}") * seeds for name, seeds in needed.items()) * epochs,
        "explain": sum(took(f"explain {name}") * seeds for name, seeds in needed.items()) * test * 2,  # untrained too
        "measure": took("measure") * test * count / _known(known, "measure")["networks"],
        "compare": took("compare") * test * _pairs(count) / _pairs(_known(known, "compare")["networks"]),
        "prepare": _known(known, f"prepare {settings.prepare.decode}")["seconds"] * images,
    }
    if settings.segment.segmenter != "oracle":
        seconds["segment"] = _known(known, "segment")["seconds"] * test
    seconds = {name: value / machines for name, value in seconds.items()}
    seconds["acquire, and DVC's hashes"] = (_known(known, "acquire")["seconds"] + 2 * HASHED) * images
    seconds["search for near-copies"] = _known(known, "near-copies")["seconds"] * images**2 * _searches(settings)
    seconds["embed"] = _known(known, "embed")["seconds"] * min(test, settings.embed.most) * count
    return {name: value / 3600 for name, value in seconds.items()}


def disk(images: int, known: Mapping[str, Any], settings: Settings) -> dict[str, float]:
    """Return the bytes of what a study writes. Photographs are linked where the disk allows it, and do not count."""
    size, test = settings.prepare.size, settings.prepare.shares[2] * images
    sides = networks.map_sides(settings.study.networks, size=size, padding=settings.train.padding)
    maps = sum(side**2 for side in sides.values()) * len(settings.study.seeds)
    per_network = _known(known, "measure")["disk"] / _known(known, "measure")["networks"]
    per_pair = _known(known, "compare")["disk"] / _pairs(_known(known, "compare")["networks"])
    count = len(settings.study.trained)
    return {
        "packed images": 3.0 * size**2 * images,
        "maps": 2 * 4.0 * maps * test,
        "labels": 1.0 * size**2 * test,
        "tables per image": (per_network * count + per_pair * _pairs(count)) * test,
    }


def limits(known: Mapping[str, Any], settings: Settings, machines: Machines, free: float) -> list[Limit]:
    """Return what fails as the images grow in number, that which fails first at the head.

    Args:
        free: bytes on the disk.
    """
    test, rows = settings.prepare.shares[2], _known(known, "acquire")["memory"]

    def largest(grown: Callable[[int], float], most: float) -> float:
        return most / grown(1_000_000) * 1_000_000

    def trained(images: int) -> float:
        return hours(images, known, settings, machines.count)["train"]

    def written(images: int) -> float:
        return sum(disk(images, known, settings).values())

    found = [
        Limit(
            60 / LISTED,
            "`dvc status` takes a minute: it looks at each file of data/acquire",
            "pack photographs into shards of some 10,000 (webdataset), and unpack those of a study; see docs/operations/cluster.md",
        ),
        Limit(
            machines.memory / rows,
            "the manifest, a table that stages read whole, fills the memory",
            "a machine with more memory; one study per part of the cities",
        ),
        Limit(
            machines.memory / max(_grown(known, settings).values()),
            "what `measure` and `compare` keep of each image fills the memory",
            "a smaller share of test images in prepare.shares; more memory",
        ),
        Limit(
            (86_400 / (_known(known, "near-copies")["seconds"] * _searches(settings))) ** 0.5,
            "the search for near-copies takes a day: its time grows with the square of the images",
            "one study per part of the cities: `validate splits` always searches",
        ),
        Limit(
            LARGEST_FILE / (3 * settings.prepare.size**2),
            "data/prepare/images.npy is larger than any file on ext4 (16 TB)",
            "XFS, Lustre or another file system with larger files; a smaller prepare.size",
        ),
        Limit(largest(trained, 720), "training takes a month", "GPUs; more machines; fewer images or epochs"),
        Limit(largest(written, free), "the results fill this disk", "a larger disk"),
        Limit(
            settings.embed.most / test,
            "t-SNE no longer shows all masks, but embed.most of them",
            "a larger embed.most, if a sample is not enough",
        ),
    ]
    return sorted(found, key=lambda limit: limit.images)


def text(
    counts: Sequence[int], benchmarks: Mapping[str, Any], settings: Settings, machines: Machines, free: float
) -> str:
    """Return the page that `citylens plan` prints: one column per number of images, and what fails first."""
    from tabulate import tabulate

    known = costs(benchmarks)
    spent = [hours(images, known, settings, machines.count) for images in counts]
    bytes_ = [disk(images, known, settings) for images in counts]
    totals = [sum(own.values()) for own in spent]
    heads = ["", *(f"{images:,} images" for images in counts)]
    rows = [[f"{stage}, hours", *(_number(own[stage]) for own in spent)] for stage in spent[0]]
    rows.append(["all, hours", *map(_number, totals)])
    rows.append(["price", *(_number(total * machines.count * machines.price) for total in totals)])
    rows += [[f"{name}, GB", *(_number(own[name] / GB) for own in bytes_)] for name in bytes_[0]]
    kept = max(_grown(known, settings).values())
    needed = [4 + max(_known(known, "acquire")["memory"], kept) * images / GB for images in counts]
    rows.append(["memory of the largest stage, GB", *map(_number, needed)])
    measured = sorted({part["machine"] for part in benchmarks.values()})
    failing = [
        f"  {limit.images:,.0f} images: {limit.what}.\n    {limit.way}"
        for limit in limits(known, settings, machines, free)
    ]
    said = (
        f"{settings.prepare.size} px, {len(settings.study.trained)} networks, {settings.train.epochs} epochs; {machines.count} "
        f"machine(s) with {machines.memory / GB:.0f} GB of memory, {machines.price:g} per hour each."
    )
    return "\n".join(
        (
            said,
            f"A projection from reports/benchmarks.json, measured on: {'; '.join(measured)}. No GPU is counted in.",
            "",
            tabulate(
                rows, heads, tablefmt="simple", disable_numparse=True, colalign=("left", *["right"] * len(counts))
            ),
            "",
            "What changes first, and from how many images on:",
            *failing,
        )
    )


def _searches(settings: Settings) -> int:
    """Return how often a study looks for near-copies: twice in `validate`, and in `prepare` if they shall stay together."""
    return 3 if settings.prepare.near_copies == "together" and settings.prepare.split != "random" else 2


def _grown(known: Mapping[str, Any], settings: Settings) -> dict[str, float]:
    """Return the bytes of memory by which `measure` and `compare` grow with each image of the study."""
    costs = {name: _known(known, name) for name in ("measure", "compare")}
    share = settings.prepare.shares[2] * len(settings.study.trained)
    return {name: cost["memory"] * share / cost["networks"] for name, cost in costs.items()}


def _known(known: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    if stage not in known:
        raise InputError(f"reports/benchmarks.json: no cost of {stage}; `make bench` measures all, after `make repro`")
    return known[stage]


def _scaled(cost: Mapping[str, Any], settings: Settings) -> float:
    return float(cost["seconds"] * (settings.prepare.size / cost["side"]) ** 2)


def _pairs(count: int) -> float:
    return count * (count - 1) / 2


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
