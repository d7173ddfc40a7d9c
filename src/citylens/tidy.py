"""Takes away what is not to count: folders of networks and seeds that params.yaml has no more, and verdicts that nobody saw pass.

Stages that read all networks depend on folders such as data/explain; a folder left there would count as an input. DVC's cache
keeps what it holds, so naming the network again brings it back without training. A verdict of validate is in git, its Data Docs are
not: in a fresh clone DVC would take the data for checked, and there would be no page to look at.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from citylens.settings import NETWORKS, Settings, key

VERDICTS, DOCS = Path("reports/validate"), Path("reports/data_docs")
FOLDERS = (".citylens/train", "models/train", "reports/train", "data/explain", "data/embed", "reports/embed")


def tidy(settings: Settings) -> list[Path]:
    """Removes the folders that stand for no trained network of the study; says which."""
    named = {key(*trained) for trained in settings.study.trained}
    items = [path for folder in FOLDERS for path in sorted(Path(folder).glob("*")) if _is_item(path)]
    unnamed = [path for path in items if path.name not in named]
    for path in unnamed:
        shutil.rmtree(path)
    return unnamed


def forget_verdicts() -> list[Path]:
    """Removes the verdicts of suites whose Data Docs are not here, so that DVC has the data checked; says which."""
    unseen = [path for path in sorted(VERDICTS.glob("*.json")) if not (DOCS / path.stem).exists()]
    for path in unseen:
        path.unlink()
    return unseen


def _is_item(path: Path) -> bool:
    network, _, seed = path.name.rpartition("-")
    return path.is_dir() and network in NETWORKS and seed.isdecimal()
