"""The table of all pairs of networks, with chance levels and intervals, and the tests of the paper's claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from citylens.compare import mask_grids, residual
from citylens.nets.names import key, split_key
from citylens.stats import pairings
from citylens.stats.intervals import mean_interval, ratio_interval

PAIR = ["first", "second"]
Grids = Mapping[str, Mapping[str, NDArray[np.float32]]]
"""Masks on the grid, (N, 256), by kind (masks or untrained) and trained network."""
ON_GRID = {"masks": ("residual_grid", "swapped"), "untrained": ("untrained", "untrained_swapped")}
"""By kind, the columns of AR on the grid: with both masks of one image, and with the second network's masks swapped."""


def means(
    images: pd.DataFrame,
    dead: Mapping[str, NDArray[np.int64]],
    values: Mapping[tuple[str, str], dict[str, NDArray[np.float64]]],
    on_grid: Mapping[tuple[str, str], Mapping[str, NDArray[np.float64]]],
) -> pd.DataFrame:
    """Return one row per pair of trained networks, means over the test images.

    Args:
        images: city, spot of each test image.
        dead: by trained network, (N,), whether each mask is dead, 0 or 1.
        values: by pair, each (N,): see `residual.values`, and rank_correlation, Spearman's of the masks on the grid.
        on_grid: by pair, each (N,): the columns of ON_GRID.

    Returns:
        first, second, kind; residual (AR) with its 95 % interval low to high; residual_alive, without dead masks; images; dead;
        residual_grid, AR on the grid; swapped, the same with the second network's masks swapped between images of a city; kappa,
        1 - residual_grid / swapped, 0 if two masks of one image are no more alike than two of different images, with its interval;
        least and most, the bounds of AR for masks of such mean values; iou; rank_correlation; untrained and untrained_swapped,
        AR on the grid of the two networks before training.
    """
    rows = []
    for (first, second), own in values.items():
        either = dead[first] | dead[second]
        grid, swapped, plain, plain_swapped = (
            on_grid[first, second][name] for names in ON_GRID.values() for name in names
        )
        low, high = mean_interval(own["residual"], images["city"], images["spot"])
        row: dict[str, Any] = {
            "first": first,
            "second": second,
            "kind": residual.kind(split_key(first), split_key(second)),
        }
        row |= {"residual": own["residual"].mean(), "low": max(low, 0.0), "high": min(high, 1.0)}
        row |= {"residual_alive": own["residual"][either == 0].mean() if not either.all() else np.nan}
        row |= {"images": len(images), "dead": int(either.sum()), "residual_grid": grid.mean()}
        row |= {"swapped": swapped.mean()} | _kappa(grid, swapped, images)
        row |= {
            name: np.nanmean(own[name]) if np.isfinite(own[name]).any() else np.nan for name in ("least", "most", "iou")
        }
        row["rank_correlation"] = own["rank_correlation"].mean()
        rows.append(row | {"untrained": plain.mean(), "untrained_swapped": plain_swapped.mean()})
    return pd.DataFrame(rows)


def _kappa(grid: NDArray[np.float64], swapped: NDArray[np.float64], images: pd.DataFrame) -> dict[str, float]:
    table = images[["city", "spot"]].assign(grid=grid, swapped=swapped).dropna()
    sums = table.groupby(["city", "spot"], as_index=False)[["grid", "swapped"]].sum()
    if not sums["swapped"].sum() > 0:
        return dict.fromkeys(("kappa", "kappa_low", "kappa_high"), np.nan)
    low, high = ratio_interval(sums[["grid"]].to_numpy(), sums[["swapped"]].to_numpy(), sums["city"])
    ratio = sums["grid"].sum() / sums["swapped"].sum()
    return {"kappa": 1 - ratio, "kappa_low": 1 - float(high[0]), "kappa_high": 1 - float(low[0])}


def tests(table: pd.DataFrame, grids: Grids, trained: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Return the tests of the claim that the architecture matters more than the initialisation, before and after training.

    For `trained` and `untrained` networks, on the grid: `gap`, the mean AR between architectures less that between seeds of one;
    `permanova`, the share of the squared distances that the architecture explains; both with p over all groupings of the networks
    into groups of such sizes, the smallest p that there is, and the number of groupings; `variance`, the shares of the masks'
    variance. Empty unless there are two architectures or more with two seeds or more, and masks that differ.
    """
    networks = [network for network, _ in trained]
    names, seeds = [key(*one) for one in trained], pd.Series(networks).value_counts()
    if len(seeds) < 2 or seeds.min() < 2:
        return {"trained": {}, "untrained": {}}
    ways = pairings.groupings(pd.factorize(pd.Series(networks))[0])
    found = {}
    for kind, column, grid in (("trained", "residual_grid", "masks"), ("untrained", "untrained", "untrained")):
        distances = _matrix(table, column, names)
        if not distances.any():
            return {"trained": {}, "untrained": {}}
        gaps = pairings.gap(distances, ways)
        f, explained = pairings.permanova(distances, ways)
        chance = {"least_p": 1 / len(ways), "groupings": len(ways)}
        found[kind] = {
            "gap": {"value": float(gaps[0]), "p": pairings.p_value(gaps)} | chance,
            "permanova": {"value": explained, "p": pairings.p_value(f)} | chance,
            "variance": mask_grids.variance_shares(
                {one: grids[grid][name] for one, name in zip(trained, names, strict=True)}
            ),
        }
    return found


def _matrix(table: pd.DataFrame, column: str, names: Sequence[str]) -> NDArray[np.float64]:
    distances, values = np.zeros((len(names), len(names))), table.set_index(PAIR)[column]
    for first, second in combinations(range(len(names)), 2):
        distances[first, second] = distances[second, first] = values[names[first], names[second]]
    return distances
