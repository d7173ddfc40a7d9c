"""Masks as points in the plane by PCA and t-SNE (paper, sections 2.2 and 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citylens.nets import masks
from citylens.nets.shards import shards

JOBS = 2  # Fixed, because the embedding's bytes depend on the number of threads.
GRID_CELL = 1.2
"""Width of a cell of the grid on which openTSNE approximates the forces between more than 10,000 points; its default is 1. This takes
a third less time, and the KL divergence is still below that of scikit-learn (docs/performance.md)."""
SHARD = 256  # maps


def descriptors(maps: NDArray[np.floating], size: int, how: str = "minmax") -> NDArray[np.float32]:
    """Return vectors as short as the maps, with the distances that the weighted masks have at the images' size.

    Upsampling is linear, x -> u x v', so |u x v'|^2 = |s x t'|^2 with s and t the square roots of u'u and v'v. A mask of
    112 x 112 pixels so needs only the 49 numbers of its map of 7 x 7.

    Args:
        maps: (N, h, w) Grad-CAM maps before the ReLU, none of them dead. The vectors are (N, h * w).
        size: side of the images, in pixels.
        how: "minmax" or "max", as in `masks.normalise`.
    """
    rows, columns = (_root(side, size) for side in maps.shape[1:])
    result = np.empty((len(maps), maps.shape[1] * maps.shape[2]), np.float32)
    for part in shards(len(maps), SHARD):
        positive = np.maximum(maps[part], 0).astype(np.float64)
        large = np.stack([masks.upsample(values, size) for values in positive])
        low, high = (edge(large, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
        low = low if how == "minmax" else np.zeros_like(low)
        normal = (positive - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
        result[part] = (rows @ normal @ columns.T).reshape(len(positive), -1)
    return result


def _root(side: int, size: int) -> NDArray[np.float64]:
    """Return the square root s of u'u, (side, side), with u the upsampling from `side` to `size`."""
    # The rows of the identity, upsampled along one axis, are the columns of the upsampling operator.
    columns = [masks.upsample(np.tile(row, (side, 1)), size)[0] for row in np.eye(side)]
    square = np.stack(columns, axis=1).astype(np.float64)
    values, vectors = np.linalg.eigh(square.T @ square)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def embed(
    vectors: NDArray[np.floating], *, components: int, perplexity: float, iterations: int, seed: int, start: str = "pca"
) -> NDArray[np.float32]:
    """Return the masks' points in the plane, (N, 2); all zero for fewer than four masks, too few for neighbourhoods.

    Args:
        vectors: (N, D), from `descriptors`.
        components: of the PCA; at most N and D are used.
        perplexity: of t-SNE; at most (N - 1) / 3 is used, as its definition needs.
        iterations: of t-SNE in all, of which the first half, but at most 250, exaggerate attraction.
        seed: the same gives the same points.
        start: of t-SNE, "pca" or "random".
    """
    from openTSNE import TSNE
    from sklearn.decomposition import PCA

    if len(vectors) < 4:
        return np.zeros((len(vectors), 2), np.float32)
    kept = min(components, *vectors.shape)
    reduced = PCA(kept, svd_solver="full", random_state=seed).fit_transform(vectors)
    exaggerated = min(250, iterations // 2)
    tsne = TSNE(
        perplexity=min(perplexity, (len(vectors) - 1) / 3),
        early_exaggeration_iter=exaggerated,
        n_iter=iterations - exaggerated,
        initialization=start,
        random_state=seed,
        n_jobs=JOBS,
        ints_in_interval=GRID_CELL,
    )
    return np.asarray(tsne.fit(reduced.astype(np.float32)), np.float32)


def neighbour_agreement(
    points: NDArray[np.floating], cities: NDArray[np.str_], neighbours: int = 10
) -> tuple[float, float]:
    """Return the mean share of a point's nearest neighbours that are of its city, and the share expected by chance.

    Both are in [0, 1], and NaN for fewer than two points. The points are (N, 2), and at most N - 1 neighbours are used.
    """
    if len(points) < 2:
        return float("nan"), float("nan")
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(points) - 1)
    # Called without points, kneighbors leaves out each point itself, even if several points coincide.
    nearest = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False)
    agreement = (cities[nearest] == cities[:, None]).mean()
    sizes = np.unique(cities, return_counts=True)[1]
    chance = (sizes * (sizes - 1)).sum() / (len(cities) * (len(cities) - 1))
    return float(agreement), float(chance)
