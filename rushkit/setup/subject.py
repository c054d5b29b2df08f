"""What a stage measures: images that fit the model, their labels, and the model under its noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError
from rushkit.noises import Noise
from rushkit.setup.components import IN_CHANNELS
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine

# Images that are hashed at a time: a mapped split need not come into memory whole.
_HASHED = 1024


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
