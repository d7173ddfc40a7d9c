"""Chooses what each figure of the report shows, and draws all figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from citylens.nets import paper
from citylens.report import inputs, mask_figures, network_figures
from citylens.report.figure_style import png
from citylens.report.mask_figures import Example, Explained
from citylens.report.results import Results


def draw(results: Results) -> Iterator[tuple[str, bytes]]:
    """Yield file name without ending and PNG of each figure."""
    plan, cities, threshold = results.settings.report, results.cities, results.settings.measure.threshold
    network, first = plan.thumbnail_network, results.first(plan.thumbnail_network)
    order = _shuffled(results)
    rows, table = [row for own in order for row in own], results.explained[first]
    good = (table["dead"] == 0) & (table["predicted"] == table["city"])
    shown = _example(results, next((row for row in rows if good[row]), rows[0]), [network])
    yield "fig2_pipeline", png(mask_figures.pipeline(shown, network, threshold))
    firsts = [results.first(name) for name in results.settings.study.networks]
    yield "fig3_scatter", png(mask_figures.scatter({key: results.embeddings[key] for key in firsts}, cities))
    yield "fig4_explanations", png(_explanations(results, first), palette=True)
    yield "fig5_object_ratio", png(network_figures.object_ratio(results.ratios, cities, results.keys))
    known = [*paper.MASK_COLUMNS, *results.settings.study.networks]
    columns = [name for name in dict.fromkeys(known) if name in results.settings.study.networks]
    examples = [_example(results, row, columns) for own in order for row in own[: plan.examples]]
    yield "fig6_masks", png(mask_figures.masks(examples, columns, threshold), palette=True)
    yield "table2", png(network_figures.table2(results.pairs))
    yield "all_pairs", png(network_figures.all_pairs(results.all_pairs, results.keys))
    yield "training", png(network_figures.curves(results.histories))
    yield "confusion", png(network_figures.confusion(results.confusions, cities))


def _shuffled(results: Results) -> list[list[int]]:
    """Return each city's rows of the test images in random order, with one image of each spot before all others."""
    test = results.test
    order = test.iloc[np.random.default_rng(results.settings.report.seed).permutation(len(test))]
    repeated = order.duplicated(["city", "spot"])
    order = pd.concat([order[~repeated], order[repeated]])
    return [order.index[order["city"] == city].tolist() for city in results.cities]


def _example(results: Results, row: int, networks: Sequence[str]) -> Example:
    shown = {}
    for network in networks:
        key = results.first(network)
        found = results.explained[key].loc[row]
        (grad_cam,), (mask,) = inputs.read_maps(results, key, [row])
        shown[network] = Explained(grad_cam, mask, found["predicted"], float(found["probability"]), bool(found["dead"]))
    return Example(inputs.read_images(results, [row])[0], results.test["city"][row], shown)


def _explanations(results: Results, key: str) -> Figure:
    plan, table = results.settings.report, results.embeddings[key]
    alive = np.flatnonzero((table["dead"] == 0) & table["x"].notna())
    rows = np.sort(np.random.default_rng(plan.seed).permutation(alive)[: plan.thumbnails]).tolist()
    weighted, images = inputs.read_maps(results, key, rows)[1], inputs.read_images(results, rows)
    pictures = mask_figures.explanation(images, weighted, results.settings.measure.threshold)
    places, labels = table.loc[rows, ["x", "y"]].to_numpy(), table.loc[rows, "city"].tolist()
    return mask_figures.explanations(pictures, places, labels, results.cities)
