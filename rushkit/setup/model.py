"""Load models from checkpoints, for ``rushkit.load`` and for the stages after training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rushkit.errors import CheckpointError, NoCertificate, UsageError, shell_line
from rushkit.image_size import ImageSize, sides, size_from_json, size_words
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import Network, load_weights
from rushkit.models.passes import pass_size
from rushkit.recipe.load import default_runs_dir, read_recipe
from rushkit.recipe.registered import REGISTERED, open_registered
from rushkit.recipe.schema import MAX_IMAGE_SIZE, Recipe
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.source import resolve_from
from rushkit.setup import components, networks
from rushkit.setup.given import GivenModel, on_device
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine, generator

# The key of a checkpoint's metadata that tells whether training added noise to its inputs.
NOISE_DRAWN = "noise_drawn"
# The key that tells which clustering the labels of a training came from, if from any.
PSEUDO_LABELS = "pseudo_labels"


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned network, or somebody's classifier, with its recipe, classes and checkpoint.

    Attributes:
        network: (N, C, H, W) images in [0, 1] -> (N, K) logits, with frozen parameters; BatchNorm may be folded into
            its convolutions. Somebody's is as it was given.
        recipe: The recipe that it was trained with; for somebody's classifier, the one that it is measured by.
        classes: Names of the classes.
        image_size: Size of its input images, in pixels.
        checkpoint: The checkpoint that it was loaded from.
        pass_size: Number of images in one pass that fit in the machine's memory.
        channels: C, the number of channels of its images.
        random: Whether two passes over an image differ, so that every draw is a pass of its own.
    """

    network: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]
    image_size: ImageSize
    checkpoint: Checkpoint
    pass_size: int
    channels: int
    random: bool = False

    @property
    def features(self) -> nn.Module | None:
        """The encoder, (N, C, H, W) -> (N, F); None for a classifier whose parts are not known."""
        return self.network.encoder if isinstance(self.network, Network) else None

    @property
    def given(self) -> bool:
        """Whether it is code of the user's, of whose training nothing is known; a run behind fronts is not."""
        return isinstance(self.checkpoint, GivenModel) and self.checkpoint.behind is None

    def chunk(self, asked: int) -> int:
        """Return the number of images in one pass: ``asked``, or if that is 0, as many as fit in memory."""
        return asked or self.pass_size

    @property
    def imported(self) -> bool:
        """Whether it was trained elsewhere and imported by ``rushkit import``."""
        return "imported" in self.checkpoint.meta

    @property
    def trained_under_noise(self) -> bool:
        """Whether fine-tuning added noise to its inputs, according to the checkpoint's metadata."""
        return self.checkpoint.meta.get(NOISE_DRAWN) is True

    @property
    def tells_clusters(self) -> bool:
        """Whether it was fine-tuned on the labels of a clustering, and so tells no classes apart."""
        return PSEUDO_LABELS in self.checkpoint.meta

    def __repr__(self) -> str:
        kind = "" if self.given else f"{self.recipe.backbone.name}, "
        return (
            f"Classifier({str(self.checkpoint.path)!r}, {kind}{len(self.classes)} classes, "
            f"images of {size_words(self.image_size)})"
        )


def recipe_of(checkpoint: Checkpoint) -> Recipe:
    """Return the recipe in a checkpoint's metadata. Raises CheckpointError if there is none."""
    text = checkpoint.meta.get("recipe")
    if not isinstance(text, str):
        raise CheckpointError(f"{checkpoint.path} does not hold a recipe", "it was not written by a training stage")
    open_registered(checkpoint.meta.get(REGISTERED))
    return read_recipe(text, str(checkpoint.path))


def image_size_of(checkpoint: Checkpoint) -> ImageSize:
    """Return the size of the images that a checkpoint's network takes. Raises CheckpointError if it is missing."""
    size = size_from_json(checkpoint.meta.get("image_size"), 1, MAX_IMAGE_SIZE)
    if size is None:
        raise CheckpointError(
            f"{checkpoint.path} does not say an image size from 1 to {MAX_IMAGE_SIZE}", "no training stage wrote it"
        )
    return size


def classes_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of a checkpoint's classes. Raises CheckpointError if they are missing."""
    classes = checkpoint.meta.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise CheckpointError(f"{checkpoint.path} does not name its classes", "no training stage wrote it")
    return tuple(classes)


def is_random(checkpoint: Checkpoint) -> bool:
    """Return whether a checkpoint's model is random by itself, as far as that is known before it is loaded."""
    return isinstance(checkpoint, GivenModel) and checkpoint.random


def check_one_function(checkpoint: Checkpoint) -> None:
    """Raise NoCertificate for a model of the user's that gives one image several answers: theorems are about functions.

    Draws of its own may be shared by the copies in a pass, or made from them, and then its votes are not independent.
    """
    if not isinstance(checkpoint, GivenModel):
        return
    name = checkpoint.facts.code
    if checkpoint.random:
        raise NoCertificate(
            f"{name} is random by itself, and a certificate is about one function whose votes are independent",
            "`rushkit attack` and `rushkit audit` measure it as random; to certify the noise alone, switch its own "
            "randomness off",
        )
    if checkpoint.facts.minds_batch:
        raise NoCertificate(
            f"the answer of {name} for an image depends on the images beside it, and a certificate is about one image",
            "switch its BatchNorm to eval mode, or whatever else looks at the whole batch",
        )


def channels_of(checkpoint: Checkpoint) -> int:
    """Return the number of channels of the images that a checkpoint's network takes; 3 where it does not say."""
    # Those that come with rushkit do not say it.
    channels = checkpoint.meta.get("channels", 3)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise CheckpointError(f"{checkpoint.path} does not say a number of channels", "no training stage wrote it")
    return channels


def shape_of(checkpoint: Checkpoint) -> tuple[int, ImageSize]:
    """Return the channels and the size of the images that a checkpoint's network takes; see ``channels_of``."""
    return channels_of(checkpoint), image_size_of(checkpoint)


def values_of(checkpoint: Checkpoint) -> int:
    """Return the dimension d = C·H·W of the images that a checkpoint's network takes, which certificates depend on."""
    channels, (height, width) = channels_of(checkpoint), sides(image_size_of(checkpoint))
    return channels * height * width


def check_channels(checkpoint: Checkpoint, channels: int, data: str) -> None:
    """Raise UsageError unless a checkpoint's network takes images of so many channels, those of the named data."""
    if (theirs := channels_of(checkpoint)) != channels:
        raise UsageError(
            f"{checkpoint.path} takes images of {theirs} channel{'s' * (theirs != 1)}, and {data} has {channels}",
            "choose data of as many channels, or train a network on these",
        )


def load_classifier(checkpoint: Checkpoint, machine: Machine, fold: bool = True) -> Classifier:
    """Load the fine-tuned network of a checkpoint, ready for inference.

    Args:
        checkpoint: A checkpoint of fine-tuning.
        machine: Device and precision.
        fold: Whether to fold BatchNorm into the convolutions, which makes votes a tenth faster and attacks a fifth. In
            bf16 the folded filters are rounded as the plain ones are, each number by a share of itself.

    Raises:
        CheckpointError: it holds no classifier, or does not fit its own recipe.
    """
    if isinstance(checkpoint, GivenModel):
        return _given_classifier(checkpoint, machine)
    if checkpoint.meta.get("stage") != "finetune":
        raise CheckpointError(
            f"{checkpoint.path} is of stage {checkpoint.meta.get('stage')!r}, and has no classifier",
            f"fine-tune it first: {shell_line('rushkit', 'finetune', '--from', checkpoint.path)}",
        )
    recipe = recipe_of(checkpoint)
    classes, (channels, size) = classes_of(checkpoint), shape_of(checkpoint)
    components.check_several_classes(str(checkpoint.path), len(classes))
    objective = components.build_objective(recipe, recipe.finetune)
    network = networks.build_network(recipe, objective, (channels, size), len(classes), checkpoint.tensors)
    networks.load_network(network, checkpoint.tensors)
    network = networks.channels_last(network.to(machine.device)).eval().requires_grad_(False)
    if fold:
        example = torch.rand(2, channels, *sides(size), generator=generator(0, "fold")).to(machine.device)
        network.encoder = fold_batch_norm(network.encoder, example)
    images = pass_size(network, (channels, *sides(size)), machine)
    return Classifier(network, recipe, classes, size, checkpoint, images, channels)


def _given_classifier(given: GivenModel, machine: Machine) -> Classifier:
    """Return somebody's classifier on the machine's device, as it is: nothing of it is folded or frozen.

    What lies on another device is copied there, and the user's module stays where it is.

    Raises:
        UsageError: it cannot be copied.
    """
    classes, size, channels = classes_of(given), image_size_of(given), channels_of(given)
    components.check_several_classes(str(given.path), len(classes))
    network = on_device(given.network, machine.device, str(given.path))
    images = pass_size(network, (channels, *sides(size)), machine)
    return Classifier(network, recipe_of(given), classes, size, given, images, channels, given.random)


def load_encoder(checkpoint: Checkpoint) -> nn.Module:
    """Load the encoder of a checkpoint of either training stage: in eval mode on the CPU, without gradients.

    Raises:
        CheckpointError: it does not fit its own recipe.
    """
    recipe = recipe_of(checkpoint)
    encoder = networks.build_encoder(recipe, shape_of(checkpoint), checkpoint.tensors)
    report = load_weights(encoder, checkpoint.tensors, "encoder.")
    if not report.complete:
        lacking = ", ".join([*report.missing, *report.unexpected][:3])
        raise CheckpointError(f"{checkpoint.path} has another encoder than its recipe: {lacking}", "it was altered")
    return encoder.eval().requires_grad_(False)


def open_checkpoint(source: str | Path | None, verb: str = "pretrain", runs_dir: str | None = None) -> Checkpoint:
    """Load the checkpoint that a stage after training starts from.

    Args:
        source: A run folder, a checkpoint file, the name of a recipe (its newest finished run), or None (the newest).
        verb: ``"pretrain"`` or ``"finetune"``, the stage whose runs are accepted.
        runs_dir: The folder of runs; None means ``$RUSHKIT_RUNS``, else ``runs``.

    Raises:
        UsageError: there is no such run.
        CheckpointError: it has no checkpoint that can be loaded.
    """
    return resolve_from(source, runs_dir or default_runs_dir(), verb).load()


def load(
    source: str | Path, device: str = "cpu", samples: int = 64, runs_dir: str | None = None, **options: Any
) -> SmoothedClassifier:
    """Load a fine-tuned model as a smoothed classifier, under the noise of its recipe.

    Args:
        source: A run folder, a checkpoint file, the name of a recipe (its newest finished run in ``runs_dir``), or a
            model that comes with rushkit, such as ``"shipped/digits"``.
        device: The device to load the model onto.
        samples: m, the number of draws for each image.
        runs_dir: The folder of runs; None means ``$RUSHKIT_RUNS``, else ``runs``.
        **options: ``chunk`` and ``seed`` of SmoothedClassifier.

    Raises:
        UsageError: there is no such run.
        CheckpointError: it has no classifier that can be loaded.
    """
    checkpoint = resolve_from(source, runs_dir or default_runs_dir(), "finetune").load()
    classifier = load_classifier(checkpoint, Machine(torch.device(device), "float32"), fold=False)
    g = SmoothedClassifier(classifier.network, components.build_noise(classifier.recipe), samples, **options)
    g.classes = classifier.classes
    g.image_shape = (classifier.channels, *sides(classifier.image_size))
    return g
