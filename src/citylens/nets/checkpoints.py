"""Networks and training states as safetensors files; nothing pickled is read or written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from citylens.errors import InputError
from citylens.io.files import reading, whole_file
from citylens.io.texts import label
from citylens.nets import networks


@dataclass(frozen=True)
class Card:
    """What using a network's weights needs: the network's name, the cities in the order of the logits, and its input.

    The input has `size` x `size` pixels, from images that were resized by "stretch" or "crop"; each channel of pixel / 255 has `mean`
    subtracted and is divided by `std`. For padding, dense_relu, last_pooling and initialisation see `networks.build`.
    """

    network: str
    cities: tuple[str, ...]
    size: int
    resize: str
    padding: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dense_relu: bool = True
    last_pooling: bool = True
    initialisation: str = "library"


def untrained(card: Card, seed: int = 0, dropout: float = 0.5) -> torch.nn.Module:
    """Return the network of a card with random weights.

    Raises:
        ValueError: as `networks.build`.
    """
    names = ("size", "padding", "dense_relu", "last_pooling", "initialisation")
    options = {name: getattr(card, name) for name in names}
    return networks.build(card.network, classes=len(card.cities), dropout=dropout, seed=seed, **options)


def write_tensors(path: Path | str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any shape by name, and texts beside them.

    Raises:
        InputError: the disk is full, or refuses the file otherwise.
    """
    with whole_file(path) as draft:
        try:
            save_file(
                {name: value.detach().contiguous().cpu() for name, value in tensors.items()}, draft, dict(metadata)
            )
        except SafetensorError as error:  # It is no OSError.
            raise InputError(f"{path}: {error}; allowed: a disk with room for it") from None


def read_tensors(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the texts of a safetensors file.

    Raises:
        InputError: the file is missing, or is no safetensors file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; `dvc repro` makes the study's own networks, `dvc pull` fetches them")
    fault = "no safetensors file; allowed: weights saved by the safetensors library"
    with reading(path, fault), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def write_network(path: Path | str, network: torch.nn.Module, card: Card) -> None:
    """Write a network's weights with its card."""
    # One text only: safetensors writes several in an order that changes from run to run.
    write_tensors(path, network.state_dict(), {"card": json.dumps(asdict(card))})


def read_network(path: Path | str) -> tuple[dict[str, torch.Tensor], Card]:
    """Return a network's weights and card.

    Raises:
        InputError: the file is missing, is no safetensors file, or has no card.
    """
    tensors, metadata = read_tensors(path)
    with reading(path, "no readable card in its metadata; allowed: a network that citylens trained"):
        values: dict[str, Any] = dict(json.loads(metadata["card"]))
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        for name in (values["network"], *values["cities"]):
            label(name, f"{path}: card")
        return tensors, Card(**values)


def load_network(path: Path | str) -> tuple[torch.nn.Module, Card]:
    """Return the network in a file, on the GPU if there is one, and its card.

    Raises:
        InputError: as `read_network`; or the weights do not fit the network that the card names.
    """
    tensors, card = read_network(path)
    with torch.device("meta"):  # The random weights of a new network would be thrown away.
        network = untrained(card)
    load_weights(network, tensors, path)
    return network.to(networks.device()), card


def load_weights(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path | str) -> None:
    """Put weights into a network, with every name and shape as the network has them; floats of other types are converted.

    Raises:
        InputError: names are missing, unknown or of another shape, hold NaN or infinity, or whole or complex numbers where the
            network has floats; it lists them.
    """
    wanted = network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in wanted]
    misfits = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    wrong += [f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}" for name in misfits]
    types = {name: str(tensors[name].dtype).removeprefix("torch.") for name in wanted if name in tensors}
    exact = [name for name in types if wanted[name].is_floating_point() and not tensors[name].is_floating_point()]
    wrong += [f"{name} holds {types[name]}, without the scale of a quantised network, not floats" for name in exact]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weight(s) do not fit the network: {'; '.join(wrong[:20])}")
    fitting = {name: tensors[name].to(value.dtype) for name, value in wanted.items()}
    check_finite(fitting, path)
    network.load_state_dict(fitting, assign=True)


def check_finite(tensors: Mapping[str, torch.Tensor], where: Path | str) -> None:
    """Check that all numbers are finite: a network with one NaN may give NaN everywhere, and its likeliest class is then the first.

    Raises:
        InputError: lists the names of those that hold NaN or infinity.
    """
    wrong = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if wrong:
        listed = ", ".join(wrong[:5])
        raise InputError(f"{where}: NaN or infinity in {len(wrong)} weight(s): {listed}; allowed: finite numbers")
