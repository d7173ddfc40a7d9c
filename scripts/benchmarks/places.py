"""Folders to measure in, filled with the images of the default study, which `make repro` left in data/."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd

from citylens.io import files, images
from citylens.nets import checkpoints, resizing
from citylens.settings import parser
from citylens.settings.schema import Settings
from citylens.train import training

CITIES = ("alder", "birch")


@contextmanager
def place() -> Iterator[Path]:
    """Go to an empty folder with the project's params.yaml, and come back; yield the project's folder."""
    project = Path.cwd()
    with TemporaryDirectory() as folder:
        shutil.copy("params.yaml", folder)
        os.chdir(folder)
        try:
            yield project
        finally:
            os.chdir(project)


def photographs(project: Path, count: int) -> list[np.ndarray]:
    """Return the first images of the study, repeated where there are fewer, each (H, W, 3) uint8."""
    manifest = files.read_table(project / "data/acquire/manifest.csv")
    read = [images.read_rgb(project / "data/acquire" / path) for path in manifest["path"][:count]]
    return [read[number % len(read)] for number in range(count)]


def prepared(project: Path, count: int, size: int) -> np.ndarray:
    """Write data/prepare/images.npy, (count, size, size, 3), and return the array."""
    pixels = np.stack([resizing.resize_image(image, size, "stretch") for image in photographs(project, count)])
    files.write_array("data/prepare/images.npy", pixels)
    return files.open_array("data/prepare/images.npy")


def folder_of_jpegs(project: Path, count: int, width: int, height: int) -> list[Path]:
    """Write JPEG files of a size into one folder per city, and return their paths."""
    paths = []
    for number, image in enumerate(photographs(project, count)):
        path = Path("jpegs", CITIES[number % 2], f"{number:05}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        images.write_jpeg(path, cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), 90)
        paths.append(path)
    return paths


def network(name: str, size: int) -> Path:
    """Write a network with random weights for two cities as `train` would, and return its path. Weights do not change the speed."""
    mean, std = training.INPUTS["imagenet"]
    card = checkpoints.Card(name, CITIES, size, "stretch", "same", mean, std)
    path = Path("models/train", f"{name}-0", "network.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.write_network(path, checkpoints.untrained(card), card)
    return path


def settings() -> Settings:
    """Return the settings in this folder."""
    return parser.load()


def repeated(project: Path, count: int, trained: list[str]) -> None:
    """Write what `measure` and `compare` read, for so many test images: those of the study, each repetition with spots of its own."""
    index = files.read_table(project / "data/explain" / trained[0] / "index.csv")
    rows = np.arange(count) % len(index)
    turns = (np.arange(count) // len(index)).astype(str)
    for name in trained:
        own = files.read_table(project / "data/explain" / name / "index.csv").iloc[rows].reset_index(drop=True)
        own = own.assign(id=own["id"] + "-" + turns, spot=own["spot"].astype(str) + "-" + turns)
        files.write_table(Path("data/explain", name, "index.csv"), own)
        for kind in ("masks", "untrained"):
            _repeat(project / "data/explain" / name / f"{kind}.npy", rows)
    _repeat(project / "data/segment/labels.npy", rows)
    shutil.copy(project / "data/segment/objects.csv", "data/segment/objects.csv")
    split = files.read_table(project / "data/prepare/index.csv")["split"]
    pixels = files.open_array(project / "data/prepare/images.npy")[np.flatnonzero(split == "test")]
    files.write_array("data/prepare/images.npy", pixels[rows])
    files.write_table("data/prepare/index.csv", pd.DataFrame({"split": ["test"] * count}))


def _repeat(path: Path, rows: np.ndarray) -> None:
    files.write_array(Path(*path.parts[path.parts.index("data") :]), files.open_array(path)[rows])
