"""The checks of the section "Can this be trusted?": each a number beside its chance level; trust.j2 has their sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from citylens.nets.names import key
from citylens.report.results import Results, accuracies, of_able

SURE = 0.05
"""The largest p, or share of false discoveries, of what counts as shown."""

NEAR = 0.5
"""The share of what networks gain over always naming the largest city from which a shortcut that gains as much is warned of."""

STRONG = 0.5
"""A correlation from which R is called much like another number."""

QUESTIONS = {
    "Are the learnt representations interpretable?": ("clusters", "network", "image_used", "shortcuts"),
    "How can interpretability be measured? By R of objects?": ("objects", "position", "simple"),
    "Do architectures and initialisations matter?": ("architecture", "image", "training"),
}
"""The paper's three questions (section 1), and the checks that speak for a yes or against it."""

Check = dict[str, Any]


def checks(results: Results) -> list[Check]:
    """Return the checks in the report's order.

    Each has `name`, that of its macro in trust.j2; `value` and `chance`, numbers or None; `shown`, whether a claim is shown, None
    for a number without a test; `speaks`, whether it speaks for a yes to its question in `QUESTIONS`, None for neither; and what
    its sentence needs besides.
    """
    found = [_learnt(results), _shortcuts(results), _masks_and_images(results), _training(results)]
    found += [_network(results), _image(results), _reading(results)]
    found += [_architecture(results), _variance(results), *_objects(results), _position(results), *_simple(results)]
    found += [_clusters(results)]
    return [{"speaks": check["shown"]} | check for check in found if check is not None]


def _learnt(results: Results) -> Check:
    table = accuracies(results)
    better = int((table["low"] > table["majority_accuracy"]).sum())
    lowest = float(table["accuracy"].min())
    chance = float(table["majority_accuracy"].iloc[0])
    return {"name": "learnt", "value": lowest, "chance": chance, "shown": better == len(table)} | {
        "better": better,
        "networks": len(table),
    }


def _shortcuts(results: Results) -> Check | None:
    """Is a network better than a trait that says little about what a city looks like?"""
    probes = results.probes["probes"]
    if not probes:
        return None
    best = max(probes, key=lambda name: float(probes[name]["accuracy"]))
    table = accuracies(results)
    beyond = int((table["low"] > probes[best]["accuracy"]).sum())
    value, chance = float(table["accuracy"].mean()), float(probes[best]["accuracy"])
    largest = float(table["majority_accuracy"].iloc[0])
    gain = (chance - largest) / (value - largest) if value > largest else 1.0
    extent = {"best": best, "beyond": beyond, "networks": len(table), "gain": gain, "near": gain > NEAR}
    extent |= {"others": {name: found["accuracy"] for name, found in probes.items() if name != best}}
    return {"name": "shortcuts", "value": value, "chance": chance, "shown": beyond > len(table) / 2} | extent


def _network(results: Results) -> Check:
    """Do masks change when the network loses what it has learnt?"""
    means = _mean_checks(results)
    value, chance = means["similar_all"], means["similar_swapped"]
    extent = {"last": means["similar_last"], "speaks": value < chance}
    return {"name": "network", "value": value, "chance": chance, "shown": None} | extent


def _image(results: Results) -> Check:
    """Does a network's answer depend more on the pixels of its own mask than on those of another image's mask?"""
    found = [results.mask_checks[name] for name in results.able]
    gains = {kind: float(np.mean([one[kind]["gain swapped"] for one in found])) for kind in ("deletion", "insertion")}
    sure = {kind: sum(one[kind].get("gain swapped low", 0) > 0 for one in found) for kind in gains}
    areas = {
        order: float(np.mean([one["insertion"][order] for one in found])) for order in ("own", "swapped", "random")
    }
    shown = min(sure.values()) > len(found) / 2
    extent = {
        "gains": gains,
        "sure": sure,
        "networks": len(found),
        "images": found[0]["images"],
        "random": areas["random"],
    }
    return {"name": "image_used", "value": areas["own"], "chance": areas["swapped"], "shown": shown} | extent


def _reading(results: Results) -> Check:
    """How much do masks depend on how the paper is read?"""
    means = _mean_checks(results)
    extent = {"registered": means["registered"]}
    return {"name": "reading", "value": means["hires"], "chance": means["swapped"], "shown": None} | extent


def _mean_checks(results: Results) -> dict[str, float]:
    names = ("similar_last", "similar_all", "similar_swapped", "hires", "registered", "swapped")
    return {name: float(np.mean([results.mask_checks[able][name] for able in results.able])) for name in names}


def _masks_and_images(results: Results) -> Check | None:
    """Do the masks of one image agree more than those of different images?"""
    pairs = of_able(results, results.all_pairs)
    pairs = pairs[(pairs["kind"] == "architecture") & pairs["kappa"].notna()]
    if pairs.empty:
        return None
    above = int((pairs["kappa_low"] > 0).sum())
    value, chance = float(pairs["residual_grid"].mean()), float(pairs["swapped"].mean())
    extent = {"pairs": len(pairs), "above": above, "kappa": float(pairs["kappa"].mean())}
    return {"name": "image", "value": value, "chance": chance, "shown": above > len(pairs) / 2} | extent


def _training(results: Results) -> Check | None:
    """Are masks of trained networks more alike than those of the same networks before training?"""
    pairs = of_able(results, results.all_pairs)
    pairs = pairs[(pairs["kind"] == "architecture") & pairs["untrained"].notna()]
    if pairs.empty:
        return None
    before = float((1 - pairs["untrained"] / pairs["untrained_swapped"].where(pairs["untrained_swapped"] > 0)).mean())
    value = float(pairs["kappa"].mean())
    return {"name": "training", "value": value, "chance": before, "shown": None, "speaks": value > before}


def _architecture(results: Results) -> Check | None:
    """Is the architecture what matters (the paper's claim)?"""
    trained, untrained = results.tests["trained"], results.tests["untrained"]
    if not trained:
        return None
    found = trained["gap"]
    extent = {name: found[name] for name in ("p", "least_p", "groupings")} | {"before": untrained["gap"]["value"]}
    extent |= {"permanova": trained["permanova"]}
    return {"name": "architecture", "value": found["value"], "chance": 0.0, "shown": found["p"] <= SURE} | extent


def _variance(results: Results) -> Check | None:
    if not results.tests["trained"]:
        return None
    shares = results.tests["trained"]["variance"]
    return {
        "name": "variance",
        "value": shares["architecture"],
        "chance": shares["seed"],
        "shown": None,
        "shares": shares,
    }


def _objects(results: Results) -> list[Check]:
    """Do explanations choose objects, or places where objects usually are?"""
    kept = _kept(results)
    rows = []
    for city in results.cities:
        own = kept[(kept["city"] == city) & kept["q"].notna() & kept["chance"].notna()]
        if own.empty:
            continue
        own = own.assign(above=own["ratio"] > own["chance"])
        sure = own[own["q"] <= SURE]
        votes = sure.groupby("object")["above"].agg(["sum", "size"])
        networks = own.groupby("object").size()
        above = (votes["sum"] / networks.reindex(votes.index)).sort_values(ascending=False, kind="stable")
        most = [str(name) for name in above[above > 0.5].index]
        value, chance = float(own["ratio"].mean()), float(own["chance"].mean())
        extent = {"city": city, "most": most, "sure": len(sure), "rows": len(own), "objects": len(networks)}
        extent["networks"] = int(networks.max())
        rows.append({"name": "objects", "value": value, "chance": chance, "shown": bool(most)} | extent)
    return rows


def _position(results: Results) -> Check | None:
    """How much of R follows from the place of objects alone?"""
    kept = _kept(results).dropna(subset=["ratio", "chance"])
    if len(kept) < 3 or not kept["chance"].std() > 0 or not kept["ratio"].std() > 0:
        return None
    value = float(kept["ratio"].corr(kept["chance"]))
    return {"name": "position", "value": value, "chance": 0.0, "shown": None, "speaks": value < STRONG}


def _simple(results: Results) -> list[Check]:
    """Return how alike R is to R of regions that need no network."""
    kept = _kept(results).merge(results.references, on=["city", "network", "seed", "label", "object"])
    kept = kept.dropna(subset=["ratio", "edges", "centre"])
    if len(kept) < 3 or not kept["ratio"].std() > 0:
        return []
    found = {
        name: float(kept["ratio"].corr(kept[name])) for name in ("edges", "centre", "untrained") if kept[name].std() > 0
    }
    speaks = max(found.values(), default=0) < STRONG
    return [{"name": "simple", "value": None, "chance": None, "shown": None, "speaks": speaks, "correlations": found}]


def _clusters(results: Results) -> Check | None:
    """Do masks of one city lie together?"""
    table = results.purity.dropna(subset=["purity"])
    own = table[(table["of"] == "masks") & table["network"].isin(results.able)]
    if own.empty:
        return None
    sure = int((own["p"] <= SURE).sum())
    others = {str(of): float(rows["purity"].mean()) for of, rows in table.groupby("of") if of != "masks"}
    extent = {"sure": sure, "networks": len(own), "others": others}
    value, chance = float(own["purity"].mean()), float(own["chance"].mean())
    shown = sure > len(own) / 2
    # Masks that lie together before training too are no sign of learning.
    speaks = shown and value > others.get("untrained masks", 0)
    return {"name": "clusters", "value": value, "chance": chance, "shown": shown, "speaks": speaks} | extent


def _kept(results: Results) -> pd.DataFrame:
    """Return R of the kept objects and able networks."""
    table = results.ratios[results.ratios["kept"] == 1]
    keys = np.array([key(*trained) for trained in table[["network", "seed"]].to_numpy()], dtype=object)
    return table[np.isin(keys.astype(str), results.able)]
