"""`make bench`: measure the speeds that docs/performance.md speaks of, after `make repro`.

Writes reports/benchmarks.json and reports/benchmarks.md. `make bench ROWS="explain train"` measures some parts and keeps the others' rows.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import commands
import explaining
import reading
import rehearsal
import scale
import torch
import training
from tabulate import tabulate
from timing import Row

from citylens.io.files import read_json, write_json, write_text

PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "explain": explaining.rows,
    "train": training.rows,
    "segment": reading.segment_rows,
    "scale": scale.rows,
    "tsne": scale.tsne_rows,
    "prepare": reading.rows,
    "commands": commands.rows,
    "ray": explaining.ray_rows,
    "rehearsal": rehearsal.rows,
}
JSON, TABLE = Path("reports/benchmarks.json"), Path("reports/benchmarks.md")


def main(chosen: list[str]) -> None:
    """Measure the parts, and write what is known after each."""
    found = read_json(JSON) if JSON.is_file() else {}
    for part in chosen or PARTS:
        rows, machine, threads = [], _machine(), torch.get_num_threads()  # before a part changes the number of threads
        for row in PARTS[part]():
            print(f"{row.what} | {row.against}: {row.figure}", flush=True)
            rows.append(asdict(row))
        found[part] = {"machine": machine, "threads": threads, "rows": rows}
        write_json(JSON, {name: found[name] for name in PARTS if name in found})
        write_text(TABLE, _table({name: found[name] for name in PARTS if name in found}))
    print(TABLE.read_text())


def _machine() -> str:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = model[0].partition(": ")[2] if model else platform.processor()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {gpu}, torch {torch.__version__}, {date.today()}"


def _table(found: dict[str, dict]) -> str:
    rows = [
        [
            row["what"],
            row["against"],
            row["bar"],
            row["figure"],
            {True: "yes", False: "no", None: "-"}[row["met"]],
            row["note"],
        ]
        for part in found.values()
        for row in part["rows"]
    ]
    machines = sorted({part["machine"] for part in found.values()})
    heads = ["what", "against", "bar", "measured", "met", "note"]
    return (
        "# Benchmarks\n\n`make bench` writes this page; docs/performance.md says what it means. A ratio is the median of the\n"
        "ratios of six turns, in `explain` of ten, with the quartiles in brackets, unless the note says else.\n\nMeasured on: "
        + "; ".join(machines)
        + "\n\n"
        + tabulate(rows, heads, tablefmt="github")
        + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
