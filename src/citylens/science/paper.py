"""What the paper reports, each number with its place: "Deep Visual City Recognition Visualization", Shi, Khademi, van Gemert.

Its cities are Tokyo (Tokyo 24/7) and Pittsburgh (Pittsburgh 250k); a number beside one of other cities compares sizes, not results.
"""

from __future__ import annotations

from collections.abc import Mapping

CITATION = "X. Shi, S. Khademi, J. van Gemert, Deep Visual City Recognition Visualization"

NAMES: Mapping[str, str] = {"vgg11": "VGG11", "resnet18": "ResNet18", "simple": "Simple", "simpler": "Simpler"}
"""The networks as the paper writes them."""

DEEP, SHALLOW = ("vgg11", "resnet18"), ("simple", "simpler")

MASK_COLUMNS = ("simple", "simpler", "resnet18", "vgg11")
"""Figure 6's columns, from left to right, after the image."""

ACCURACIES: Mapping[str, float] = {"vgg11": 0.9998, "resnet18": 0.9996, "simple": 0.9931, "simpler": 0.9818}
"""Section 3.2, shares of all images named right."""

RESIDUALS: Mapping[tuple[str, str], float] = {
    ("vgg11", "resnet18"): 0.4349,
    ("vgg11", "simple"): 0.4303,
    ("vgg11", "simpler"): 0.4502,
    ("resnet18", "simple"): 0.4118,
    ("resnet18", "simpler"): 0.4136,
    ("simple", "simpler"): 0.3149,
    ("vgg11", "vgg11"): 0.2679,
    ("resnet18", "resnet18"): 0.2265,
    ("simple", "simple"): 0.2411,
    ("simpler", "simpler"): 0.2460,
}
"""Table 2: average AR, in its order; a network beside itself is one trained twice."""

SETTINGS: Mapping[str, tuple[str, str]] = {
    "study.networks": ("vgg11, resnet18, simple, simpler", "section 3.2"),
    "study.seeds": ("each network trained twice", "table 2"),
    "prepare.size": ("224", "table 1"),
    "prepare.split": ("all images are divided; spots are not mentioned", "section 3.1"),
    "prepare.shares": ("6:2:2", "section 3.1"),
    "train.learning_rate": ("0.0001", "section 3.2"),
    "train.decay": ("0.1", "section 3.2"),
    "train.decay_every": ("10", "section 3.2"),
    "measure.min_pixels": ("100", "section 3.4"),
    "embed.components": ("50", "section 3.3"),
    "report.examples": ("2", "figure 6"),
    "report.thumbnails": ("around 500", "section 3.3"),
    "report.thumbnail_network": ("vgg11", "figure 4"),
}
"""Settings the paper states: value, place. It leaves the others open."""


def mean_residual(*, retrained: bool) -> float:
    """Mean of table 2's architecture pairs, or of its retrained pairs; in [0, 1]."""
    values = [value for (first, second), value in RESIDUALS.items() if (first == second) == retrained]
    return sum(values) / len(values)
