"""MLflow data sets whose source is a version in DVC's cache.

`mlflow.data.get_source(dataset)` finds `DvcSource` by MLflow's entry point for plugins. MLflow loads the plugin whenever it is
imported, so this package imports nothing of citylens: a served network must find the code that was logged with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource


class DvcSource(DatasetSource):
    """A file or folder at one version.

    Args:
        path: its path in the project.
        md5: its md5 in dvc.lock; of a folder, with `.dir` at the end.
    """

    def __init__(self, path: str, md5: str) -> None:
        self.path, self.md5 = path, md5

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, target: str | None = None) -> str:
        """Bring the data out of DVC's cache and return their path; the current folder must be in the project.

        Args:
            target: where to put them; by default a folder in `.dvc/tmp`.

        Raises:
            FileNotFoundError: DVC's cache does not hold this version.
        """
        from dvc.fs import LocalFileSystem
        from dvc.repo import Repo
        from dvc_data.hashfile import load
        from dvc_data.hashfile.checkout import checkout
        from dvc_data.hashfile.hash_info import HashInfo

        with Repo() as repo:
            cache, place = repo.cache.local, Path(target or Path(repo.tmp_dir, "datasets", self.md5)).resolve()
            try:
                checkout(str(place), LocalFileSystem(), load(cache, HashInfo("md5", self.md5)), cache)
            except FileNotFoundError:
                raise FileNotFoundError(
                    f"{self.path} {self.md5} is not in DVC's cache; `dvc pull` at the commit of its run fetches it"
                ) from None
        return str(place)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> DvcSource:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return path and md5."""
        return {"path": self.path, "md5": self.md5}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> DvcSource:
        """Return the source with this path and md5."""
        return cls(source_dict["path"], source_dict["md5"])
