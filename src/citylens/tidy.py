"""Takes away what the study no longer names: folders of networks and seeds that params.yaml has no more.

Stages that read all networks depend on folders such as data/explain; a folder left there would count as an input. DVC's cache
keeps what it holds, so naming the network again brings it back without training.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from citylens.settings import NETWORKS, Settings, key

FOLDERS = (".citylens/train", "models/train", "reports/train", "data/explain", "data/embed", "reports/embed")


def tidy(settings: Settings) -> list[Path]:
    """Removes the folders that stand for no trained network of the study; says which."""
    named = {key(*trained) for trained in settings.study.trained}
    items = [path for folder in FOLDERS for path in sorted(Path(folder).glob("*")) if _is_item(path)]
    unnamed = [path for path in items if path.name not in named]
    for path in unnamed:
        shutil.rmtree(path)
    return unnamed


def _is_item(path: Path) -> bool:
    network, _, seed = path.name.rpartition("-")
    return path.is_dir() and network in NETWORKS and seed.isdecimal()
