"""Several processes that train one network together, by `torchrun` or on a Ray cluster: each takes a part of every batch.

One process that trains alone is the first of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn


def by_torchrun() -> bool:
    """Return whether `torchrun` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes that `torchrun` started, by NCCL on GPUs and by gloo elsewhere; alone, do nothing."""
    if not by_torchrun():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def together(network: nn.Module) -> nn.Module:
    """Return a module that computes what the network does, and whose backward pass averages the gradients of all processes."""
    return nn.parallel.DistributedDataParallel(network) if count() > 1 else network


def own(images: int) -> slice:
    """Return the part of some images that is this process's."""
    return slice(images * rank() // count(), images * (rank() + 1) // count())


def total(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return the sum of all processes' values, on the CPU."""
    if count() == 1:
        return values
    values = values.to(device)
    distributed.all_reduce(values)
    return values.cpu()


def share_buffers(network: nn.Module) -> None:
    """Give all processes the first one's running means, which batch normalisation takes from each process's own images."""
    if count() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, src=0)


def wait() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        distributed.barrier()
