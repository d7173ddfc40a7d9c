"""Worlds: the objects of made-up cities, their ADE20K labels, and how often each stands in each city."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

LABELS: dict[str, int] = {
    "building": 2,
    "sky": 3,
    "tree": 5,
    "road": 7,
    "grass": 10,
    "sidewalk": 12,
    "person": 13,
    "earth": 14,
    "car": 21,
    "fence": 33,
    "signboard": 44,
    "skyscraper": 49,
    "streetlight": 88,
    "pole": 94,
}
"""ADE20K label (1 to 150) of each object that a scene can show."""

BACKGROUND = ("sky", "road", "grass")
"""Objects that every scene has and that cannot be removed."""

LOT_OBJECTS = ("building", "earth", "fence")
"""Objects that a lot beside the street can hold; a lot without any of them is open grass."""

MOST: dict[str, float] = {
    "building": 1.0,
    "earth": 1.0,
    "fence": 1.0,
    "sidewalk": 1.0,
    "skyscraper": 24.0,
    "tree": 25.0,
    "car": 40.0,
    "person": 80.0,
    "streetlight": 8.0,
    "signboard": 40.0,
    "pole": 4.0,
}
"""Highest frequency of each object that can be removed, in the unit of `worlds/default.yaml`."""


@dataclass(frozen=True)
class World:
    """Cities and, per city, the frequency of each object of `MOST`, from 0 to its entry there."""

    cities: tuple[str, ...]
    frequencies: Mapping[str, Mapping[str, float]]

    def share(self, city: str, name: str) -> float:
        """Return the chance, 0 to 1, that the object `name` stands at one of its places in `city`."""
        return self.frequencies[city][name] / MOST[name]


def read_world(mapping: Mapping[str, Any]) -> World:
    """Return the world that a parsed world file describes.

    Args:
        mapping: `cities`, a list of names, and `objects`, which maps object to city to frequency.

    Raises:
        ValueError: a key is missing or unknown, a frequency is no number from 0 to its entry in `MOST`, or the
            shares of the lots sum to more than 1; the message names the key and what is allowed.
    """
    _need_keys(mapping, ("cities", "objects"), "the world")
    cities = _read_cities(mapping["cities"])
    objects = mapping["objects"]
    _need_keys(objects, tuple(MOST), "objects")
    for name in MOST:
        _need_keys(objects[name], cities, f"objects.{name}")
    frequencies = {city: {name: _read_frequency(objects, name, city) for name in MOST} for city in cities}
    for city in cities:
        _check_lots(city, frequencies[city])
    return World(cities, frequencies)


def check_removable(names: Collection[str]) -> None:
    """Raise ValueError unless each name is an object that can be removed."""
    for name in names:
        if name in BACKGROUND:
            raise ValueError(f"{name!r} is background and cannot be left out; one of {', '.join(MOST)} can")
        if name not in MOST:
            raise ValueError(f"unknown object {name!r}: one of {', '.join(MOST)} can be left out")


def _need_keys(found: Any, allowed: tuple[str, ...], where: str) -> None:
    """Raise ValueError unless `found` is a mapping with exactly the keys `allowed`."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} must be a mapping with the keys {', '.join(allowed)}, not {found!r}")
    for key in found:
        if key not in allowed:
            raise ValueError(f"unknown key {key!r} in {where}: allowed are {', '.join(allowed)}")
    for key in allowed:
        if key not in found:
            raise ValueError(f"missing key {key!r} in {where}: needed are {', '.join(allowed)}")


def _read_cities(names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) and name for name in names)
    if not is_list or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError(f"cities must be a list of two or more different names, not {names!r}")
    return tuple(names)


def _read_frequency(objects: Mapping[str, Any], name: str, city: str) -> float:
    value = objects[name][city]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= MOST[name]:
        raise ValueError(f"objects.{name}.{city} must be a number from 0 to {MOST[name]:g}, not {value!r}")
    return float(value)


def _check_lots(city: str, frequency: Mapping[str, float]) -> None:
    total = sum(frequency[name] for name in LOT_OBJECTS)
    if total > 1 + 1e-9:
        names = ", ".join(f"objects.{name}.{city}" for name in LOT_OBJECTS)
        raise ValueError(f"{names} are shares of the same lots and may sum to 1 at most, not {total:g}")
