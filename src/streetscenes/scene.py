"""The street of a scene and the positions of its objects, in metres.

Each kind of object has a fixed number of places on the street. The city's frequency of the kind is the chance that a
place is taken. The places of a kind, and the look of each object, come from random streams of their own: no draw
depends on whether another object is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from streetscenes.world import LOT_OBJECTS, World

HALF_LENGTH = 120.0
FAR, LOT, FRONTAGE, WALK, KERB, PARKED, ROADWAY = range(7)


@dataclass(frozen=True)
class Streams:
    """The random streams of one spot of one city."""

    seed: int
    city: str
    spot: int

    def of(self, kind: str, index: int = 0) -> np.random.Generator:
        """Return the stream of object `index` of a kind, which starts anew at each call."""
        names = zlib.crc32(self.city.encode()), zlib.crc32(kind.encode())
        entropy = np.array([self.seed, self.spot, index, *names], np.uint32)
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


@dataclass(frozen=True)
class Street:
    """A street along y, with widths in metres and a cross street at y = `crossing` (None for no cross street).

    `bearing` is its direction in degrees clockwise from north, and `camera_x` is the x of the camera.
    """

    bearing: float
    camera_x: float
    half_road: float
    walk: float
    crossing: float | None
    half_cross: float
    has_walk: bool

    @property
    def front(self) -> float:
        """Return the distance in metres from the middle of the road to the lots."""
        return self.half_road + self.walk

    def crosses(self, low: float, high: float) -> bool:
        """Return whether the cross street, with its sidewalks, touches low <= y <= high."""
        if self.crossing is None:
            return False
        reach = self.half_cross + self.walk
        return low < self.crossing + reach and high > self.crossing - reach


@dataclass(frozen=True)
class Thing:
    """One object with the ground plan x0..x1, y0..y1 in metres.

    `index` numbers the objects of a kind and picks the random stream. `slab` is the layer of the street, painted
    from FAR to ROADWAY. `side` is the side of the street: -1 left, 1 right, 0 neither. `form` is the variant of a
    signboard, and `link` is the y at which a pole's wires end.
    """

    kind: str
    index: int
    slab: int
    side: int
    x0: float
    x1: float
    y0: float
    y1: float
    form: str = ""
    link: float | None = None

    @property
    def x(self) -> float:
        """Return the middle, in metres to the right."""
        return (self.x0 + self.x1) / 2

    @property
    def y(self) -> float:
        """Return the middle, in metres ahead."""
        return (self.y0 + self.y1) / 2

    @property
    def radius(self) -> float:
        """Return the distance in metres from the middle of the ground plan to its corners."""
        return float(np.hypot(self.x1 - self.x0, self.y1 - self.y0)) / 2


def draw_street(world: World, streams: Streams) -> Street:
    """Draw the street of a scene."""
    rng = streams.of("street")
    bearing, half_road, walk = rng.uniform(0, 360), rng.uniform(4.6, 7.6), rng.uniform(2.6, 4.8)
    camera_x = rng.uniform(0.8, 1.8) * rng.choice([-1, 1])
    crossing = rng.uniform(16, 70) * rng.choice([-1, 1]) if rng.random() < 0.55 else None
    half_cross = rng.uniform(3.5, 5.5)
    has_walk = rng.random() < world.share(streams.city, "sidewalk")
    return Street(bearing, camera_x, half_road, walk, crossing, half_cross, bool(has_walk))


def place_things(world: World, streams: Streams, street: Street) -> list[Thing]:
    """Draw all objects of a scene, in no particular order."""

    def share(kind: str) -> float:
        return world.share(streams.city, kind)

    lots = list(_lots(streams, street, share))
    things = [lot for lot in lots if lot.kind != "grass"]
    things += _blocks(streams, street, share("building"))
    things += _skyscrapers(streams, street, share("skyscraper"))
    things += _along_kerb(streams, street, "tree", 8.0, share("tree"), 0.9)
    things += _yard_trees(streams, street, share("tree"))
    things += _along_kerb(streams, street, "streetlight", 25.0, share("streetlight"), 0.7)
    things += _poles(streams, street, share("pole"))
    things += _cars(streams, street, share("car"))
    things += _people(streams, street, share("person"))
    things += _signboards(streams, street, share("signboard"), lots)
    return things


def _lots(streams: Streams, street: Street, share: Callable[[str], float]) -> Iterator[Thing]:
    """Yield the lots on both sides, outside the cross street, with the kind of object that each holds."""
    limits, kinds = np.cumsum([share(kind) for kind in LOT_OBJECTS]), (*LOT_OBJECTS, "grass")
    for side in (-1, 1):
        rng = streams.of("lots", side + 1)
        y, index = -HALF_LENGTH + rng.uniform(0, 8), 1000 * (side + 1)
        while y < HALF_LENGTH:
            width, choice, index = rng.uniform(9, 20), rng.random(), index + 1
            near, far = street.front, street.front + rng.uniform(11, 16)
            if not street.crosses(y, y + width):
                x0, x1 = sorted((side * near, side * far))
                kind = kinds[int(np.searchsorted(limits, choice, side="right"))]
                yield Thing(kind, index, LOT, side, x0, x1, y, y + width)
            y += width


def _blocks(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield the buildings behind the lots and at both ends of the street, which close the view."""
    rng = streams.of("blocks")
    for index, y in enumerate(np.arange(-165, 166, 20.0)):
        for side in (-1, 1):
            chance, x, shift, width, depth = rng.random(), rng.uniform(34, 62), *rng.uniform([-4, 13, 9], [4, 24, 16])
            low, high = y + shift - width / 2, y + shift + width / 2
            if chance < share and not street.crosses(low, high):
                yield _plan("building", 3000 + 2 * index + (side > 0), FAR, side, side * x, y + shift, depth, width)
    for index, x in enumerate(np.arange(-70, 71, 20.0)):
        for end in (-1, 1):
            chance, shift, width = rng.random(), rng.uniform(175, 215), rng.uniform(14, 24)
            if chance < share:
                yield _plan("building", 4000 + 2 * index + (end > 0), FAR, 0, x, end * shift, width, 12)


def _skyscrapers(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield the towers in the distance: 24 places, ten on each side and two at each end of the street."""
    rng = streams.of("skyscraper places")
    sides = [(side * 1.0, y) for side in (-1, 1) for y in np.linspace(-150, 150, 10)]
    for index, (side, y) in enumerate([*sides, (-0.2, -190.0), (0.2, -190.0), (-0.2, 190.0), (0.2, 190.0)]):
        chance, x, shift, width, depth = rng.random(), *rng.uniform([42, -12, 18, 18], [95, 12, 32, 30])
        if chance < share:
            yield _plan("skyscraper", index, FAR, int(side), side * x, y + shift, depth, width)


def _along_kerb(
    streams: Streams, street: Street, kind: str, step: float, share: float, inset: float
) -> Iterator[Thing]:
    """Yield objects in rows on both sidewalks, one place every `step` metres, `inset` metres from the kerb."""
    rng = streams.of(kind + " places")
    start = rng.uniform(0, step)
    for place, (shift,) in _taken(rng, 2 * int(2 * HALF_LENGTH / step), 1, share):
        side, y = _side(place), -HALF_LENGTH + step * (place // 2 + 0.24 * (shift - 0.5)) + start
        if not street.crosses(y - 1, y + 1):
            yield _plan(kind, place, KERB, side, side * (street.half_road + inset), y, 0.4, 0.4)


def _yard_trees(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield trees behind the lots, two places every 9 m on each side."""
    rng = streams.of("yard places")
    for place, (deep, shift) in _taken(rng, 4 * 26, 2, share):
        side, y = _side(place), -HALF_LENGTH + 9 * (place // 4 + shift)
        x = side * (25 + 8 * deep if place % 4 < 2 else 48 + 22 * deep)
        if not street.crosses(y - 1, y + 1):
            yield _plan("tree", 1000 + place, FAR, 0, x, y, 0.4, 0.4)


def _poles(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield rows of utility poles on both sides, with wires from each pole to the next."""
    rng = streams.of("pole places")
    start = rng.uniform(0, 50)
    rows: dict[int, list[tuple[int, float]]] = {-1: [], 1: []}
    for index, y in enumerate(np.arange(-HALF_LENGTH - 25, HALF_LENGTH, 50.0)):
        for side in (-1, 1):
            chance, shift = rng.random(), start + rng.uniform(-4, 4) + 25 * (side > 0)
            if chance < share:
                rows[side].append((2 * index + (side > 0), y + shift))
    for side, row in rows.items():
        x = side * (street.half_road + 0.5)
        links: list[float | None] = [y for _, y in row[1:]]
        for (index, y), link in zip(row, [*links, None], strict=False):
            yield replace(_plan("pole", index, KERB, side, x, y, 0.3, 0.3), link=link)


def _cars(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield cars that park at both kerbs and, half as many, cars that drive on both sides of the road."""
    rng = streams.of("car places")
    parked, driving = street.half_road - 1.15, max(1.75, street.half_road / 2 - 0.7)
    for place, (shift,) in _taken(rng, 4 * int(2 * HALF_LENGTH / 7), 1, share):
        side, is_driving, y = _side(place), place % 4 > 1, -HALF_LENGTH + 7 * (place // 4) + shift
        is_left_free = place // 4 % 2 == 1 or abs(y) < 9 if is_driving else street.crosses(y - 3, y + 3)
        if not is_left_free:
            slab, x = (ROADWAY, driving) if is_driving else (PARKED, parked)
            yield _plan("car", place, slab, side, side * x, y, 1.8, 4.5)


def _people(streams: Streams, street: Street, share: float) -> Iterator[Thing]:
    """Yield people on both sidewalks, and some who cross the road."""
    rng = streams.of("person places")
    for place, (across, shift, on_road) in _taken(rng, 2 * 48, 3, share):
        side, y = _side(place), -60 + 2.5 * (place // 2) + 2 * shift
        if on_road < 0.06 and abs(y) > 12:
            yield _plan("person", place, ROADWAY, side, side * across * street.half_road, y, 0.5, 0.5)
        else:
            x = side * (street.half_road + (0.2 + 0.7 * across) * street.walk)
            yield _plan("person", place, WALK, side, x, y, 0.5, 0.5)


def _signboards(streams: Streams, street: Street, share: float, lots: list[Thing]) -> Iterator[Thing]:
    """Yield signboards: flat on a facade or sticking out of it, and on posts where no building stands."""
    rng = streams.of("signboard places")
    for place, (choice, shift) in _taken(rng, 2 * int(2 * HALF_LENGTH / 5), 2, share):
        side, y = _side(place), -HALF_LENGTH + 5 * (place // 2) + 1.5 * shift
        on_house = any(lot.side == side and lot.y0 + 1.6 < y < lot.y1 - 1.6 for lot in lots if lot.kind == "building")
        if street.crosses(y - 2, y + 2):
            continue
        if on_house:
            form = "flat" if choice < 0.5 else "blade"
            yield _plan("signboard", place, FRONTAGE, side, side * street.front, y, 1.2, 4.0, form)
        elif choice < 0.6:
            yield _plan("signboard", place, WALK, side, side * (street.front - 0.5), y, 1.5, 4.0, "post")


def _taken(rng: np.random.Generator, places: int, draws: int, share: float) -> Iterator[tuple[int, list[float]]]:
    """Yield the places that are taken, each with chance `share`, and `draws` random numbers, 0 to 1, for each."""
    numbers = rng.random((places, draws + 1))
    for place in np.flatnonzero(numbers[:, 0] < share).tolist():
        yield place, numbers[place, 1:].tolist()


def _side(place: int) -> int:
    """Return the side of the street of a place: -1 (left) for even places, 1 (right) for odd ones."""
    return 1 if place % 2 else -1


def _plan(
    kind: str, index: int, slab: int, side: int, x: float, y: float, wide: float, deep: float, form: str = ""
) -> Thing:
    """Return a thing with a ground plan of `wide` x `deep` metres around (x, y)."""
    return Thing(kind, index, slab, side, x - wide / 2, x + wide / 2, y - deep / 2, y + deep / 2, form)
