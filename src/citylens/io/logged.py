"""What a stage's run in MLflow shows. Stages only describe it; `citylens.tracking` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Logged:
    """Results of one stage, beside the parameters and data versions that every run has.

    Args:
        metrics: final numbers by name.
        networks: numbers of single trained networks, by the network's key (`vgg11-0`) and name.
        history: one row per epoch; the column `epoch` is the step, the others are metrics.
        tables: CSV files.
        figures: PNG files.
        files: other files, and folders with all their files.
        splits: the splits of data/prepare whose images the stage used.
        weights: the network that the stage trained, a safetensors file.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    tables: tuple[Path, ...] = ()
    figures: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    splits: tuple[str, ...] = ()
    weights: Path | None = None
