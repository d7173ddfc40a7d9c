"""A rehearsal of the paper's study (`citylens use paper`): its stages at 224 px on few images, projected to all of them.

The photographs are images of the default study, repeated and enlarged to 640 x 480. `measure`, `compare` and t-SNE are not here: scale.py
runs them on the paper's number of masks.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import places
from timing import Row

from citylens.acquire import stage as acquire
from citylens.explain import stage as explain
from citylens.prepare import stage as prepare
from citylens.segment import stage as segment
from citylens.settings.schema import Settings
from citylens.train import stage as train

IMAGES, PAPER = 320, 151_968


def rows() -> Iterator[Row]:
    """Run each stage once, as the profile `paper` sets it, but for one epoch, one seed and two checked images."""
    segmenter = os.environ.get("SEGMENTER", "")
    if not segmenter:
        yield Row("rehearsal of the paper's study", "", "", "not run", None, "make bench SEGMENTER=FOLDER")
        return
    folder, total = Path(segmenter).resolve(), 0.0
    with places.place() as project:
        shutil.copytree(project / "profiles", "profiles")
        places.folder_of_jpegs(project, IMAGES, 640, 480)
        changes = [
            "acquire.source=folder",
            "acquire.path=jpegs",
            "acquire.datasets=[]",
            "study.seeds=[0]",
            "train.epochs=1",
        ]
        changes += ["segment.segmenter=onnx", f"segment.path={folder}", "explain.checked=2"]
        subprocess.run(["citylens", "use", "paper"], check=True)
        paper = places.settings()
        subprocess.run(["citylens", "use", "paper", *changes], check=True)
        settings = places.settings()
        acquire.run(settings)
        for stage, run, share, times in _stages(settings, len(paper.study.seeds), paper.train.epochs):
            before, start = _computed(), time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            busy = (_computed() - before) / (seconds * (os.cpu_count() or 1))
            hours = seconds / IMAGES * PAPER * times / 3600
            total += hours
            figure = f"{IMAGES * share / seconds:.1f} images/s; cores busy {busy:.0%} of the time; {hours:.1f} hours"
            yield Row(f"rehearsal, {stage}, 224 px", "", "", figure, None, f"hours: projection to {PAPER:,} images")
    note = "projection; measure, compare and t-SNE at this size, minutes, are in rows of their own"
    yield Row("rehearsal, all these stages", "", "", f"{total:.0f} hours", None, note)


def _stages(settings: Settings, seeds: int, epochs: int) -> Iterator[tuple[str, Callable[[], object], float, int]]:
    """Yield each stage's name, what runs it, the share of the images that it sees, and how often the study does that."""
    training, _, test = settings.prepare.shares
    yield "prepare", lambda: prepare.run(settings), 1.0, 1
    for name in settings.study.networks:
        yield f"train {name}, one epoch", lambda name=name: train.run(settings, name, 0), training, epochs * seeds
        yield f"explain {name}", lambda name=name: explain.run(settings, name, 0), test, seeds
    yield "segment", lambda: segment.run(settings), test, 1


def _computed() -> float:
    """Return the seconds that processors worked for this process and for its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(own.ru_utime + own.ru_stime for own in used)
