"""What the results say, in sentences that follow from the numbers, whichever way they turn out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from citylens.science import figures, paper
from citylens.science.results import (
    Results,
    accuracies,
    kept_ratios,
    only_here,
    ratio_distances,
    residual_means,
    share,
)


@dataclass(frozen=True)
class Finding:
    """A claim in one sentence, and the numbers behind it."""

    claim: str
    text: str


def findings(results: Results) -> list[Finding]:
    """The report's findings, in its order."""
    found = [recognition(results), residuals(results), retraining(results)]
    found += [objects(results, city) for city in results.cities]
    return [finding for finding in [*found, depth(results), clusters(results), dead(results)] if finding is not None]


def recognition(results: Results) -> Finding:
    """Which networks beat always naming the largest city, by more than other spots of the same cities could undo."""
    table = accuracies(results)
    majority = float(table["majority_accuracy"].iloc[0])
    sure = (table["low"] > majority).to_numpy()
    above, runs = int(sure.sum()), len(table)
    claim = {
        runs: f"{_all(runs)} the cities apart better than always naming the largest one would.",
        0: "No network tells the cities apart better than always naming the largest one would.",
    }.get(
        above,
        f"{above} of {runs} trained networks tell the cities apart better than always naming the largest one would.",
    )
    ends = [table["accuracy"].idxmin(), table["accuracy"].idxmax()]
    low, high = (f"{table['accuracy'][row]:.2%} ({figures.run_name(results.keys[row])})" for row in ends)
    doubtful = [
        f"{figures.run_name(key)} ({table['low'][row]:.1%} to {table['high'][row]:.1%})"
        for row, key in enumerate(results.keys)
        if not sure[row]
    ]
    known = [paper.ACCURACIES[network] for network in results.networks]
    text = f"Test accuracies go from {low} to {high}; the largest city makes up {majority:.2%} of the {results.images:,} test images."
    if doubtful:
        text += f" By a 95 % interval over spots, chance is not excluded for {_listed(doubtful)}: their masks say little of the cities."
    return Finding(
        claim, f"{text} The paper reports {_span(known, '.2%')} for these networks, on Tokyo and Pittsburgh."
    )


def _all(runs: int) -> str:
    return "The one trained network tells" if runs == 1 else f"All {runs} trained networks tell"


def residuals(results: Results) -> Finding:
    """Whether architectures change the masks more than retraining does (table 2)."""
    means = residual_means(results)
    between, again = means["architecture"], means["retrained"]
    count = results.pairs["kind"].value_counts()
    if np.isnan(between) or np.isnan(again):
        what = (
            "retraining, since each network was trained once"
            if np.isnan(again)
            else "architectures, since there is only one"
        )
        known = (
            ""
            if np.isnan(between) and np.isnan(again)
            else f" What there is: AR = {np.nanmax([between, again]):.3f} on average."
        )
        return Finding("Architectures cannot be compared with retraining here.", f"Nothing is known of {what}.{known}")
    claim = (
        "Another architecture changes the masks more than retraining does."
        if between > again
        else "Another architecture does not change the masks more than retraining does."
    )
    theirs = paper.mean_residual(retrained=False), paper.mean_residual(retrained=True)
    text = (
        f"In table 2, two architectures differ by AR = {between:.3f} on average ({_pairs(count['architecture'])}), a network "
        f"and its retrained twin by {again:.3f} ({_pairs(count['retrained'])}){_times(between, again)}; in the paper by "
        f"{theirs[0]:.3f} and {theirs[1]:.3f}{_times(*theirs)}. {_overlap(results.pairs)}"
    )
    return Finding(claim, text + _other_means(results))


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _times(first: float, second: float) -> str:
    return f", {first / second:.2f} times as much" if second > 0 else ""


def _overlap(pairs: pd.DataFrame) -> str:
    groups = (
        pairs[pairs["kind"] == kind].sort_values("residual", kind="stable") for kind in ("architecture", "retrained")
    )
    lowest, highest = (group.iloc[row] for group, row in zip(groups, (0, -1), strict=True))
    if lowest["residual"] > highest["residual"]:
        return (
            "As in the paper, every pair of architectures differs more than any retrained pair: the smallest of the former is "
            f"{lowest['pair']} ({lowest['residual']:.3f}), the largest of the latter {highest['pair']} ({highest['residual']:.3f})."
        )
    return (
        f"Unlike in the paper, the two groups overlap: {lowest['pair']} ({lowest['residual']:.3f}) does not differ more than "
        f"{highest['pair']} ({highest['residual']:.3f})."
    )


def _other_means(results: Results) -> str:
    means, text = residual_means(results), ""
    if len(results.all_pairs) > len(results.pairs):
        every = means["architecture_all_pairs"], means["initialisation_all_pairs"]
        text += f" Over all {len(results.all_pairs)} pairs of trained networks the means are {every[0]:.3f} and {every[1]:.3f}."
    alive = means["architecture_alive"], means["retrained_alive"]
    if results.pairs["dead"].any() and np.isfinite(alive).all():
        text += f" Without images whose mask is dead, table 2's means are {alive[0]:.3f} and {alive[1]:.3f}."
    return text


def retraining(results: Results) -> Finding | None:
    """The same question, asked of R: do retrained networks use the same objects?"""
    found = ratio_distances(results)
    between, again = found["architecture"], found["initialisation"]
    if np.isnan(between) or np.isnan(again):
        return None
    claim = (
        "R says the same: retrained networks use more similar objects than other architectures do."
        if between > again
        else "By R, retrained networks do not use more similar objects than other architectures do."
    )
    if not residual_means(results)["architecture"] > residual_means(results)["retrained"]:
        claim = claim.replace("R says the same: retrained", "R says otherwise: retrained")
    text = (
        f"Over all kept objects and cities, R differs by {between:.3f} between two architectures and by {again:.3f} "
        "between two seeds of one."
    )
    return Finding(
        claim,
        f"{text} The paper reads the same comparison off its figure 5, without a number: similar for two initialisations.",
    )


def objects(results: Results, city: str) -> Finding:
    """Which objects a city's explanations cover most, and which are its alone."""
    ratios, level = kept_ratios(results, city), share(results, city)
    if ratios.empty:
        return Finding(f"{city}: no object is frequent enough to be kept.", "See measure.min_pixels.")
    top = ratios.head(3)
    claim = f"{city}: the explanations cover {_listed(map(figures.object_name, top.index))} most."
    if not ratios.iloc[0] > 0:
        claim = f"{city}: the explanations cover none of the kept objects."
    named = _listed(f"{figures.object_name(name)} (R = {value:.2f})" for name, value in top.items())
    text = (
        f"Highest R, mean over all trained networks: {named}. R of all labelled pixels taken together, which every object would "
        f"have if the explanations took no notice of objects, is {level:.2f}; {int((ratios > level).sum())} of {len(ratios)} kept "
        f"objects lie above, and R goes down to {ratios.iloc[-1]:.2f} ({figures.object_name(ratios.index[-1])})."
    )
    alone = only_here(results, city) if len(results.cities) > 1 else []
    return Finding(
        claim, text + (f" Frequent enough only here: {_listed(map(figures.object_name, alone))}." if alone else "")
    )


def depth(results: Results) -> Finding | None:
    """The paper's remark on figure 5 (b): R of the deep networks is above that of the shallow ones for all objects."""
    if not {*paper.DEEP, *paper.SHALLOW} <= set(results.networks):
        return None
    kept = results.ratios[results.ratios["kept"] == 1]
    means = kept.pivot_table(index=["city", "object"], columns="network", values="ratio")
    higher = means[list(paper.DEEP)].min(axis=1) > means[list(paper.SHALLOW)].max(axis=1)
    counts = [f"{int(own.sum())} of {len(own)} kept objects in {city}" for city, own in higher.groupby(level="city")]
    if higher.all():
        claim = "The deep networks' R is above the shallow ones' for every kept object."
    else:
        claim = f"The deep networks' R is not above the shallow ones' for {'any' if not higher.any() else 'every'} kept object."
    text = f"Both VGG11 and ResNet18 lie above both Simple and Simpler for {_listed(counts)}."
    return Finding(
        claim,
        f"{text} The paper finds it for all objects of Tokyo, and reads it as deep networks being more interpretable.",
    )


def clusters(results: Results) -> Finding:
    """Whether masks of one city lie together in the plane (figures 3 and 4)."""
    known = {key: found for key, found in results.neighbours.items() if "neighbour_agreement" in found}
    if not known:
        return Finding(
            "No masks could be placed in the plane.", "Fewer than two masks are alive in every trained network."
        )
    above = [key for key, found in known.items() if found["neighbour_agreement"] > found["chance"]]
    which = "every trained network" if len(above) == len(known) else f"{len(above)} of {len(known)} trained networks"
    claim = (
        f"Masks of one city lie together more than by chance in {which}."
        if above
        else "Masks of one city do not lie together."
    )
    values = {key: found["neighbour_agreement"] for key, found in known.items()}
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    chance = [found["chance"] for found in known.values()]
    text = (
        f"Of a mask's ten nearest neighbours in the plane, {_span(list(values.values()), '.0%')} show the same city (least: "
        f"{figures.run_name(low)}; most: {figures.run_name(high)}); chance: {_span(chance, '.0%')}."
    )
    return Finding(claim, f"{text} The paper calls VGG11's masks mostly separable, by eye.")


def dead(results: Results) -> Finding:
    """How many masks hold nothing."""
    counts, images = results.dead, results.images
    total = sum(counts.values())
    if not total:
        return Finding(
            "No mask is dead.",
            f"Each of the {images * len(counts):,} masks marks some region. The paper does not mention dead masks.",
        )
    some = [
        f"{figures.run_name(key)}: {count:,} of {images:,} ({count / images:.1%})"
        for key, count in counts.items()
        if count
    ]
    text = f"{'; '.join(some)}. They count as all zero in R and AR, as the formulas have it, and are left out of figures 3 and 4."
    claim = f"{total:,} of {images * len(counts):,} masks are dead: the ReLU leaves nothing that stands out."
    return Finding(claim, f"{text} The paper does not mention dead masks.")


def _listed(parts: Iterable[str]) -> str:
    *rest, last = list(parts)
    return f"{', '.join(rest)} and {last}" if rest else last


def _span(values: Sequence[float], form: str) -> str:
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
