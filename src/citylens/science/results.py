"""A study's results as the report needs them: the tables of all stages, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from citylens.science import figures
from citylens.science.intervals import accuracy_interval
from citylens.science.paper import ACCURACIES


@dataclass(frozen=True)
class Results:
    """What the stages wrote; mappings are by run's key (`vgg11-0`), except `validation` (by suite).

    Args:
        settings: params.yaml, a mapping a section.
        cities: in their order everywhere.
        keys: the runs, networks in the study's order, then seeds.
        splits: split, city, images, spots.
        validation: success and expectations of each suite.
        segmentation: images and coverage, and of images with people's labels labelled_images, pixel_accuracy and mean_iou.
        label_confusion: actual (people's), predicted (the network's), pixels; empty where labels are people's own.
        scores: accuracy, loss, majority_accuracy, recall (by city), images.
        histories: a row an epoch.
        confusions: actual, predicted, images.
        explained: a row a test image: id, city, predicted, probability, dead.
        spots: the test images' spots, in the same order; `CITY/SPOT`.
        embeddings: city, x, y, dead.
        neighbours: neighbour_agreement and chance (missing where fewer than two masks are alive), masks.
        ratios: R, a row a city, run and object.
        pairs: table 2's rows; `all_pairs`: every two runs.
    """

    settings: Mapping[str, Any]
    cities: tuple[str, ...]
    keys: tuple[str, ...]
    splits: pd.DataFrame
    validation: Mapping[str, Mapping[str, Any]]
    segmentation: Mapping[str, float]
    label_confusion: pd.DataFrame
    scores: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, pd.DataFrame]
    confusions: Mapping[str, pd.DataFrame]
    explained: Mapping[str, pd.DataFrame]
    spots: Sequence[str]
    embeddings: Mapping[str, pd.DataFrame]
    neighbours: Mapping[str, Mapping[str, float]]
    ratios: pd.DataFrame
    pairs: pd.DataFrame
    all_pairs: pd.DataFrame

    @property
    def networks(self) -> list[str]:
        """The networks, in the study's order."""
        return list(figures.seeds_by_network(self.keys))

    @property
    def images(self) -> int:
        """Number of test images."""
        return len(self.explained[self.keys[0]])

    @property
    def dead(self) -> dict[str, int]:
        """Dead masks of each run."""
        return {key: int(table["dead"].sum()) for key, table in self.explained.items()}

    @property
    def first_keys(self) -> list[str]:
        """Each network's first seed, the paper's network."""
        return [f"{network}-{seeds[0]}" for network, seeds in figures.seeds_by_network(self.keys).items()]


def accuracies(results: Results) -> pd.DataFrame:
    """network, seed, accuracy, its 95 % interval over spots, paper, majority_accuracy, loss, images, dead, recall_CITY; a row a run."""
    rows = []
    for key in results.keys:
        network, seed = figures.split_key(key)
        scores = results.scores[key]
        correct = (results.explained[key]["predicted"] == results.explained[key]["city"]).to_numpy()
        low, high = accuracy_interval(correct, results.spots)
        row = {"network": network, "seed": seed, "accuracy": scores["accuracy"], "low": low, "high": high}
        row["paper"] = ACCURACIES[network]
        row |= {name: scores[name] for name in ("majority_accuracy", "loss", "images")} | {"dead": results.dead[key]}
        rows.append(row | {f"recall_{city}": scores["recall"].get(city) for city in results.cities})
    return pd.DataFrame(rows)


def wide_ratios(results: Results) -> pd.DataFrame:
    """R with a column a run: city, label, object, mean_pixels, kept, mean, share (of all labelled pixels, in the mean), KEY ..."""
    table = results.ratios.assign(key=results.ratios["network"] + "-" + results.ratios["seed"].astype(str))
    index = ["city", "label", "object", "mean_pixels", "kept"]
    wide = table.pivot(index=index, columns="key", values="ratio").reindex(columns=list(results.keys))
    wide.insert(0, "mean", wide.mean(axis=1))
    wide = wide.reset_index().rename_axis(columns=None)
    wide.insert(6, "share", wide["city"].map({city: share(results, city) for city in results.cities}))
    order = wide.assign(less=-wide["mean_pixels"]).sort_values(["city", "less"], kind="stable")
    return wide.loc[order.index].reset_index(drop=True)


def share(results: Results, city: str) -> float:
    """Share of a city's labelled pixels inside the explanations, mean over the runs: R if they took no notice of objects."""
    own = results.ratios[results.ratios["city"] == city].groupby(["network", "seed"])[["inside", "total"]].sum()
    return float((own["inside"] / own["total"]).mean())


def kept_ratios(results: Results, city: str) -> pd.Series:
    """R of a city's kept objects, mean over the runs, highest first; NaN left out."""
    own = results.ratios[(results.ratios["city"] == city) & (results.ratios["kept"] == 1)]
    return own.groupby("object")["ratio"].mean().dropna().sort_values(ascending=False, kind="stable")


def only_here(results: Results, city: str) -> list[str]:
    """Objects that this city alone keeps."""
    kept = results.ratios[results.ratios["kept"] == 1].groupby("object")["city"].unique()
    return [str(name) for name, cities in kept.items() if list(cities) == [city]]


def ratio_distances(results: Results) -> dict[str, float]:
    """Mean absolute difference of R over kept objects, cities and pairs of runs: `architecture`, `initialisation`; NaN for no pair."""
    kept = wide_ratios(results).query("kept == 1")
    values: dict[str, list[float]] = {"architecture": [], "initialisation": []}
    for first, second in combinations(results.keys, 2):
        same = figures.split_key(first)[0] == figures.split_key(second)[0]
        values["initialisation" if same else "architecture"].append((kept[first] - kept[second]).abs().mean())
    return {kind: float(np.mean(some)) if some else float("nan") for kind, some in values.items()}


def residual_means(results: Results) -> dict[str, float]:
    """Mean AR of table 2's rows, with and without dead masks, and of all pairs; NaN where there is no pair."""
    found = {}
    for kind, other in (("architecture", "architecture"), ("retrained", "initialisation")):
        rows = results.pairs[results.pairs["kind"] == kind]
        found[kind] = float(rows["residual"].mean())
        found[f"{kind}_alive"] = float(rows["residual_alive"].mean())
        found[f"{other}_all_pairs"] = float(
            results.all_pairs.loc[results.all_pairs["kind"] == other, "residual"].mean()
        )
    return found


def headline(results: Results) -> dict[str, Any]:
    """The numbers of `scores.json`: what is not known is left out."""
    table = accuracies(results)
    highest = {city: kept_ratios(results, city) for city in results.cities}
    numbers: dict[str, Any] = {
        "accuracy": dict(zip(results.keys, table["accuracy"], strict=True)),
        "majority_accuracy": float(table["majority_accuracy"].iloc[0]),
        "residual": residual_means(results),
        "object_ratio_distance": ratio_distances(results),
        "explained_share": {city: share(results, city) for city in results.cities},
        "highest_ratio": {
            city: {str(n): float(v) for n, v in found.head(3).items()} for city, found in highest.items()
        },
        "neighbour_agreement": {key: found.get("neighbour_agreement") for key, found in results.neighbours.items()},
        "dead": results.dead,
    }
    return {name: _known(value) for name, value in numbers.items()}


def _known(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _known(inner) for name, inner in value.items() if not _is_missing(inner)}
    return value.item() if isinstance(value, np.generic) else value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value))
