"""Names of networks: the architectures, and the key NETWORK-SEED of a trained network."""

from __future__ import annotations

SHALLOW = {
    "simple": ((5, 20), (7, 64), (5, 96), (7, 128)),
    "simpler": ((9, 20), (9, 64), (9, 96)),
}
"""Kernel side and number of channels of each convolution of the paper's own networks (table 1)."""
NETWORKS = ("vgg11", "resnet18", *SHALLOW)
"""Every network that a study can name; all but the shallow ones are torchvision's of that name."""
TITLES = {"vgg11": "VGG11", "resnet18": "ResNet18", "simple": "Simple", "simpler": "Simpler"}
JOINT = " and "
"""What stands between the two names of a pair."""


def network_title(network: str) -> str:
    """Return a network's name in figures and tables, such as `VGG11`."""
    return TITLES.get(network, network)


def key(network: str, seed: int) -> str:
    """Return the name of a trained network, such as `vgg11-0`: the name of its stages, folders and table columns."""
    return f"{network}-{seed}"


def split_key(name: str) -> tuple[str, int]:
    """Return network and seed of a trained network's name."""
    network, _, seed = name.rpartition("-")
    return network, int(seed)
