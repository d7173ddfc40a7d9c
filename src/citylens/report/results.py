"""The results of all stages that the report shows, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from citylens.nets.names import key, split_key
from citylens.nets.paper import ACCURACIES
from citylens.report.intervals import accuracy_interval
from citylens.settings.schema import Settings


@dataclass(frozen=True)
class Results:
    """The tables and numbers that the stages wrote. Mappings have one entry per trained network, by its key (`vgg11-0`).

    Args:
        settings: the study's settings.
        cities: in the order of all tables and figures.
        test: one row per test image, in the order of data/explain: id, city, spot, and row, its place in data/prepare.
        splits: split, city, images, spots.
        validation: for each data contract's name: success and expectations.
        segmentation: images and coverage; for images that people labelled also labelled_images, pixel_accuracy, mean_iou.
        label_confusion: actual (people's label), predicted (the scene parser's), pixels; empty without a scene parser.
        scores: accuracy, loss, majority_accuracy, recall (by city), images.
        histories: one row per epoch.
        confusions: actual, predicted, images.
        explained: one row per test image: id, city, predicted, probability, dead.
        embeddings: city, x, y, dead.
        neighbours: masks, neighbour_agreement and chance; the last two are missing for fewer than two live masks.
        ratios: R, one row per city, trained network and object.
        explained_area: the share of the test images' pixels inside the explanations.
        pairs: the rows of table 2.
        all_pairs: AR of every two trained networks.
    """

    settings: Settings
    cities: tuple[str, ...]
    test: pd.DataFrame
    splits: pd.DataFrame
    validation: Mapping[str, Mapping[str, Any]]
    segmentation: Mapping[str, float]
    label_confusion: pd.DataFrame
    scores: Mapping[str, Mapping[str, Any]]
    histories: Mapping[str, pd.DataFrame]
    confusions: Mapping[str, pd.DataFrame]
    explained: Mapping[str, pd.DataFrame]
    embeddings: Mapping[str, pd.DataFrame]
    neighbours: Mapping[str, Mapping[str, float]]
    ratios: pd.DataFrame
    explained_area: Mapping[str, float]
    pairs: pd.DataFrame
    all_pairs: pd.DataFrame

    @property
    def keys(self) -> list[str]:
        """The keys of the trained networks, in the study's order."""
        return [key(*trained) for trained in self.settings.study.trained]

    @property
    def dead(self) -> dict[str, int]:
        """The number of dead masks of each trained network."""
        return {name: int(table["dead"].sum()) for name, table in self.explained.items()}

    def first(self, network: str) -> str:
        """Return the key of a network trained with the first seed, the paper's network."""
        return key(network, self.settings.study.seeds[0])


def accuracies(results: Results) -> pd.DataFrame:
    """Return one row per trained network.

    Columns: network, seed, accuracy, low and high (its 95 % interval over spots), paper, majority_accuracy, loss, images, dead,
    recall_CITY. All but seed, loss, images and dead are shares in [0, 1].
    """
    rows, spots = [], list(results.test["city"] + "/" + results.test["spot"].astype(str))
    for name in results.keys:
        network, seed = split_key(name)
        scores, found = results.scores[name], results.explained[name]
        low, high = accuracy_interval((found["predicted"] == found["city"]).to_numpy(), spots)
        row = {"network": network, "seed": seed, "accuracy": scores["accuracy"], "low": low, "high": high}
        row |= {
            "paper": ACCURACIES.get(network),
            "majority_accuracy": scores["majority_accuracy"],
            "loss": scores["loss"],
        }
        row |= {"images": scores["images"], "dead": results.dead[name]}
        rows.append(row | {f"recall_{city}": scores["recall"].get(city) for city in results.cities})
    return pd.DataFrame(rows)


def wide_ratios(results: Results) -> pd.DataFrame:
    """Return R with one column per trained network and one row per city and object, by falling mean_pixels.

    Columns: city, label, object, mean_pixels (of the object per image), kept, mean (R over the trained networks), share (R of all
    the city's labelled pixels, see `explained_shares`), and each trained network's key.
    """
    table = results.ratios.assign(key=results.ratios["network"] + "-" + results.ratios["seed"].astype(str))
    index = ["city", "label", "object", "mean_pixels", "kept"]
    wide = table.pivot(index=index, columns="key", values="ratio").reindex(columns=results.keys)
    wide.insert(0, "mean", wide.mean(axis=1))
    wide = wide.reset_index().rename_axis(columns=None)
    wide.insert(6, "share", wide["city"].map(explained_shares(results)))
    return wide.sort_values(["city", "mean_pixels"], ascending=[True, False], ignore_index=True)


def explained_shares(results: Results) -> dict[str, float]:
    """Return the share of each city's labelled pixels that the explanations cover, mean over the trained networks, in [0, 1].

    Each object would have this R if the explanations ignored objects.
    """
    pixels = results.ratios.groupby(["city", "network", "seed"])[["inside", "total"]].sum()
    shares = (pixels["inside"] / pixels["total"]).unstack("city").reindex(columns=list(results.cities))
    return {str(city): float(mean) for city, mean in shares.mean().items()}


def kept_ratios(results: Results) -> pd.DataFrame:
    """Return R of each city's kept objects, mean over the trained networks. Columns: city, object, ratio, highest first."""
    kept = results.ratios[results.ratios["kept"] == 1]
    means = kept.groupby(["city", "object"], as_index=False)["ratio"].mean().dropna()
    return means.sort_values("ratio", ascending=False, kind="stable", ignore_index=True)


def ratio_distances(results: Results) -> dict[str, float]:
    """Return the mean absolute difference of R between two trained networks, over all kept objects and cities.

    Returns:
        `architecture` for pairs of two networks, `initialisation` for two seeds of one network; NaN without such a pair.
    """
    kept, pairs = wide_ratios(results).query("kept == 1"), results.all_pairs
    both = zip(pairs["first"], pairs["second"], strict=True)
    distances = pd.Series([(kept[one] - kept[other]).abs().mean() for one, other in both], pairs.index, dtype=float)
    return {kind: float(distances[pairs["kind"] == kind].mean()) for kind in ("architecture", "initialisation")}


def residual_means(results: Results) -> dict[str, float]:
    """Return the mean AR of table 2's rows, with and without dead masks, and of all pairs; NaN without such a pair."""
    found: dict[str, float] = {}
    for kind, other in (("architecture", "architecture"), ("retrained", "initialisation")):
        rows = results.pairs[results.pairs["kind"] == kind]
        every = results.all_pairs[results.all_pairs["kind"] == other]
        found |= {kind: float(rows["residual"].mean()), f"{kind}_alive": float(rows["residual_alive"].mean())}
        found[f"{other}_all_pairs"] = float(every["residual"].mean())
    return found


def main_scores(results: Results) -> dict[str, Any]:
    """Return the study's main numbers, as in `scores.json`; unknown numbers are left out."""
    table, kept = accuracies(results), kept_ratios(results).set_index("object")
    agreements = {name: found.get("neighbour_agreement", np.nan) for name, found in results.neighbours.items()}
    return {
        "accuracy": dict(zip(results.keys, table["accuracy"].tolist(), strict=True)),
        "majority_accuracy": float(table["majority_accuracy"].iloc[0]),
        "residual": _known(residual_means(results)),
        "object_ratio_distance": _known(ratio_distances(results)),
        "explained_share": _known(explained_shares(results)),
        "highest_ratio": {city: kept.loc[kept["city"] == city, "ratio"].head(3).to_dict() for city in results.cities},
        "neighbour_agreement": _known(agreements),
        "dead": results.dead,
    }


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
