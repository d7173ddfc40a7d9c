"""Names of objects: those of ADE20K, short names, and objects that count as another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from citylens.errors import InputError
from citylens.io.texts import alike, normal

_ADE20K = """
wall; building; sky; floor; tree; ceiling; road; bed; windowpane; grass; cabinet; sidewalk; person; earth; door;
table; mountain; plant; curtain; chair; car; water; painting; sofa; shelf; house; sea; mirror; rug; field; armchair;
seat; fence; desk; rock; wardrobe; lamp; bathtub; railing; cushion; base; box; column; signboard; chest of drawers;
counter; sand; sink; skyscraper; fireplace; refrigerator; grandstand; path; stairs; runway; display case; pool
table; pillow; screen door; stairway; river; bridge; bookcase; blind; coffee table; toilet; flower; book; hill;
bench; countertop; stove; palm; kitchen island; computer; swivel chair; boat; bar; arcade machine; hovel; bus;
towel; light; truck; tower; chandelier; awning; streetlight; booth; television; airplane; dirt track; apparel; pole;
land; bannister; escalator; ottoman; bottle; buffet; poster; stage; van; ship; fountain; conveyer belt; canopy;
washer; plaything; swimming pool; stool; barrel; basket; waterfall; tent; bag; minibike; cradle; oven; ball; food;
step; tank; trade name; microwave; pot; animal; bicycle; lake; dishwasher; projection screen; blanket; sculpture;
hood; sconce; vase; traffic light; tray; ashcan; fan; pier; crt screen; plate; monitor; bulletin board; shower;
radiator; glass; clock; flag
"""

ADE20K = {label: name.strip() for label, name in enumerate(_ADE20K.replace("\n", " ").split(";"), start=1)}
"""The first name of each object in ADE20K's scene parsing benchmark (Zhou et al., 2017), by label (1 to 150)."""


def short_names(names: Mapping[int, str]) -> dict[int, str]:
    """Return, for each label, the first of its synonyms that no lower label has: after "screen", "screen;CRT screen" is "CRT screen".

    Synonyms that a reader cannot tell apart, such as "Wall" and "wall", are one.

    Raises:
        InputError: lower labels have all synonyms of a label.
    """
    chosen: dict[int, str] = {}
    taken_names: set[str] = set()
    for label, synonyms in sorted(names.items()):
        parts = map(normal, synonyms.split(";"))
        own = [part for part in parts if part and alike(part) not in taken_names]
        if not own:
            taken = f"label {label}, {synonyms!r}, has the name of an earlier label"
            raise InputError(f"{taken}; allowed: a name of its own")
        chosen[label] = own[0]
        taken_names.add(alike(own[0]))
    return chosen


def merged(names: Mapping[int, str], merge: Mapping[str, str]) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the label that each label becomes when objects are merged, (256,), and the names of the labels that remain.

    Args:
        names: name of each label.
        merge: for each name that disappears, the name that it becomes; other labels stay as they are.

    Raises:
        InputError: a name in `merge` is unknown, or an object is merged into one that is merged itself.
    """
    merge = {normal(name): normal(target) for name, target in merge.items()}
    numbers = {name: label for label, name in names.items()}
    unknown = [name for pair in merge.items() for name in pair if name not in numbers]
    if unknown:
        raise InputError(f"segment.merge: no object is called {unknown[0]!r}; allowed: {', '.join(sorted(numbers))}")
    chained = [name for name in merge.values() if name in merge]
    if chained:
        raise InputError(
            f"segment.merge: {chained[0]!r} takes another object in and is merged itself; allowed: one or the other"
        )
    table = np.arange(256, dtype=np.uint8)
    for name, target in merge.items():
        table[numbers[name]] = numbers[target]
    return table, {label: name for label, name in names.items() if name not in merge}
