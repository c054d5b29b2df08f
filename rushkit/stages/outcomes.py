"""What noisy votes say of every image of a split, and the accuracies with their intervals that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from rushkit import statistics
from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError
from rushkit.noises import Noise
from rushkit.smoothing import Rule, SmoothedClassifier, Tally
from rushkit.stages import ranks
from rushkit.stages.build import IN_CHANNELS, to_float
from rushkit.system import Machine, derived_seed

# Noise is drawn for blocks of images, each from a seed of its own: the result depends on this number and on nothing
# else that varies between machines.
BLOCK = 256
# Images that are hashed at a time: a mapped split need not come into memory whole.
_HASHED = 1024


@dataclass(frozen=True)
class Outcomes:
    """The tally of a split and its labels."""

    tally: Tally
    labels: Tensor

    def right(self, rule: Rule) -> Tensor:
        """(N,) bool, where the prediction is the label."""
        return self.tally.predict(rule) == self.labels

    def accuracy(self, rule: Rule) -> float:
        """Share of the images that are predicted rightly."""
        return self.right(rule).double().mean().item()


def labels_of(split: Split, classes: int) -> Tensor:
    """The labels of a split. Raises DataError where there are none, or one that the model has no class for."""
    if split.labels is None:
        raise DataError(f"{split.name} has no labels", "choose a labelled split: --set evaluate.split=test")
    if len(split.labels) and int(split.labels.max()) >= classes:
        raise DataError(
            f"{split.name} has label {int(split.labels.max())}, and the model has {classes} classes",
            "evaluate on the data that the model was fine-tuned for",
        )
    return split.labels


def check_images(split: Split, image_size: int) -> None:
    """Raise UsageError where images have another size than a model was trained for: radii and balls depend on it."""
    shape, wanted = tuple(split.images.shape[1:]), (IN_CHANNELS, image_size, image_size)
    if shape != wanted:
        raise UsageError(
            f"the images of {split.name} are {_by(shape)}, and the model takes {_by(wanted)}",
            f"--set data.image_size={image_size}",
        )


def check_classes(data: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raise UsageError where a data set names other classes than a model has, or the same in another order.

    Args:
        data: The data set, for the message.
        theirs: Its classes.
        ours: The model's.
    """
    for index, (there, here) in enumerate(zip_longest(theirs, ours)):
        if there != here:
            raise UsageError(
                f"class {index} of {data} is {_named(there)}, and of the model {_named(here)}",
                f"fine-tune on {data}, or evaluate on the data that the model was fine-tuned for",
            )


def content_of(split: Split) -> str:
    """A hash of the images of a split, and of its labels where it has some: what a run that is resumed is about."""
    digest = hashlib.blake2b(digest_size=16)
    for block in split.images.split(_HASHED):
        digest.update(block.contiguous().numpy().data)
    if split.labels is not None:
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _named(name: str | None) -> str:
    return "missing" if name is None else repr(name)


def smoothed(
    network: nn.Module, noise: Noise, samples: int, chunk: int = 0, machine: Machine | None = None
) -> SmoothedClassifier:
    """The network under its noise; ``chunk`` 0 takes what suits the device."""
    model = network if machine is None or machine.precision == "float32" else LowPrecision(network, machine)
    return SmoothedClassifier(model, noise, samples, chunk or None, seed=0)


class LowPrecision(nn.Module):
    """A network whose passes run under the machine's autocast."""

    def __init__(self, network: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.network = network
        self._machine = machine

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        with self._machine.autocast():
            return self.network(x)


def count_outcomes(
    g: SmoothedClassifier,
    split: Split,
    samples: int,
    seed: int,
    device: torch.device,
    advance: Callable[[int], Any] = id,
) -> Outcomes:
    """The tally of ``samples`` draws for every image of a labelled split.

    Args:
        g: The model under its noise.
        split: uint8 images with labels.
        samples: m.
        seed: Of the draws.
        device: Where the model is.
        advance: Called with the number of passes done.
    """
    tallies: dict[int, Tally] = {}
    for start in ranks.own(range(0, len(split), BLOCK)):
        x = to_float(split.images[start : start + BLOCK].to(device))
        with g.fresh_noise(derived_seed(seed, "evaluate", samples, start)):
            tallies[start] = g.tally(x, samples)
        # The other ranks are at blocks of their own meanwhile.
        advance(len(split.images[start : start + BLOCK * ranks.world()]) * samples)
    # Every rank fills in its own rows; the sum over the ranks has them all. A rank without a block learns K here.
    classes = ranks.largest(max((tally.votes.shape[1] for tally in tallies.values()), default=0))
    votes, confidence, squared = torch.zeros(3, len(split), classes, dtype=torch.float64)
    for start, tally in tallies.items():
        rows = slice(start, start + BLOCK)
        votes[rows], confidence[rows], squared[rows] = tally.votes, tally.confidence, tally.confidence_squared
    for whole in (votes, confidence, squared):
        ranks.total(whole)
    assert split.labels is not None
    return Outcomes(Tally(votes.long(), confidence, squared, samples), split.labels)


def accuracy_row(right: Tensor, confidence: float = 0.95) -> dict[str, Any]:
    """Accuracy of (N,) bool outcomes with its Wilson interval, as results.json holds it."""
    correct, total = int(right.sum()), len(right)
    low, high = statistics.wilson_interval(correct, total, confidence)
    return {
        "correct": correct,
        "images": total,
        "accuracy": correct / total,
        "low": float(low),
        "high": float(high),
        "confidence": confidence,
    }
