"""compare: how far the masks of any two trained networks differ, AR (paper, eq. 2).

Reads data/explain/KEY of all networks; writes data/compare/residuals.parquet, a row an image and pair, and reports/compare:
residual.csv (table 2's rows, with the paper's values), all_pairs.csv and scores.json. Alone: `citylens compare`. Costs 2 ms an image
with eight networks at 112 px, whose number of pairs grows by the square.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from citylens.adapters import files
from citylens.adapters.tracker import Run
from citylens.science import masks, paper, residual
from citylens.settings import Settings, Study, key

CHUNK = 128
PAIR = ["first", "second"]


def run(settings: Settings, tracker: Run) -> None:
    size, sums = settings.prepare.size, []
    with files.growing_table("data/compare/residuals.parquet") as append:
        for piece in _residuals(settings.study, size):
            append(piece)
            sums.append(_summed(piece))
    pairs = _means(pd.concat(sums), settings.study)
    table2 = _table2(pairs, settings.study)
    files.write_table("reports/compare/all_pairs.csv", pairs)
    files.write_table("reports/compare/residual.csv", table2)
    files.write_json("reports/compare/scores.json", _scores(pairs, table2, settings.study))


def _residuals(study: Study, size: int) -> Iterator[pd.DataFrame]:
    folders = {trained: Path("data/explain") / key(*trained) for trained in study.trained}
    indexes = {
        trained: files.read_table(folder / "index.csv", ["id", "city", "dead"]) for trained, folder in folders.items()
    }
    maps = {trained: files.open_array(folder / "masks.npy") for trained, folder in folders.items()}
    images = next(iter(indexes.values()))[["id", "city"]]
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        weighted = {trained: masks.normalise(values[part], size) for trained, values in maps.items()}
        pieces = []
        for first, second in residual.all_pairs(study.networks, study.seeds):
            dead = indexes[first]["dead"][part] | indexes[second]["dead"][part]
            values = residual.residual(weighted[first], weighted[second])
            pieces.append(images[part].assign(first=key(*first), second=key(*second), residual=values, dead=dead))
        yield pd.concat(pieces)


def _summed(piece: pd.DataFrame) -> pd.DataFrame:
    living = piece["residual"].where(piece["dead"] == 0, 0.0)
    sums = piece.assign(images=1, sum=piece["residual"], sum_alive=living)
    return sums.groupby(PAIR, as_index=False)[["images", "dead", "sum", "sum_alive"]].sum()


def _means(sums: pd.DataFrame, study: Study) -> pd.DataFrame:
    table = sums.groupby(PAIR).sum()
    living = table["images"] - table["dead"]
    table["residual"] = table["sum"] / table["images"]
    table["residual_alive"] = np.divide(table["sum_alive"], living, out=np.full(len(table), np.nan), where=living > 0)
    pairs = residual.all_pairs(study.networks, study.seeds)
    table["kind"] = pd.Series({(key(*first), key(*second)): residual.kind(first, second) for first, second in pairs})
    order = [(key(*first), key(*second)) for first, second in pairs]
    return table.loc[order].reset_index()[[*PAIR, "kind", "residual", "residual_alive", "images", "dead"]]


def _table2(pairs: pd.DataFrame, study: Study) -> pd.DataFrame:
    values = pairs.set_index(PAIR)
    rows = []
    for first, second in residual.table2_pairs(study.networks, study.seeds):
        names = (key(*first), key(*second))
        published = paper.RESIDUALS.get((first[0], second[0]), paper.RESIDUALS.get((second[0], first[0])))
        rows.append(
            {"pair": _pair_name(first[0], second[0])}
            | dict(zip(PAIR, names, strict=True))
            | values.loc[names].to_dict()
            | {"paper": published}
        )
    table = pd.DataFrame(rows, columns=["pair", *pairs.columns, "paper"])
    return table.replace({"kind": {"initialisation": "retrained"}})


def _pair_name(first: str, second: str) -> str:
    return f"{paper.NAMES[first]}-{paper.NAMES[second]}" + (" retrained" if first == second else "")


def _scores(pairs: pd.DataFrame, table2: pd.DataFrame, study: Study) -> dict[str, object]:
    means = pairs.groupby("kind")["residual"].mean()
    architectures, initialisations = (float(means.get(kind, np.nan)) for kind in ("architecture", "initialisation"))
    scores = {
        "between_architectures": architectures,
        "between_initialisations": initialisations,
        "ratio": architectures / initialisations if initialisations else np.nan,
    }
    dead = {
        key(*trained): int(files.read_table(Path("data/explain") / key(*trained) / "index.csv")["dead"].sum())
        for trained in study.trained
    }
    known = {name: value for name, value in scores.items() if np.isfinite(value)}
    return known | {"table2": dict(zip(table2["pair"], table2["residual"], strict=True)), "dead": dead}


def track(settings: Settings, tracker: Run) -> None:
    scores = files.read_json("reports/compare/scores.json")
    tracker.metrics({name: value for name, value in scores.items() if isinstance(value, float)})
    tracker.metrics({f"AR_{pair}": value for pair, value in scores["table2"].items()})
    for name in ("residual.csv", "all_pairs.csv"):
        tracker.table(Path("reports/compare") / name)
