"""Compare `prepare` with PIL, and `segment` with its network's bare forward pass; time what has no bar."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import places
from PIL import Image
from timing import Row, medians, ratio, turns

from citylens.acquire import stage as acquire
from citylens.engine import map_shards
from citylens.io import files
from citylens.nets import near_copies
from citylens.nets.shards import shards
from citylens.prepare import stage as prepare
from citylens.segment import onnx_parser
from citylens.segment import stage as segment

WIDTH, HEIGHT, SIZE = 640, 480, 224
IMAGES, LABELLED, HASHES = 512, 32, 100_000


def rows() -> Iterator[Row]:
    """Measure JPEG files of 640 x 480, resized to 224 x 224."""
    with places.place() as project, ProcessPoolExecutor(os.cpu_count()) as pool:
        paths = [str(path) for path in places.folder_of_jpegs(project, IMAGES, WIDTH, HEIGHT)]
        Path("data").mkdir()
        Path("data/acquire").symlink_to(Path.cwd())
        engine, parts = places.settings().engine, shards(IMAGES, prepare.SHARD)
        plan = replace(places.settings().prepare, size=SIZE)

        def ours(decode: str) -> object:
            given = (paths, replace(plan, decode=decode), 100.0)
            return lambda: list(map_shards(prepare._resizing, given, parts, engine))

        pil = {"PIL": lambda: list(pool.map(resized_by_pil, [str(Path.cwd() / path) for path in paths], chunksize=32))}
        took = turns(pil | {decode: ours(decode) for decode in ("whole", "reduced")})
    seconds = medians(took)
    for decode in ("reduced", "whole"):
        faster, figure = ratio(took, "PIL", decode)
        note = "the default, which drops nothing before resizing" if decode == "whole" else ""
        yield Row(
            f"prepare, 640 x 480 to 224, decode: {decode}",
            "PIL (decode, bilinear resize), one process per core",
            "1.5 times",
            f"{figure}; {IMAGES / seconds[decode]:.0f} images/s",
            faster >= 1.5,
            note,
            ({"stage": f"prepare {decode}", "seconds": seconds[decode] / IMAGES},),
            seconds,
        )
    yield from _other_rows()


def _other_rows() -> Iterator[Row]:
    """Measure what has no bar, for `citylens plan`."""
    with places.place() as project:
        places.folder_of_jpegs(project, IMAGES, WIDTH, HEIGHT)
        settings = places.settings()
        plan = replace(settings.acquire, source="folder", path="jpegs")
        seconds = medians(turns({"acquire": lambda: acquire.run(replace(settings, acquire=plan))}))["acquire"] / IMAGES
        manifest = files.read_table("data/acquire/manifest.csv")
    memory = float(manifest.memory_usage(deep=True).sum()) / IMAGES
    cost = {"stage": "acquire", "seconds": seconds, "memory": memory}
    figure = f"{1 / seconds:.0f} images/s; {memory:.0f} bytes of memory per row of the manifest"
    yield Row("acquire, a folder of photographs", "", "", figure, None, costs=(cost,))
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 1 << 64, HASHES, np.uint64, endpoint=False)
    splits, every = np.arange(HASHES) % 3, np.arange(HASHES)
    took = medians(turns({"pairs": lambda: near_copies.neighbours(codes, splits, every)}))["pairs"]
    cost = {"stage": "near-copies", "seconds": took / HASHES**2}
    figure = f"{took:.1f} s; the time grows with the square"
    yield Row(f"near-copies among {HASHES:,} images", "", "", figure, None, costs=(cost,))


def resized_by_pil(path: str) -> np.ndarray:
    """Return an image as it is commonly read."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def segment_rows() -> Iterator[Row]:
    """Measure the scene parser in the folder that SEGMENTER names: segmenter.onnx and objects.csv."""
    what, against, bar = "segment, ONNX, 640 x 480", "the network's bare forward pass", "90 %"
    folder = os.environ.get("SEGMENTER", "")
    if not folder:
        yield Row(what, against, bar, "not run", None, "make bench SEGMENTER=FOLDER")
        return
    path = Path(folder).resolve()
    with places.place() as project:
        jpegs = places.folder_of_jpegs(project, LABELLED, WIDTH, HEIGHT)
        Path("data").mkdir()
        Path("data/acquire").symlink_to(Path.cwd())
        settings = places.settings()
        settings = replace(settings, segment=replace(settings.segment, segmenter="onnx", path=str(path)))
        test, plan = pd.DataFrame({"path": list(map(str, jpegs))}), settings.segment
        session = onnx_parser._session(path / plan.onnx.model, plan.onnx)
        inputs = _inputs(session, plan.onnx, project)
        parts, label = (
            shards(LABELLED, plan.batch_size),
            segment._labelling(test, settings),
        )  # opens it once, as a stage

        def ours() -> object:
            return list(map_shards(lambda: label, (), parts, settings.engine, network=True))

        def bare() -> None:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                list(threads.map(lambda one: session.run(None, one), inputs))

        took = turns({"segment": ours, "bare": bare})
    share, figure = ratio(took, "bare", "segment", ".1%")
    seconds = medians(took)
    yield Row(
        what,
        against,
        bar,
        f"{figure}; {LABELLED / seconds['segment']:.1f} images/s",
        share >= 0.9,
        plan.onnx.model,
        seconds=seconds,
        costs=({"stage": "segment", "seconds": seconds["segment"] / LABELLED},),
    )


def _inputs(session: object, onnx: object, project: Path) -> list[dict[str, np.ndarray]]:
    name = session.get_inputs()[0].name
    return [{name: onnx_parser._prepared(image, onnx)[None]} for image in places.photographs(project, LABELLED)]
