"""measure, compare and t-SNE at the paper's number of test images, on images of the default study, repeated.

Run as `python scripts/benchmarks/scale.py STAGE`, it runs one stage in the present folder, and prints its seconds and megabytes.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import places
from timing import Row

from citylens.io import files
from citylens.nets.names import key

COUNTS = (1_000, 3_000, 10_000, 30_000)
MASKS, TRUSTED, NEIGHBOURS = 30_000, 3_000, 10


def rows() -> Iterator[Row]:
    """Measure eight networks with chance levels at each of COUNTS, once."""
    seconds, memory, last, read = {}, {}, {}, 0.0
    for count in COUNTS:
        with places.place() as project:
            names = [key(*trained) for trained in places.settings().study.trained]
            places.repeated(project, count, names)
            before, last = last, {stage: _apart(stage) for stage in ("measure", "compare")}
            seconds[count] = sum(own["s"] for own in last.values())
            memory[count] = max(own["MB"] for own in last.values()) * 2**20 / 1e9
            start = time.perf_counter()
            for path in (*Path("data/explain").glob("*/*.npy"), Path("data/segment/labels.npy")):
                files.open_array(path).sum()
            read = time.perf_counter() - start
    most = COUNTS[-1]
    slope = float(np.polyfit(np.log(COUNTS), np.log([seconds[count] for count in COUNTS]), 1)[0])
    what, against = f"measure + compare, {most:,} images x {len(names)} networks, 97 px", "one read of maps and labels"
    figure = f"{seconds[most] / 60:.1f} minutes; the read: {read:.1f} s"
    costs = tuple(
        {
            "stage": stage,
            "side": 97,
            "networks": len(names),
            "seconds": own["s"] / most,
            "memory": (own["MB"] - before[stage]["MB"]) * 2**20 / (most - COUNTS[-2]),
            "disk": own["disk"] / most,
        }
        for stage, own in last.items()
    )
    yield Row(what, against, "10 minutes on two cores", figure, seconds[most] <= 600, "run once", costs)
    yield Row(
        what,
        "",
        "2 GB",
        f"{memory[most]:.2f} GB",
        memory[most] <= 2,
        "without pages of files, which leave memory where it is short",
    )
    yield Row(
        "the same, at 3,000 images",
        "",
        "the same memory",
        f"{memory[3000]:.2f} GB",
        memory[most] <= 1.25 * memory[3000],
    )
    listed = ", ".join(f"{count:,}: {seconds[count]:.0f} s" for count in COUNTS)
    yield Row(
        "the same, over the number of images", "", "exponent 1.0 +- .1", f"{slope:.2f} ({listed})", 0.9 <= slope <= 1.1
    )


def _apart(stage: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, stage], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _run(stage: str) -> None:
    """Run a stage; print its seconds and the most memory of its own, without pages of files."""
    most = [0]

    def watch() -> None:
        while True:
            found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
            most[0] = max(most[0], int(found[1]) if found else 0)
            time.sleep(0.05)

    Thread(target=watch, daemon=True).start()
    start = time.perf_counter()
    importlib.import_module(f"citylens.{stage}.stage").run(places.settings())
    written = sum(path.stat().st_size for path in Path("data", stage).iterdir())
    print(json.dumps({"s": time.perf_counter() - start, "MB": most[0] / 1024, "disk": written}))


def tsne_rows() -> Iterator[Row]:
    """Measure t-SNE of 30,000 masks once each: ours and scikit-learn's, on the same vectors."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    from citylens.embed import embedding

    plan = places.settings().embed
    maps = files.open_array("data/explain/vgg11-0/masks.npy")
    generator = np.random.default_rng(0)
    weight = generator.random((MASKS, 1, 1)).astype(np.float32)
    first, second = (maps[generator.integers(0, len(maps), MASKS)] for _ in range(2))
    vectors = embedding.descriptors(weight * first + (1 - weight) * second, 97)
    reduced = PCA(min(plan.components, vectors.shape[1]), svd_solver="full").fit_transform(vectors)
    options = {"components": plan.components, "perplexity": plan.perplexity, "iterations": plan.iterations}
    start = time.perf_counter()
    own = embedding.embed(vectors, **options, seed=0)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    sklearn = TSNE(perplexity=plan.perplexity, max_iter=plan.iterations, init="pca", random_state=0, n_jobs=2)
    other = sklearn.fit_transform(reduced.astype(np.float32))
    theirs = time.perf_counter() - start
    some = generator.choice(MASKS, TRUSTED, replace=False)
    trust = [_trustworthiness(reduced, points, some) for points in (own, other)]
    yield Row(
        f"t-SNE of {MASKS:,} masks",
        "scikit-learn",
        "1.7 times faster at no worse trustworthiness",
        f"{theirs / ours:.2f} ({ours:.0f} s); trustworthiness {trust[0]:.3f}, scikit-learn {trust[1]:.3f}",
        theirs / ours >= 1.7 and trust[0] >= trust[1] - 0.001,
        "run once; masks are mixtures of two images' masks; trustworthiness of 3,000 of them",
        ({"stage": "embed", "seconds": ours / MASKS},),
    )


def _trustworthiness(vectors: np.ndarray, points: np.ndarray, some: np.ndarray) -> float:
    """Return the trustworthiness of some points among all (Venna and Kaski, 2001): 1 if no neighbour in the plane is a stranger.

    scikit-learn's takes all points, with 7 GB for each matrix of 30,000 x 30,000 distances.
    """
    count, penalty = len(vectors), 0
    for row in some:
        far = np.argsort(np.argsort(((vectors - vectors[row]) ** 2).sum(axis=1)))  # the point itself has rank 0
        near = np.argsort(((points - points[row]) ** 2).sum(axis=1))
        near = near[near != row][:NEIGHBOURS]
        penalty += np.maximum(far[near] - NEIGHBOURS, 0).sum()
    return float(1 - penalty * 2 / (len(some) * NEIGHBOURS * (2 * count - 3 * NEIGHBOURS - 1)))


if __name__ == "__main__":
    _run(sys.argv[1])
