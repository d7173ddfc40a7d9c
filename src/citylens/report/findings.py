"""The numbers and flags of the report's findings; the template findings.j2 has their sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from citylens.nets import paper
from citylens.report import trust
from citylens.report.results import (
    Results,
    able_ratios,
    accuracies,
    explained_shares,
    kept_ratios,
    of_able,
    ratio_distances,
    ratio_tests,
    residual_means,
)

Facts = dict[str, Any]


def findings(results: Results) -> list[tuple[str, Facts]]:
    """Return name and facts of each finding, in the report's order. The name is that of its macros in findings.j2."""
    runs = accuracies(results).assign(key=results.keys)
    # An interval that reaches down to the accuracy of always naming the largest city does not exclude chance.
    runs["better"] = runs["low"] > runs["majority_accuracy"]
    known = [Facts(found, key=key) for key, found in results.neighbours.items() if "neighbour_agreement" in found]
    above = sum(found["neighbour_agreement"] > found["chance"] for found in known)
    checks = trust.checks(results)
    agreement = next((check for check in checks if check["name"] == "image"), None)
    # If masks agree no more than chance, no other finding on masks says much.
    headline = agreement is not None and not agreement["shown"]
    chosen = {check["city"]: check for check in checks if check["name"] == "objects"}
    clusters = next((check for check in checks if check["name"] == "clusters"), None)
    left_out = len(results.able) < len(results.keys)
    found: list[tuple[str, Facts | None]] = [
        *([("agreement", agreement)] if headline else []),
        (
            "accuracy",
            {"runs": runs.to_dict("records"), "left_out": left_out, "widest": (runs["high"] - runs["low"]).max()},
        ),
        *([] if headline else [("agreement", agreement)]),
        ("residual", residual(results)),
        ("distance", distance(results)),
        *(("objects", objects(results, city) | {"chosen": chosen.get(city)}) for city in results.cities),
        ("depth", depth(results)),
        ("clusters", {"networks": known, "above": above, "check": clusters}),
        ("dead", {"counts": results.dead, "images": len(results.test)}),
    ]
    return [(name, facts) for name, facts in found if facts is not None]


def residual(results: Results) -> Facts:
    """Return how much another architecture changes the masks, and how much retraining does (table 2)."""
    pairs, means = of_able(results, results.pairs).to_dict("records"), residual_means(results)
    known = np.isfinite([means["architecture_alive"], means["retrained_alive"]]).all()
    facts: Facts = {kind: [pair for pair in pairs if pair["kind"] == kind] for kind in ("architecture", "retrained")}
    some_dead = any(pair["dead"] for pair in pairs)
    facts |= {"means": means, "dead": bool(known and some_dead), "all_pairs": len(of_able(results, results.all_pairs))}
    facts |= {"every": residual_means(results, every=True), "left_out": len(results.able) < len(results.keys)}
    return facts | {"test": results.tests["trained"].get("gap"), "sure": trust.SURE}


def distance(results: Results) -> Facts | None:
    """Return how much R differs between two architectures and between two seeds; None without pairs of both kinds."""
    found, means = ratio_distances(results), residual_means(results)
    if not np.isfinite(list(found.values())).all():
        return None
    tests = ratio_tests(results)
    return found | {"masks_agree": means["architecture"] > means["retrained"], "tests": tests, "sure": trust.SURE}


def objects(results: Results, city: str) -> Facts:
    """Return which objects a city's explanations cover most, and which objects this city alone keeps."""
    ratios, share = kept_ratios(results), explained_shares(results)[city]
    own = ratios[ratios["city"] == city]
    alone = set(own["object"]) - set(ratios.loc[ratios["city"] != city, "object"]) if len(results.cities) > 1 else ()
    above = int((own["ratio"] > share).sum())
    return {"city": city, "ratios": own.to_dict("records"), "share": share, "above": above, "alone": sorted(alone)}


def depth(results: Results) -> Facts | None:
    """Return for how many objects R of both deep networks is above R of both shallow ones; None if a network is missing or not able.

    Source: the paper's remark on figure 5 (b).
    """
    kept = able_ratios(results).query("kept == 1")
    if not {*paper.DEEP, *paper.SHALLOW} <= set(kept["network"]):
        return None
    means = kept.pivot_table(index=["city", "object"], columns="network", values="ratio")
    higher = means[list(paper.DEEP)].min(axis=1) > means[list(paper.SHALLOW)].max(axis=1)
    cities = [(city, int(own.sum()), len(own)) for city, own in higher.groupby(level="city")]
    return {"higher": int(higher.sum()), "kept": len(higher), "cities": cities}
