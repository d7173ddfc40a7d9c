"""Data sets in MLflow: the splits of data/prepare, at a version that DVC knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from citylens.io.files import open_array, read_table
from citylens.versions.pipeline import Entry

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

PREPARED = "data/prepare"


@dataclass(frozen=True)
class Split:
    """The images of one split of data/prepare: `training`, `validation` or `test`."""

    context: str
    md5: str
    images: dict[str, int]
    """Number of images per city."""
    size: int
    """Side of the images, in pixels."""

    @property
    def name(self) -> str:
        """Name of the data set on MLflow's pages."""
        return f"{PREPARED} {self.context}"

    @property
    def digest(self) -> str:
        """Return the md5's first digits, as many as MLflow's pages show; the source has all of it."""
        return version(self.md5)

    def as_input(self) -> DatasetInput:
        """Return the split as an input of a run, with its context, schema, profile and source."""
        import numpy as np
        from mlflow.data.schema import TensorDatasetSchema
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.types import Schema, TensorSpec

        from dvc_datasets import DvcSource

        images = TensorSpec(np.dtype(np.uint8), (-1, self.size, self.size, 3), "images")
        schema = TensorDatasetSchema(Schema([images]), Schema([TensorSpec(np.dtype(np.int64), (-1,), "label")]))
        profile = {"num_rows": sum(self.images.values())} | {f"images of {city}": n for city, n in self.images.items()}
        data = Dataset(
            self.name,
            self.digest,
            DvcSource._get_source_type(),
            DvcSource(PREPARED, self.md5).to_json(),
            schema=json.dumps(schema.to_dict()),
            profile=json.dumps(profile, ensure_ascii=False),
        )
        return DatasetInput(data, [InputTag("mlflow.data.context", self.context)])


def prepared(recorded: Mapping[str, Entry]) -> str | None:
    """Return the md5 of data/prepare that dvc.lock records."""
    return next((entry.outs[PREPARED] for entry in recorded.values() if PREPARED in entry.outs), None)


def version(md5: str) -> str:
    """Return the short name of a version of the data."""
    return md5[:8]


def splits(md5: str) -> dict[str, Split]:
    """Return the splits of data/prepare by context.

    Args:
        md5: of data/prepare, as dvc.lock has it.
    """
    index = read_table(f"{PREPARED}/index.csv", ["city", "split"])
    size = int(open_array(f"{PREPARED}/images.npy").shape[1])
    counts = index.groupby(["split", "city"]).size()
    return {
        str(context): Split(str(context), md5, {str(city): int(n) for city, n in of.droplevel(0).items()}, size)
        for context, of in counts.groupby(level=0)
    }
