"""Networks and training states as safetensors; nothing pickled is read or written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from citylens.adapters.files import whole_file
from citylens.settings import InputError


@dataclass(frozen=True)
class Card:
    """What a network's weights need to be used: its name, cities in the order of the logits, and the input it takes."""

    network: str
    cities: tuple[str, ...]
    size: int
    resize: str
    padding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def write_tensors(path: Path | str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Tensors of any shape by name, and texts beside them."""
    with whole_file(path) as draft:
        save_file({name: value.detach().contiguous().cpu() for name, value in tensors.items()}, draft, dict(metadata))


def read_tensors(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and texts of a safetensors file.

    Raises:
        InputError: no such file, or no safetensors in it.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; `dvc repro` makes the study's own networks, `dvc pull` fetches them")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path}: no safetensors file ({error}); allowed: weights saved by the safetensors library"
        ) from None


def write_network(path: Path | str, network: torch.nn.Module, card: Card) -> None:
    """A network's weights with its card."""
    # One text only: safetensors writes several in an order that changes from run to run.
    write_tensors(path, network.state_dict(), {"card": json.dumps(asdict(card))})


def read_network(path: Path | str) -> tuple[dict[str, torch.Tensor], Card]:
    """A network's weights and card.

    Raises:
        InputError: no such file, no safetensors, or a file without a card.
    """
    tensors, metadata = read_tensors(path)
    try:
        values: dict[str, Any] = dict(json.loads(metadata["card"]))
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return tensors, Card(**values)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: no readable card in its metadata ({error}); allowed: a network that citylens trained"
        ) from None


def load_weights(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path | str) -> None:
    """Weights into a network, every name and shape as it should be.

    Raises:
        InputError: lists the names that are missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in wanted]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weight(s) do not fit the network: {'; '.join(wrong[:20])}")
    network.load_state_dict(dict(tensors), assign=True)
