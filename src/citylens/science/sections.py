"""The sections of the page that show results."""

from __future__ import annotations

from typing import Any

from citylens.science import figures, paper
from citylens.science.blocks import NONE, TIMES, figure, made_with, number, percent, section, table
from citylens.science.results import Results, accuracies, wide_ratios

COMMONEST = 15


def accuracies_section(results: Results) -> dict[str, Any]:
    """Accuracies beside the paper's, training curves, confusion matrices."""
    runs = accuracies(results)
    header = [
        "network",
        "accuracy",
        "95 % interval",
        "the paper's",
        "largest city",
        "loss",
        *(f"recall {city}" for city in results.cities),
        "dead masks",
    ]
    rows = [
        [
            figures.run_name(key),
            percent(row["accuracy"]),
            f"{percent(row['low'])} to {percent(row['high'])}",
            percent(row["paper"]),
            percent(row["majority_accuracy"]),
            number(row["loss"]),
        ]
        + [percent(row[f"recall_{city}"]) for city in results.cities]
        + [f"{row['dead']:,}"]
        for key, (_, row) in zip(results.keys, runs.iterrows(), strict=True)
    ]
    plan = results.settings["train"]
    training = f"Adam, {plan['learning_rate']:g} times {plan['decay']:g} every {plan['decay_every']} epochs, {plan['epochs']} epochs."
    return section(
        "accuracies",
        "Accuracies",
        "",
        table(
            "Test accuracies",
            header,
            rows,
            "The interval is a bootstrap over spots. “Largest city”: the accuracy of always naming it. Also in accuracies.csv.",
        ),
        figure("training", "Training", f"Loss and accuracy over the epochs; {training}", "no training curves."),
        figure("confusion", "Confusion", "Test images by actual and predicted city; shade: share of the row.", "none."),
    )


def masks_section(results: Results) -> dict[str, Any]:
    """Figures 2 and 6."""
    threshold, seed = results.settings["measure"]["threshold"], results.settings["report"]["seed"]
    return section(
        "masks",
        "Masks",
        made_with(results),
        figure(
            "fig2_pipeline",
            "From an image to its visual explanation",
            "Grad-CAM weighs the last convolution's channels by the gradient of the explained score; the ReLU leaves what speaks for it. "
            f"Enlarged bilinearly and stretched to [0, 1] it is the weighted mask; where it is at least {threshold:g}, the image is shown.",
            "figure 2, a drawing; the threshold is not stated.",
        ),
        figure(
            "fig6_masks",
            "Weighted masks of the same images",
            f"Test images drawn at random (seed {seed}), with the weighted mask of each network's first seed; white line: the "
            f"edge of the visual explanation (mask {threshold:g}). Below: the city named, its probability, ✗ where it is wrong. "
            "A dead mask holds nothing.",
            "figure 6: shallow networks mark the sky or disjoint regions, ResNet18 wider regions, VGG11 is more selective.",
        ),
    )


def clusters_section(results: Results) -> dict[str, Any]:
    """Figures 3 and 4, and how well neighbours agree."""
    plan, shown = results.settings["embed"], results.settings["report"]
    method = f"PCA to {plan['components']} dimensions, then t-SNE (perplexity {plan['perplexity']:g}, {plan['iterations']} iterations)"
    rows = [
        [
            figures.run_name(key),
            percent(found.get("neighbour_agreement")),
            percent(found.get("chance")),
            f"{found['masks']:,}",
        ]
        for key, found in results.neighbours.items()
    ]
    network = shown["thumbnail_network"]
    return section(
        "clusters",
        "Clusters of masks",
        f"{method}, of the weighted masks; dead masks are left out. Distances between far groups mean little.",
        figure(
            "fig3_scatter",
            "Masks by city",
            "A point a test image; each network's first seed.",
            "figure 3, VGG11 only: most masks are separable by city.",
        ),
        figure(
            "fig4_explanations",
            f"Visual explanations of {paper.NAMES[network]}",
            f"Up to {shown['thumbnails']} test images drawn at random (seed {shown['seed']}), cut out where the mask is at least "
            f"{results.settings['measure']['threshold']:g}; frame: city. Each takes a cell of a grid near its mask's t-SNE place, "
            "by the assignment of least total squared distance, so that none covers another.",
            "figure 4: around 500 explanations of VGG11; similar objects lie together.",
        ),
        table(
            "Neighbours in the plane",
            ["network", "same city among the 10 nearest", "by chance", "masks"],
            rows,
            "The paper has no number for this.",
        ),
    )


def objects_section(results: Results) -> dict[str, Any]:
    """Figure 5 and its numbers."""
    plan, size = results.settings["measure"], results.settings["prepare"]["size"]
    least = plan["min_pixels"] * (size / 224) ** 2
    kept = wide_ratios(results).query("kept == 1")
    rows = [
        [
            row["city"],
            figures.object_name(row["object"]),
            f"{row['mean_pixels']:,.0f}",
            number(row["mean"]),
            number(row["share"]),
        ]
        + [number(row[key]) for key in results.keys]
        for _, row in kept.iterrows()
    ]
    header = ["city", "object", "pixels an image", "mean R", "all pixels", *map(figures.run_name, results.keys)]
    return section(
        "objects",
        "Objects",
        "R is the share of an object's pixels that the visual explanations cover, over all test images of a city (eq. 1). An object that "
        "the explanations prefer lies above the line: the share they cover of all labelled pixels.",
        figure(
            "fig5_object_ratio",
            "R of the objects",
            f"Objects with more than {least:g} pixels a mean image ({plan['min_pixels']:g} at 224 {TIMES} 224), by falling "
            f"frequency; a bar a trained network, a black line its share of all labelled pixels. Threshold {plan['threshold']:g}; "
            f"labels cover {results.segmentation['coverage']:.0%} of the test images' pixels. “Too rare”: kept in another city only.",
            "figure 5, without printed values: skyscraper and ground kept for Pittsburgh alone, signboard and fence for Tokyo alone.",
        ),
        table(
            "R of the kept objects",
            header,
            rows,
            "“All pixels”: R of all labelled pixels, mean. All objects are in object_ratio.csv.",
        ),
        *_labels(results),
    )


def _labels(results: Results) -> list[dict[str, Any]]:
    """How well the scene parser meets people's labels, object by object; nothing where labels are people's own."""
    scores, counts = results.segmentation, results.label_confusion
    if "pixel_accuracy" not in scores:
        return []
    true, found = (counts.groupby(side)["pixels"].sum() for side in ("actual", "predicted"))
    right = counts[counts["actual"] == counts["predicted"]].set_index("actual")["pixels"]
    wrong = counts[counts["actual"] != counts["predicted"]].drop_duplicates("actual").set_index("actual")
    rows = []
    for name, pixels in true.sort_values(ascending=False, kind="stable").head(COMMONEST).items():
        met = int(right.get(name, 0))
        other = f"{wrong['predicted'][name]} ({wrong['pixels'][name] / pixels:.1%})" if name in wrong.index else NONE
        union = pixels + int(found.get(name, 0)) - met
        rows.append([name, percent(pixels / true.sum()), percent(met / pixels), percent(met / union), other])
    caption = (
        f"Of {scores['labelled_images']:,} test images that people labelled: pixel accuracy {scores['pixel_accuracy']:.1%}, mIoU over "
        f"the {len(true)} objects that occur {scores['mean_iou']:.1%}. The {len(rows)} commonest; all in reports/segment/confusion.csv."
    )
    header = ["object (people's)", "share of pixels", "named right", "IoU", "mostly taken for"]
    return [table("The scene parser beside people", header, rows, caption)]


def comparison_section(results: Results) -> dict[str, Any]:
    """Table 2, and AR of every two trained networks."""
    text = "AR is the mean absolute difference of two networks' weighted masks of one image (eq. 2), averaged over the test images."
    header = ["pair", "average AR", "the paper's", "without dead masks", "images", "of them dead"]
    rows = [
        [
            row["pair"],
            *(number(row[name], 4) for name in ("residual", "paper", "residual_alive")),
            f"{row['images']:,}",
            f"{row['dead']:,}",
        ]
        for _, row in results.pairs.iterrows()
    ]
    return section(
        "comparison",
        "Architectures and initialisations",
        text,
        figure(
            "table2",
            "Average AR of each pair",
            "Filled: this study. Hollow: the paper. Dotted: the mean of each kind.",
            "table 2.",
        ),
        table("Table 2", header, rows, "An image counts as dead where either mask is. Also in table2.csv."),
        figure(
            "all_pairs",
            "Average AR of every two trained networks",
            "White lines part the architectures.",
            "ten of them, in table 2.",
        ),
    )
