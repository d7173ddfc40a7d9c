"""Training by cross-entropy and Adam (paper, section 3.2), which can stop after each epoch and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from citylens.nets.memory import OutOfMemory, halved
from citylens.nets.networks import to_input
from citylens.nets.shards import shards
from citylens.settings.schema import Train
from citylens.train import workers

INPUTS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""By the setting train.input, what is subtracted from pixel / 255 and what divides it: red, green and blue."""


class Diverged(ValueError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Images:
    """Images, (N, H, W, 3) uint8 RGB, their (N,) classes, and the row numbers of those for training and for validation."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch, counted from 1: mean cross-entropy in nats, accuracy in [0, 1]."""

    epoch: int
    learning_rate: float
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float


class Training:
    """A network in training. An epoch's random numbers depend on seed and epoch alone, so a resumed run gives the same bytes.

    Several processes may train one network (see `workers`). Each computes its part of every batch, and all make the same step of
    Adam. Batch normalisation and dropout then see one process's images at a time, and sums are added in another order; the
    results are those of one process but for that.
    """

    def __init__(self, network: nn.Module, images: Images, plan: Train, seed: int, device: torch.device) -> None:
        self.network, self.images, self.plan, self.seed, self.device = network.to(device), images, plan, seed, device
        self.together = workers.together(self.network)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
        self.scaling = INPUTS[plan.input]
        self.done = 0  # epochs
        self.at_once = plan.batch_size  # images in the network at a time; half a batch once memory has run out

    def epochs(self, on_batch: Callable[[int], object] = lambda images: None) -> Iterator[Epoch]:
        """Train the epochs still to do and yield the results of each; `on_batch` gets the number of images of each step.

        Raises:
            Diverged: the loss is NaN or infinite; names the epoch and the batch.
            OutOfMemory: half a batch at a time is still too much.
        """
        while self.done < self.plan.epochs:
            number = self.done + 1
            rate = self.plan.learning_rate * self.plan.decay ** (self.done // self.plan.decay_every)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            trained = self._epoch(number, on_batch)
            logits = self.predict(self.images.validation)
            validated = score(logits, self.images.labels[self.images.validation])
            if not np.isfinite(validated[0]):
                raise Diverged(f"the validation loss is {validated[0]} after epoch {number}")
            self.done = number
            yield Epoch(number, rate, *trained, *validated)

    def _epoch(self, number: int, on_batch: Callable[[int], object]) -> tuple[float, float]:
        """Train one epoch; return its mean loss and accuracy."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(self.images.training)
        flips = generator.random(len(order)) < (0.5 if self.plan.augment == "flip" else 0.0)
        losses, hits = 0.0, 0
        self.network.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed * 1_000_003 + number + (workers.rank() << 40))
            for batch, part in enumerate(shards(len(order), self.plan.batch_size), start=1):
                images = part.stop - part.start
                loss, correct = self._step(order[part], flips[part])
                if not np.isfinite(loss):
                    raise Diverged(f"the loss is {loss} in epoch {number}, batch {batch}")
                losses, hits = losses + loss * images, hits + correct
                on_batch(images)
        return losses / len(order), hits / len(order)

    def _step(self, rows: NDArray[np.int64], flips: NDArray[np.bool_]) -> tuple[float, int]:
        try:
            return self._in_parts(rows, flips)
        except Exception as error:
            self.at_once = halved(error, self.at_once, self.plan.batch_size)
            if workers.count() > 1:  # The others are in the middle of their steps.
                raise OutOfMemory(f"out of memory with {len(rows)} images on {workers.count()} workers") from None
        return self._step(rows, flips)

    def _in_parts(self, rows: NDArray[np.int64], flips: NDArray[np.bool_]) -> tuple[float, int]:
        """Make one step of Adam on the mean loss of all rows, and return that loss and the number of images named right.

        The gradient adds up over the parts that memory has room for; batch normalisation then sees fewer images at once.
        """
        self.optimiser.zero_grad()
        images, loss, correct = len(rows), 0.0, 0
        rows, flips = rows[workers.own(images)], flips[workers.own(images)]
        parts = shards(len(rows), self.at_once)
        for part in parts:
            pixels = self.images.pixels[rows[part]]
            pixels[flips[part]] = pixels[flips[part], :, ::-1]
            labels = torch.from_numpy(self.images.labels[rows[part]]).to(self.device)
            adds = isinstance(self.together, DistributedDataParallel) and part is not parts[-1]
            with cast(DistributedDataParallel, self.together).no_sync() if adds else nullcontext():
                logits = self.together(to_input(torch.from_numpy(pixels).to(self.device), *self.scaling))
                share = functional.cross_entropy(logits, labels, reduction="sum") / images
                # The processes' gradients are averaged; their sum is wanted.
                (share * workers.count()).backward()
            loss, correct = loss + share.item(), correct + int((logits.argmax(1) == labels).sum())
        self.optimiser.step()
        loss, correct = workers.total(torch.tensor([loss, correct], dtype=torch.float64), self.device).tolist()
        return loss, int(correct)

    def predict(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the logits of the images in some rows, (len(rows), classes) float32; leave the network in evaluation mode."""
        workers.share_buffers(self.network)
        part = workers.own(len(rows))
        logits = predict(self.network, self.images.pixels, rows[part], self.at_once, self.device, self.scaling)
        if workers.count() == 1:
            return logits
        whole = logits.new_zeros(len(rows), logits.shape[1])
        whole[part] = logits
        return workers.total(whole, self.device)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights and Adam's moments by name, all that `restore` needs besides the number of epochs done."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for moment, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{moment}.{name}"] = value
        return tensors

    def restore(self, tensors: Mapping[str, torch.Tensor], done: int) -> None:
        """Go back to what `state` returned after epoch `done`."""
        self.network.load_state_dict({name: tensors[f"network.{name}"] for name in self.network.state_dict()})
        for name, parameter in self.network.named_parameters():
            moments = {moment: tensors[f"adam.{moment}.{name}"] for moment in ("step", "exp_avg", "exp_avg_sq")}
            self.optimiser.state[parameter] = {key: value.clone().to(self.device) for key, value in moments.items()}
        self.done = done


def predict(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    rows: NDArray[np.int64],
    batch_size: int,
    device: torch.device,
    scaling: tuple[tuple[float, ...], tuple[float, ...]],
) -> torch.Tensor:
    """Return the logits of the images in some rows of `pixels`, (N, H, W, 3) RGB; leave the network in evaluation mode.

    The logits are (len(rows), classes) float32 on the CPU. `scaling` is one of `INPUTS`.
    """
    network.eval()
    with torch.inference_mode():
        parts = (torch.from_numpy(pixels[rows[part]]).to(device) for part in shards(len(rows), batch_size))
        return torch.cat([network(to_input(part, *scaling)).cpu() for part in parts])


def score(logits: torch.Tensor, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean cross-entropy in nats, and the accuracy in [0, 1], of (N, classes) logits."""
    truth = torch.from_numpy(np.ascontiguousarray(labels))
    return functional.cross_entropy(logits, truth).item(), (logits.argmax(1) == truth).double().mean().item()


def confusion(logits: torch.Tensor, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of images by actual (row) and predicted (column) class, (classes, classes) int64."""
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(1).numpy()
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
