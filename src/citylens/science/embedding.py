"""Masks in the plane: PCA, then t-SNE (paper, section 2.2 and 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citylens.science import masks


def descriptors(maps: NDArray[np.floating], size: int, *, chunk: int = 256) -> NDArray[np.float32]:
    """Vectors as short as the maps whose distances are those of the weighted masks at the images' size.

    Upsampling is linear, x -> u x u', so |u x u'|^2 = |s x s'|^2 with s the square root of u'u: a mask of 112 x 112
    pixels needs no more numbers than its map of 7 x 7 has.

    Args:
        maps: (N, h, w) Grad-CAM maps before the ReLU, none of them dead.
        size: side of the images, in pixels.

    Returns:
        (N, h * w) float32.
    """
    rows, columns = (_root(side, size) for side in maps.shape[1:])
    result = np.empty((len(maps), maps.shape[1] * maps.shape[2]), np.float32)
    for start in range(0, len(maps), chunk):
        positive = np.maximum(maps[start : start + chunk], 0).astype(np.float64)
        large = np.stack([masks.upsample(values, size) for values in positive])
        low, high = (edge(large, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
        normal = (positive - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
        result[start : start + chunk] = (rows @ normal @ columns.T).reshape(len(positive), -1)
    return result


def _root(side: int, size: int) -> NDArray[np.float64]:
    # The columns of the identity, upsampled along one axis, are the columns of the upsampling operator.
    square = np.stack([masks.upsample(np.tile(row, (side, 1)), size)[0] for row in np.eye(side)], axis=1).astype(
        np.float64
    )
    values, vectors = np.linalg.eigh(square.T @ square)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def embed(
    vectors: NDArray[np.floating], *, components: int, perplexity: float, iterations: int, seed: int
) -> NDArray[np.float32]:
    """The masks' places in the plane.

    Args:
        vectors: (N, D), from `descriptors`.
        components: of the PCA, at most; fewer where there are fewer vectors or numbers in them.
        perplexity: of t-SNE; at most a third of the vectors, as its definition needs.

    Returns:
        (N, 2) float32; all zero for fewer than four vectors, which have no neighbours to keep.
    """
    import joblib
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
        initialization="pca",
        random_state=seed,
        n_jobs=joblib.cpu_count(),
    )
    return np.asarray(tsne.fit(reduced.astype(np.float32)), np.float32)


def neighbour_agreement(
    places: NDArray[np.floating], cities: NDArray[np.str_], neighbours: int = 10
) -> tuple[float, float]:
    """Mean share of each point's nearest neighbours in the plane that are of its city, and what chance would give.

    Args:
        places: (N, 2).
        cities: (N,).

    Returns:
        agreement, chance: in [0, 1]; NaN for fewer than two points.
    """
    if len(places) < 2:
        return float("nan"), float("nan")
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(places) - 1)
    # Without an argument, kneighbors leaves each point itself out, also where several share a place.
    nearest = NearestNeighbors(n_neighbors=count).fit(places).kneighbors(return_distance=False)
    agreement = (cities[nearest] == cities[:, None]).mean()
    sizes = np.unique(cities, return_counts=True)[1]
    chance = (sizes * (sizes - 1)).sum() / (len(cities) * (len(cities) - 1))
    return float(agreement), float(chance)
