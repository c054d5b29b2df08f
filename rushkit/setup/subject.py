"""The subject of a measurement: a fine-tuned model under its noise, and labelled images that fit it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError, shell_line
from rushkit.image_size import ImageSize, sides, size_line
from rushkit.models.answers import Answer, answer_kind
from rushkit.models.repeats import ROWS
from rushkit.noises import Noise
from rushkit.recipe.schema import Recipe
from rushkit.rounding import percent
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.components import build_dataset, build_noise, load_split, to_float
from rushkit.setup.model import Classifier, load_classifier
from rushkit.setup.start import machine_of, machine_of_run
from rushkit.setup.surrogate import Surrogate
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine


@dataclass(frozen=True)
class Subject:
    """A fine-tuned model, the noise that it is measured under, and the labelled images that it is measured on.

    Example::

        subject = Subject.open(recipe, checkpoint, split="test", limit=100)
        g = subject.smoothed(samples=64)
        x, y = subject.batch(slice(0, 32))
        accuracy = (g.predict(x) == y).double().mean()

    A stage that measures one model on several splits, or on several numbers of images, loads it once::

        classifier = load_classifier(checkpoint, machine)
        whole = Subject.of(recipe, classifier, machine, split="test")
        small = Subject.of(recipe, classifier, machine, split="test", limit=100)

    Attributes:
        machine: The device of the model, and the precision of its passes.
        classifier: The model without noise.
        noise: The smoothing distribution of the recipe, which may differ from the one that the model was trained with.
        split: The images to measure, of which no others are read.
        indices: (N,) int64, the position of each image in the whole split of the recipe's data section. It identifies
            the image whatever the limit.
        labels: (N,) int64.
        chunk: Number of images in one pass.
        chosen_from: How many images there were to choose from; 0: as many as these.
        surrogate: The stand-in whose slopes attacks follow; None: they follow the model's own.
    """

    machine: Machine
    classifier: Classifier
    noise: Noise
    split: Split
    indices: Tensor
    labels: Tensor
    chunk: int
    chosen_from: int = 0
    surrogate: Surrogate | None = None

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        checkpoint: Checkpoint,
        *,
        split: str,
        limit: int = 0,
        skip: int = 1,
        run: Run | None = None,
    ) -> Subject:
        """Load a model and images that fit it.

        Args:
            recipe: The sections data, noise and system are used.
            checkpoint: A fine-tuned checkpoint.
            split: Name of the split, such as ``"test"``.
            limit: Largest number of images, the same ones in every run; 0 means all.
            skip: Only every ``skip``-th image, before the limit.
            run: The run that measures, which keeps its precision when it is resumed; None for none.

        Raises:
            CheckpointError: the checkpoint holds no classifier.
            UsageError: there is no such split, its classes or image size differ from the model's, or the model was
                trained on the labels of a clustering.
            DataError: the split has no labels, or a label that the model has no class for.
        """
        machine = machine_of(recipe) if run is None else machine_of_run(recipe, run)
        return cls.of(recipe, load_classifier(checkpoint, machine), machine, split=split, limit=limit, skip=skip)

    @classmethod
    def of(
        cls, recipe: Recipe, classifier: Classifier, machine: Machine, *, split: str, limit: int = 0, skip: int = 1
    ) -> Subject:
        """Do what ``open`` does with a model that is already loaded. All ranks must load splits in the same order."""
        dataset = build_dataset(recipe)
        if classifier.tells_clusters:
            path = classifier.checkpoint.path
            head = shell_line("rushkit", "finetune", "--from", path)
            raise UsageError(
                f"{path} tells clusters apart, not the classes of {dataset.name}: it was trained on pseudo-labels",
                f"train a head for the classes on its encoder: {head}",
            )
        images = load_split(recipe, dataset, split, limit=limit, skip=skip)
        labels = labels_of(images, len(classifier.classes))
        check_classes(dataset.name, dataset.classes, classifier.classes)
        check_images(images, (classifier.channels, classifier.image_size))
        chunk = classifier.chunk(recipe.system.chunk)
        indices = torch.arange(len(images)) if images.places is None else images.places
        return cls(machine, classifier, build_noise(recipe), images, indices, labels, chunk, images.of)

    def __len__(self) -> int:
        return len(self.split)

    def in_order(self) -> Subject:
        """Return the subject with its images in the order of ``indices``."""
        order = self.indices.argsort()
        return self if torch.equal(order, torch.arange(len(order))) else self.take(order)

    @property
    def whole(self) -> int:
        """The number of images that the recipe's section data leaves, of which these are some or all."""
        return self.chosen_from or len(self)

    @property
    def is_whole(self) -> bool:
        """Whether these are all images in their order, so that ``indices`` says nothing new."""
        return torch.equal(self.indices, torch.arange(self.whole))

    def take(self, places: Tensor) -> Subject:
        """Return the subject with only the images at int64 positions (M,), in that order."""
        split = self.split.take(places)
        return replace(self, split=split, indices=self.indices[places], labels=self.labels[places])

    @property
    def model(self) -> nn.Module:
        """The network in the machine's precision: (N, C, H, W) -> (N, K) logits."""
        return in_precision(self.classifier.network, self.machine)

    def smoothed(self, samples: int) -> SmoothedClassifier:
        """Return the model under its noise, voting with ``samples`` draws."""
        own = self.classifier.random
        return SmoothedClassifier(self.model, self.noise, samples, self.chunk or None, seed=0, own_draws=own)

    @property
    def network_attacked(self) -> nn.Module:
        """The network whose slopes attacks follow: (N, C, H, W) -> (N, K) logits, the same values as the model's."""
        return self.classifier.network if self.surrogate is None else self.surrogate.network

    def attacked(self, samples: int) -> SmoothedClassifier:
        """Return the model under its noise for attacks: votes are float32, gradients in the search precision."""
        network = self.network_attacked
        search = in_precision(network, self.machine) if self.machine.search_precision == "bf16" else None
        own = self.classifier.random
        g = SmoothedClassifier(network, self.noise, samples, self.chunk or None, 0, search, own)
        g.classes = self.classifier.classes
        return g

    def random_words(self) -> str:
        """Return a sentence on a network that is random by itself, which votes and attacks take for a fixed one.

        It is "" for any other network, and where the network fails: whatever uses it next reports that.
        """
        if self.classifier.random:
            return ""
        x, _ = self.batch(slice(0, ROWS))
        g = self.smoothed(1)
        try:
            twice = g.own_randomness(x)
        except Exception:  # noqa: BLE001 - a plugin's network may raise anything
            return ""
        if not twice.random:
            return ""
        return (
            f"the network is random by itself: a second pass changes its logits by {percent(twice.change)} % of the "
            "largest. It is taken for a fixed one here, and where there is no noise one draw stands for all; rushkit "
            "audit attacks it through many draws (RK123)"
        )

    def batch(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Return images (n, C, H, W) as float32 in [0, 1] and their labels (n,), both on the device."""
        device = self.machine.device
        return to_float(self.split.images[rows].to(device)), self.labels[rows].to(device)

    def fingerprint(self) -> str:
        """Return the hash that identifies these images and labels; see ``fingerprint_of``."""
        return fingerprint_of(self.split)


def fingerprint_of(split: Split) -> str:
    """Return a hash of a split's images and, if it has any, its labels.

    A resumed run compares it with the hash of the earlier session.
    """
    digest = hashlib.blake2b(split.digests().numpy().data, digest_size=16)
    if split.labels is not None:
        digest.update(split.labels.contiguous().numpy().data)
    return digest.hexdigest()


def labels_of(split: Split, classes: int) -> Tensor:
    """Return the labels of a split. Raises DataError if there are none, or one that the model has no class for."""
    if split.labels is None:
        raise DataError(f"{split.name} has no labels", "choose a labelled split: --split test")
    if len(split.labels) and int(split.labels.max()) >= classes:
        raise DataError(
            f"{split.name} has label {int(split.labels.max())}, and the model has {classes} classes",
            "evaluate on the data that the model was fine-tuned for",
        )
    return split.labels


def check_images(split: Split, wanted_shape: tuple[int, ImageSize]) -> None:
    """Raise UsageError unless images have the channels and the size that a model takes: balls depend on them."""
    channels, image_size = wanted_shape
    shape, wanted = tuple(split.images.shape[1:]), (channels, *sides(image_size))
    if shape != wanted:
        raise UsageError(
            f"the images of {split.name} are {_by(shape)}, and the model takes {_by(wanted)}",
            size_line(image_size)
            if shape[0] == channels
            else "choose data of as many channels, or train a model on these",
        )


def check_classes(data: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raise UsageError unless a data set has the model's classes in the same order.

    Args:
        data: Name of the data set, for the message.
        theirs: Classes of the data set.
        ours: Classes of the model.
    """
    for index, (there, here) in enumerate(zip_longest(theirs, ours)):
        if there != here:
            raise UsageError(
                f"class {index} of {data} is {_named(there)}, and of the model {_named(here)}",
                f"fine-tune on {data}, or evaluate on the data that the model was fine-tuned for",
            )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _named(name: str | None) -> str:
    return "missing" if name is None else repr(name)


def smoothed(
    network: nn.Module, noise: Noise, samples: int, chunk: int = 0, machine: Machine | None = None
) -> SmoothedClassifier:
    """Return a network smoothed by a noise; ``chunk`` 0 means a size that suits the device."""
    model = network if machine is None else in_precision(network, machine)
    return SmoothedClassifier(model, noise, samples, chunk or None, seed=0)


def in_precision(network: nn.Module, machine: Machine) -> nn.Module:
    """Return a network whose passes run in the machine's precision; in float32 it is the network itself."""
    return network if machine.precision == "float32" else LowPrecision(network, machine)


class LowPrecision(nn.Module):
    """A network whose passes run under the machine's autocast."""

    def __init__(self, network: nn.Module, machine: Machine) -> None:
        super().__init__()
        self.network = network
        self._machine = machine

    @property
    def answer_kind(self) -> Answer:
        """What the network answers with."""
        return answer_kind(self.network)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network under autocast."""
        with self._machine.autocast():
            outputs: Tensor = self.network(x)
        return outputs
