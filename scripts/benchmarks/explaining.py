"""Compare `explain` with a plain forward pass, pytorch-grad-cam and Captum, and two workers of Ray with two threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import places
import torch
from timing import REPEATS, Row, medians, ratio, turns

from citylens.engine import map_shards
from citylens.explain import stage as explain
from citylens.nets import checkpoints, networks
from citylens.nets.names import NETWORKS
from citylens.nets.shards import shards
from citylens.settings.schema import Engine

SIZE, BATCH, TURNS = 224, 16, 10
IMAGES = BATCH * max(4, os.cpu_count() or 1)  # a batch or more for each core
ON_RAY, RAY_SIZE = 5000, 97


def rows() -> Iterator[Row]:
    """Measure each network at 224 px, in batches of 16, on all cores. `explain` takes turns with one other way at a time."""
    stored = []
    for name in NETWORKS:
        what = f"explain, {name}, 224 px"
        with places.place() as project:
            places.prepared(project, IMAGES, SIZE)
            ways = _ways(places.network(name, SIZE))
            ours = ways.pop("explain")
            took = {other: turns({"explain": ours, other: way}, TURNS) for other, way in ways.items()}
        forward, figure = ratio(took["forward"], "explain", "forward")
        seconds = medians(took["forward"])
        yield Row(
            what,
            "a plain forward pass over the same batches",
            "at most 1.15 times its time",
            f"{figure}; {IMAGES / seconds['explain']:.1f} images/s",
            forward <= 1.15,
            costs=({"stage": f"explain {name}", "side": SIZE, "seconds": seconds["explain"] / IMAGES},),
            seconds=seconds,
        )
        for tool, bar in (("pytorch-grad-cam", 2.5 if name == "resnet18" else 2.0), ("Captum", 1.0)):
            faster, figure = ratio(took[tool], tool, "explain")
            yield Row(what, tool, f"{bar:g} times faster", figure, faster >= bar)
        side = networks.map_sides([name], size=SIZE, padding="same")[name]
        stored.append((name, side * side / SIZE**2))
    share = ", ".join(f"{name} 1/{1 / own:.0f}" for name, own in stored)
    yield Row(
        "stored masks",
        "float32 at image size",
        "1/100 of the bytes or less",
        share,
        all(own <= 0.01 for _, own in stored),
        "maps are stored whole, at the network's own size; that of simple and simpler is fine, with padding: same",
    )


def _ways(path: Path) -> dict[str, Callable[[], object]]:
    """Return what takes turns. All but `forward`, whose batches are ready, begin with the prepared images."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    settings = places.settings()
    pixels, labels = np.load("data/prepare/images.npy"), np.zeros(IMAGES, np.int64)
    model, card = checkpoints.load_network(path)
    model.eval()
    layer = _target(model)
    plan, parts = replace(settings.explain, batch_size=BATCH), shards(IMAGES, BATCH)
    explained = explain._explaining(
        path, None, np.arange(IMAGES), labels, plan
    )  # opens the network once, as a stage does

    def batches() -> Iterator[torch.Tensor]:
        for part in parts:
            yield networks.to_input(torch.from_numpy(pixels[part]).to(networks.device()), card.mean, card.std)

    ready = list(batches())

    def forward() -> None:
        with torch.inference_mode():
            for batch in ready:
                model(batch).cpu()  # a GPU has then ended its work

    def ours() -> None:
        list(map_shards(lambda: explained, (), parts, settings.engine, network=True))

    def grad_cam() -> None:
        with GradCAM(model=model, target_layers=[layer]) as cam:
            for batch in batches():
                cam(input_tensor=batch, targets=[ClassifierOutputTarget(0)] * len(batch))

    def captum() -> None:
        for batch in batches():
            LayerGradCam(model, layer).attribute(batch, target=0).cpu()

    return {"explain": ours, "forward": forward, "pytorch-grad-cam": grad_cam, "Captum": captum}


def _target(model: torch.nn.Module) -> torch.nn.Module:
    """Return the last convolution without its ReLU, which works in place and stops the other tools, or ResNet's last block."""
    if hasattr(model, "layer4"):
        return model.layer4[-1]
    return [module for module in model.features if isinstance(module, torch.nn.Conv2d)][-1]


def ray_rows() -> Iterator[Row]:
    """Measure ResNet18 at 97 px over 5,000 images, on two workers of Ray and on two threads.

    The pace counts from a map's first result to its last: before, workers start and open the network; after, Ray ends.
    """
    from ray.cluster_utils import Cluster

    with places.place() as project:
        places.prepared(project, 320, RAY_SIZE)
        path, settings = places.network("resnet18", RAY_SIZE), places.settings()
        given = (path, None, np.arange(ON_RAY) % 320, np.zeros(ON_RAY, np.int64), settings.explain)
        parts = shards(ON_RAY, settings.explain.batch_size)
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # as the engine sets them
        start = time.perf_counter()
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        cluster = time.perf_counter() - start
        first: dict[str, list[float]] = {"ray": [], "local": []}
        paces: dict[str, list[float]] = {"ray": [], "local": []}
        for _ in range(REPEATS):
            for kind, engine in (
                ("ray", Engine("ray", 2, nodes.address, 0)),
                ("local", Engine("local", 2, "local", 0)),
            ):
                start = time.perf_counter()
                mapped = map_shards(explain._explaining, given, parts, engine, network=True)
                next(mapped)
                begun = time.perf_counter()
                images, ended = zip(*((len(maps), time.perf_counter()) for maps, _ in mapped), strict=True)
                first[kind].append(begun - start)
                paces[kind].append(sum(images) / (ended[-1] - begun))
        nodes.shutdown()
    pace, begin = ({kind: statistics.median(own) for kind, own in found.items()} for found in (paces, first))
    speed = pace["ray"] / pace["local"]
    starts = f"the cluster starts in {cluster:.0f} s, each stage's workers in {begin['ray']:.0f} s (threads: {begin['local']:.1f} s)"
    yield Row(
        "Ray, 2 workers on 2 cores, explain of 5,000 images",
        "the local pool",
        "90 % once started",
        f"{speed:.0%} ({pace['ray']:.0f} images/s); {starts}",
        speed >= 0.9,
    )
