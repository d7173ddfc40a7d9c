"""The results of all stages that the report shows, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from citylens.nets.names import key, split_key
from citylens.nets.paper import ACCURACIES
from citylens.settings.schema import Settings
from citylens.stats import pairings
from citylens.stats.intervals import share_interval


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
        references: R of regions that need no network, one row per city, trained network and object.
        pairs: the rows of table 2.
        all_pairs: AR of every two trained networks.
        tests: whether the architecture is what matters, for the `trained` and the `untrained` networks.
        map_sides: cells per side of the maps.
        mask_checks: what `explain` found of single masks.
        probes: how well traits that say little about a city tell the cities apart: accuracy, low, high by name.
        purity: of masks, mask areas, masks before training (by network) and of mean colours: purity, chance, p.
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
    references: pd.DataFrame
    pairs: pd.DataFrame
    all_pairs: pd.DataFrame
    tests: Mapping[str, Any]
    map_sides: Mapping[str, int]
    mask_checks: Mapping[str, Mapping[str, Any]]
    probes: Mapping[str, Any]
    purity: pd.DataFrame

    @property
    def keys(self) -> list[str]:
        """The keys of the trained networks, in the study's order."""
        return [key(*trained) for trained in self.settings.study.trained]

    @property
    def dead(self) -> dict[str, int]:
        """The number of dead masks of each trained network."""
        return {name: int(table["dead"].sum()) for name, table in self.explained.items()}

    @cached_property
    def able(self) -> list[str]:
        """The keys of the networks that name cities better than always naming the largest one, by their intervals' lower ends.

        Means of R and AR are over these networks. All keys, if there are fewer than two: then no mean says much.
        """
        table = accuracies(self)
        able = [name for name, good in zip(self.keys, table["low"] > table["majority_accuracy"], strict=True) if good]
        return able if len(able) > 1 else self.keys

    def first(self, network: str) -> str:
        """Return the key of a network trained with the first seed, the paper's network."""
        return key(network, self.settings.study.seeds[0])


def accuracies(results: Results) -> pd.DataFrame:
    """Return one row per trained network.

    Columns: network, seed, accuracy, low and high (its 95 % interval over spots), paper, majority_accuracy, loss, images, dead,
    recall_CITY. All but seed, loss, images and dead are shares in [0, 1].
    """
    rows = []
    for name in results.keys:
        network, seed = split_key(name)
        scores, found = results.scores[name], results.explained[name]
        low, high = share_interval(found["predicted"] == found["city"], results.test["city"], results.test["spot"])
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
    wide.insert(0, "mean", wide[results.able].mean(axis=1))
    wide = wide.reset_index().rename_axis(columns=None)
    wide.insert(6, "share", wide["city"].map(explained_shares(results)))
    return wide.sort_values(["city", "mean_pixels"], ascending=[True, False], ignore_index=True)


def explained_shares(results: Results) -> dict[str, float]:
    """Return the share of each city's labelled pixels that the explanations cover, mean over the trained networks, in [0, 1].

    Each object would have this R if the explanations ignored objects.
    """
    pixels = able_ratios(results).groupby(["city", "network", "seed"])[["inside", "total"]].sum()
    shares = (pixels["inside"] / pixels["total"]).unstack("city").reindex(columns=list(results.cities))
    return {str(city): float(mean) for city, mean in shares.mean().items()}


def able_ratios(results: Results) -> pd.DataFrame:
    """Return R of the able networks."""
    return results.ratios[[key(*trained) in results.able for trained in results.ratios[["network", "seed"]].to_numpy()]]


def kept_ratios(results: Results) -> pd.DataFrame:
    """Return R of each city's kept objects, mean over the able networks. Columns: city, object, ratio, highest first."""
    ratios = able_ratios(results)
    kept = ratios[ratios["kept"] == 1]
    means = kept.groupby(["city", "object"], as_index=False)["ratio"].mean().dropna()
    return means.sort_values("ratio", ascending=False, kind="stable", ignore_index=True)


def ratio_distances(results: Results) -> dict[str, float]:
    """Return the mean absolute difference of R between two able networks, over all kept objects and cities.

    Returns:
        `architecture` for pairs of two networks, `initialisation` for two seeds of one network; NaN without such a pair.
    """
    kept, pairs = wide_ratios(results).query("kept == 1"), of_able(results, results.all_pairs)
    both = zip(pairs["first"], pairs["second"], strict=True)
    distances = pd.Series([(kept[one] - kept[other]).abs().mean() for one, other in both], pairs.index, dtype=float)
    return {kind: float(distances[pairs["kind"] == kind].mean()) for kind in ("architecture", "initialisation")}


def ratio_tests(results: Results) -> dict[str, float]:
    """Return p of the claim that R differs more between architectures than between seeds, over all groupings of the able networks.

    Returns:
        `R`, and `R less chance`, without what the usual places of objects give; empty unless there are two architectures or more with
        two seeds or more.
    """
    networks = pd.Series([split_key(name)[0] for name in results.able])
    if networks.nunique() < 2 or networks.value_counts().min() < 2:
        return {}
    kept = able_ratios(results).query("kept == 1")
    kept = kept.assign(key=kept["network"] + "-" + kept["seed"].astype(str), beyond=kept["ratio"] - kept["chance"])
    ways, found = pairings.groupings(pd.factorize(networks)[0]), {}
    for name, column in (("R", "ratio"), ("R less chance", "beyond")):
        wide = kept.pivot(index=["city", "object"], columns="key", values=column)[results.able]
        distances = np.array([[(wide[one] - wide[other]).abs().mean() for other in wide] for one in wide])
        if np.isfinite(distances).all():
            found[name] = pairings.p_value(pairings.gap(distances, ways))
    return found


def residual_means(results: Results, *, every: bool = False) -> dict[str, float]:
    """Return the mean AR of table 2's rows, with and without dead masks, and of all pairs; NaN without a pair.

    Args:
        every: of all networks; by default of the able ones.
    """
    found: dict[str, float] = {}
    table2, all_pairs = (pairs if every else of_able(results, pairs) for pairs in (results.pairs, results.all_pairs))
    for kind, other in (("architecture", "architecture"), ("retrained", "initialisation")):
        rows = table2[table2["kind"] == kind]
        others = all_pairs[all_pairs["kind"] == other]
        found |= {kind: float(rows["residual"].mean()), f"{kind}_alive": float(rows["residual_alive"].mean())}
        found[f"{other}_all_pairs"] = float(others["residual"].mean())
    return found


def of_able(results: Results, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of pairs in which both networks are able."""
    return pairs[pairs["first"].isin(results.able) & pairs["second"].isin(results.able)]


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
        "chance": _known(chance_scores(results)),
        "dead": results.dead,
    }


def chance_scores(results: Results) -> dict[str, float]:
    """Return how far the study's measures are from chance, over the able networks; NaN where that is not known.

    Returns:
        `kappa`, mean over pairs of architectures; `lift` and `z`, means over kept objects, cities and networks (of z, the absolute
        value); `p architecture`, of the claim that the architecture matters more than the initialisation.
    """
    pairs, ratios = of_able(results, results.all_pairs), able_ratios(results)
    kept = ratios[ratios["kept"] == 1]
    found = {"kappa": pairs.loc[pairs["kind"] == "architecture", "kappa"].mean()}
    found |= {"lift": kept["lift"].mean(), "z": kept["z"].abs().mean()}
    return found | {"p architecture": results.tests["trained"].get("gap", {}).get("p", np.nan)}


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
