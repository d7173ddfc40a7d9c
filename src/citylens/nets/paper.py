"""Numbers of the paper, "Deep Visual City Recognition Visualization" by Shi, Khademi and van Gemert, each with its place.

The paper's cities are Tokyo (Tokyo 24/7) and Pittsburgh (Pittsburgh 250k). Other cities give other numbers, so only their
magnitudes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

CITATION = "X. Shi, S. Khademi, J. van Gemert, Deep Visual City Recognition Visualization"

DEEP, SHALLOW = ("vgg11", "resnet18"), ("simple", "simpler")

MASK_COLUMNS = ("simple", "simpler", "resnet18", "vgg11")
"""The columns of figure 6 after the image, from left to right."""

ACCURACIES: Mapping[str, float] = {"vgg11": 0.9998, "resnet18": 0.9996, "simple": 0.9931, "simpler": 0.9818}
"""Accuracies of section 3.2, in [0, 1]."""

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
"""Average AR of table 2, in its order. A pair of equal names is one network trained twice."""

SETTINGS: Mapping[str, tuple[str, str]] = {
    "study.networks": ("vgg11, resnet18, simple, simpler", "section 3.2"),
    "study.seeds": ("each network trained twice", "table 2"),
    "acquire.source": ("Tokyo 24/7 and Pittsburgh 250k, as released", "section 3.1"),
    "prepare.size": ("224", "table 1"),
    "prepare.split": ("all images are divided; spots are not mentioned", "section 3.1"),
    "prepare.shares": ("6:2:2", "section 3.1"),
    "train.learning_rate": ("0.0001", "section 3.2"),
    "train.decay": ("0.1", "section 3.2"),
    "train.decay_every": ("10", "section 3.2"),
    "train.start": ("random initialisations", "abstract"),
    "segment.segmenter": ("csail: ResNet50 trained on ADE20K by its authors", "section 3.4"),
    "measure.min_pixels": ("100", "section 3.4"),
    "embed.components": ("50", "section 3.3"),
    "report.examples": ("2", "figure 6"),
    "report.thumbnails": ("around 500", "section 3.3"),
    "report.thumbnail_network": ("vgg11", "figure 4"),
}
"""Value and place of each setting that the paper states."""


def mean_residual(*, retrained: bool) -> float:
    """Return the mean AR of the retrained pairs of table 2, or of its pairs of two architectures, in [0, 1]."""
    values = [value for (first, second), value in RESIDUALS.items() if (first == second) == retrained]
    return sum(values) / len(values)
