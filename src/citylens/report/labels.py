"""Names of trained networks and objects as the report writes them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from citylens.nets.names import network_title, split_key


def trained_name(key: str) -> str:
    """Return the name of a trained network, such as `VGG11, seed 0` for `vgg11-0`."""
    network, seed = split_key(key)
    return f"{network_title(network)}, seed {seed}"


def keys_by_network(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys of each network's trained copies; the keys of one network stand together, as in a study."""
    return {network: list(own) for network, own in groupby(keys, lambda key: split_key(key)[0])}


def object_name(name: str) -> str:
    """Return the first of an object's synonyms, which ADE20K separates by semicolons."""
    return str(name).split(";")[0].strip()
