"""Training by cross-entropy and Adam (paper, section 3.2); yields its metrics an epoch, can stop after each and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from citylens.science.memory import halved
from citylens.science.networks import to_input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Diverged(ValueError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Images:
    """Packed images and their classes: pixels (N, H, W, 3) uint8 RGB, labels (N,) int, rows of each split."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Epochs, images a step, and Adam's learning rate, times `decay` every `decay_every` epochs; flips left-right or not."""

    epochs: int
    batch_size: int
    learning_rate: float
    decay: float
    decay_every: int
    flip: bool
    seed: int


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: mean cross-entropy (nats) and accuracy in [0, 1]; `speed` in training images a second."""

    epoch: int
    learning_rate: float
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float
    speed: float


class Training:
    """A network in training. Every epoch draws from (seed, epoch) alone, so a resumed run gives an undisturbed one's bytes."""

    def __init__(self, network: nn.Module, images: Images, plan: Plan, device: torch.device) -> None:
        self.network, self.images, self.plan, self.device = network.to(device), images, plan, device
        self.optimiser = torch.optim.Adam(network.parameters(), lr=plan.learning_rate, fused=True)
        self.done = 0
        self.at_once = plan.batch_size  # images in the network together; half a batch once memory has run out

    def epochs(self, on_batch: Callable[[int], object] = lambda images: None) -> Iterator[Epoch]:
        """Trains the epochs still to do; `on_batch` hears the number of images of each step.

        Raises:
            Diverged: the loss is NaN or infinite; names the epoch and the batch.
            OutOfMemory: half a batch at a time is too much, too.
        """
        while self.done < self.plan.epochs:
            number = self.done + 1
            rate = self.plan.learning_rate * self.plan.decay ** (self.done // self.plan.decay_every)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            start = time.perf_counter()
            loss, accuracy = self._epoch(number, on_batch)
            speed = len(self.images.training) / (time.perf_counter() - start)
            logits = predict(self.network, self.images.pixels, self.images.validation, self.at_once, self.device)
            scores = score(logits, self.images.labels[self.images.validation])
            if not np.isfinite(scores[0]):
                raise Diverged(
                    f"the validation loss is {scores[0]} after epoch {number}; a smaller train.learning_rate may help"
                )
            self.done = number
            yield Epoch(number, rate, loss, accuracy, *scores, speed)

    def _epoch(self, number: int, on_batch: Callable[[int], object]) -> tuple[float, float]:
        generator = np.random.default_rng([self.plan.seed, number])
        order = generator.permutation(self.images.training)
        flips = generator.random(len(order)) < (0.5 if self.plan.flip else 0.0)
        losses, hits = 0.0, 0
        self.network.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.plan.seed * 1_000_003 + number)
            for batch, start in enumerate(range(0, len(order), self.plan.batch_size)):
                rows = order[start : start + self.plan.batch_size]
                loss, correct = self._step(rows, flips[start : start + len(rows)])
                if not np.isfinite(loss):
                    raise Diverged(
                        f"the loss is {loss} in epoch {number}, batch {batch + 1}; a smaller train.learning_rate may help"
                    )
                losses, hits = losses + loss * len(rows), hits + correct
                on_batch(len(rows))
        return losses / len(order), hits / len(order)

    def _step(self, rows: NDArray[np.int64], flips: NDArray[np.bool_]) -> tuple[float, int]:
        try:
            return self._in_parts(rows, flips)
        except Exception as error:
            self.at_once = halved(error, self.at_once, self.plan.batch_size)
        return self._step(rows, flips)

    def _in_parts(self, rows: NDArray[np.int64], flips: NDArray[np.bool_]) -> tuple[float, int]:
        """A step of Adam on the mean loss of all rows, whose gradient adds up over the parts that memory has room for.

        In parts, batch normalisation sees fewer images at once.
        """
        self.optimiser.zero_grad()
        loss, correct = 0.0, 0
        for start in range(0, len(rows), self.at_once):
            part = slice(start, start + self.at_once)
            pixels = self.images.pixels[rows[part]]
            pixels[flips[part]] = pixels[flips[part], :, ::-1]
            labels = torch.from_numpy(self.images.labels[rows[part]]).to(self.device)
            logits = self.network(to_input(torch.from_numpy(pixels).to(self.device), MEAN, STD))
            share = functional.cross_entropy(logits, labels, reduction="sum") / len(rows)
            share.backward()
            loss, correct = loss + share.item(), correct + int((logits.argmax(1) == labels).sum())
        self.optimiser.step()
        return loss, correct

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and Adam's moments, by name; with `done`, all that `restore` needs to go on."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for moment, value in self.optimiser.state[parameter].items():
                tensors[f"adam.{moment}.{name}"] = value
        return tensors

    def restore(self, tensors: Mapping[str, torch.Tensor], done: int) -> None:
        """Back to a state that `state` gave after epoch `done`."""
        prefix = "network."
        self.network.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )
        for name, parameter in self.network.named_parameters():
            moments = ("step", "exp_avg", "exp_avg_sq")
            self.optimiser.state[parameter] = {
                moment: tensors[f"adam.{moment}.{name}"].clone().to(self.device) for moment in moments
            }
        self.done = done


def predict(
    network: nn.Module, pixels: NDArray[np.uint8], rows: NDArray[np.int64], batch_size: int, device: torch.device
) -> torch.Tensor:
    """(len(rows), classes) float32 logits, on the CPU; the network is left in evaluation mode.

    Args:
        pixels: (N, H, W, 3) uint8 RGB.
        rows: which of them.
    """
    network.eval()
    with torch.inference_mode():
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        return torch.cat(
            [network(to_input(torch.from_numpy(pixels[batch]).to(device), MEAN, STD)).cpu() for batch in batches]
        )


def score(logits: torch.Tensor, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy in [0, 1]."""
    truth = torch.from_numpy(np.ascontiguousarray(labels))
    return functional.cross_entropy(logits, truth).item(), (logits.argmax(1) == truth).double().mean().item()


def confusion(logits: torch.Tensor, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(classes, classes) images by actual (row) and predicted (column) class."""
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(1).numpy()
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
