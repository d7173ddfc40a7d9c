"""The study's results as one long table of metrics, which `citylens gate` compares between revisions."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from citylens.nets.names import JOINT, split_key
from citylens.report.results import Results

COLUMNS = ["metric", "row", "pool", "run", "value"]


def metric_table(results: Results) -> pd.DataFrame:
    """Return the metrics, one row per value.

    Returns:
        `metric`; `row`, what is compared by itself (a network, a city, an object of a city, a kind of pair; empty: all);
        `pool`, the quantity whose spread over seeds the value helps to estimate; `run`, the trained network (`vgg11-0`), two
        of them with `JOINT` between them for AR, none for a value of the whole study; `value`, NaN where there is none.
    """
    keys, scores = list(results.keys), results.scores
    accuracy = _of_runs("accuracy", {key: scores[key]["accuracy"] for key in keys})
    above = _of_runs(
        "above largest city", {key: scores[key]["accuracy"] - scores[key]["majority_accuracy"] for key in keys}
    )
    networks = [split_key(key)[0] for key in keys]
    losses = {key: results.histories[key]["training_loss"] for key in keys}
    agreements = {key: results.neighbours[key].get("neighbour_agreement") for key in keys}
    whole = {"segmentation coverage": results.segmentation["coverage"]}
    whole |= {f"contract of {suite}": float(found["success"]) for suite, found in results.validation.items()}
    tables = [
        accuracy,
        accuracy.assign(metric="accuracy of", row=networks),
        above,
        above.assign(metric="above largest city of", row=networks),
        _of_runs("first training loss", {key: losses[key].iloc[0] for key in keys}),
        _of_runs("last training loss", {key: losses[key].iloc[-1] for key in keys}),
        _of_runs("loss", {key: scores[key]["loss"] for key in keys}),
        _ratios("mean R", results.ratios, ["city"]),
        _ratios("R", results.ratios, ["city", "object"]),
        _of_runs("explained area", {key: results.explained_area[key] for key in keys}),
        *_residuals(results.all_pairs, keys),
        _ratios("lift", results.ratios.assign(ratio=results.ratios["lift"]), ["city"]),
        _ratios("z", results.ratios.assign(ratio=results.ratios["z"].abs()), ["city"]),
        _of_runs("dead masks", results.dead),
        _of_runs("neighbour agreement", agreements),
        _counts(results),
        pd.DataFrame(whole.items(), columns=["metric", "value"]),
    ]
    return pd.concat(tables, ignore_index=True)[COLUMNS].fillna({"row": "", "pool": "", "run": ""})


def _of_runs(metric: str, values: Mapping[str, float | None]) -> pd.DataFrame:
    return pd.DataFrame({"metric": metric, "run": list(values), "value": pd.Series(list(values.values()), dtype=float)})


def _ratios(metric: str, ratios: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return R of the kept objects, mean over those of a row."""
    kept = ratios[ratios["kept"] == 1]
    run, row = kept["network"] + "-" + kept["seed"].astype(str), kept[by[0]].str.cat(kept[by[1:]], sep=" ")
    means = kept.assign(run=run, row=row).groupby(["row", "run"], as_index=False, sort=False)["ratio"].mean()
    return means.rename(columns={"ratio": "value"}).assign(metric=metric, pool=means["row"])


def _residuals(pairs: pd.DataFrame, keys: list[str]) -> list[pd.DataFrame]:
    """Return AR and kappa of two networks' runs with the same seed, and of a network's first seed with its second, third with fourth.

    In these pairs each run stands once per two architectures, and once with another seed of its own. Then the gap: by how much
    each network's AR to other architectures exceeds that between its own runs. The order is the gap again, for a rule on its sign.
    """
    seeds = list(dict.fromkeys(split_key(key)[1] for key in keys))
    twins = list(zip(seeds[::2], seeds[1::2], strict=False))
    chosen = []
    for first, second in zip(pairs["first"], pairs["second"], strict=True):
        (one, seed), (other, twin) = split_key(first), split_key(second)
        chosen.append((seed, twin) in twins if one == other else seed == twin)
    own = pairs[chosen]
    run = own["first"] + JOINT + own["second"]
    shared = {"row": own["kind"], "pool": own["kind"], "run": run}
    measures = {"AR": "residual", "kappa": "kappa"}
    found = [pd.DataFrame({"metric": name, **shared, "value": own[column]}) for name, column in measures.items()]
    gaps = {}
    for network in dict.fromkeys(split_key(key)[0] for key in keys):
        runs = [key for key in keys if split_key(key)[0] == network]
        means = own[own["first"].isin(runs) | own["second"].isin(runs)].groupby("kind")["residual"].mean()
        gaps[JOINT.join(runs)] = means.get("architecture", math.nan) - means.get("initialisation", math.nan)
    return [*found, _of_runs("AR gap", gaps), _of_runs("AR order", gaps)]


def _counts(results: Results) -> pd.DataFrame:
    """Return how many images, objects, pixels and pairs the results are made from; of several networks, the fewest."""
    ratios, pairs = results.ratios, results.all_pairs
    measured = ratios.groupby(["network", "seed", "city"])["images"].first().groupby(["network", "seed"]).sum()
    images = {str(split): int(count) for split, count in results.splits.groupby("split")["images"].sum().items()}
    images |= {
        "tested": min(score["images"] for score in results.scores.values()),
        "explained": min(map(len, results.explained.values())),
        "segmented": int(results.segmentation["images"]),
        "measured": measured.min(),
        "compared": pairs["images"].min(),
    }
    objects = ratios[ratios["kept"] == 1].groupby("city")["object"].nunique()
    pixels = ratios.groupby(["network", "seed"])["total"].sum().min()
    rows = [("images", name, count) for name, count in images.items()]
    rows += [("objects", str(city), count) for city, count in objects.items()]
    rows += [("pixels", "", pixels)]
    rows += [("pairs", str(kind), count) for kind, count in pairs["kind"].value_counts().sort_index().items()]
    return pd.DataFrame(rows, columns=["metric", "row", "value"])


def spot_table(results: Results) -> pd.DataFrame:
    """Return sums over each spot's test images, by which the gate resamples: one row per trained network and spot.

    Columns: run (the trained network), spot (CITY/SPOT), images, and right, how many of them are named rightly.
    """
    spots = results.test["city"].astype(str) + "/" + results.test["spot"].astype(str)
    tables = []
    for key in results.keys:
        right = results.explained[key]["predicted"] == results.explained[key]["city"]
        sums = right.astype(int).groupby(spots).agg(images="size", right="sum")
        tables.append(sums.rename_axis("spot").reset_index().assign(run=key)[["run", "spot", "images", "right"]])
    return pd.concat(tables, ignore_index=True)
