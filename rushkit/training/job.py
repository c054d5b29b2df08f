"""The job that a stage passes to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from rushkit.data.memory import Split
from rushkit.errors import UsageError
from rushkit.files import JSON
from rushkit.image_size import ImageSize, size_to_json
from rushkit.models.network import Network
from rushkit.noises import Noise
from rushkit.objectives import ChecksNoise, KeepsPasses, Objective
from rushkit.recipe import toml
from rushkit.recipe.registered import REGISTERED, registered_files
from rushkit.recipe.schema import Recipe, Training
from rushkit.results.training import PseudoLabels, Started
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup.components import describe_split
from rushkit.setup.model import PSEUDO_LABELS
from rushkit.training.average import LIVE, Average
from rushkit.training.labels import Table
from rushkit.training.mixing import Extra
from rushkit.training.optimizer import norm_parameters

# The prefix of the memory's tensors in a checkpoint.
MEMORY = "training.memory."
# Passes of its batch that an objective keeps, unless it says otherwise: two views, or clean and attacked images.
_KEPT_PASSES = 2
# Maps the number of finished epochs to named values for the metrics, such as ("knn_accuracy", 0.31).
Evaluator = Callable[[int], Iterable[tuple[str, float]]]


def no_evaluation(epochs: int) -> Iterable[tuple[str, float]]:
    """Measure nothing."""
    return ()


@dataclass(frozen=True)
class TrainingJob:
    """Everything that the training loop needs.

    Attributes:
        recipe: The whole recipe, which is stored in checkpoints.
        settings: The recipe's section of the stage.
        network: The network on its device; the parameters that require gradients are trained.
        objective: Yields the losses of each batch.
        memory: What the objective remembers, on the network's device.
        split: Training images.
        fingerprint: The hash of the training images; see ``setup.subject.fingerprint_of``.
        image_size: Size of the images that the network takes.
        classes: Names of the classes.
        views: Maps uint8 images to float views.
        noise: The smoothing distribution.
        drop_last: Whether an incomplete last batch of an epoch is dropped; a batch of one image always is.
        set_modes: Puts the network into the stage's training mode; called before each epoch.
        evaluate: Measures the network after each epoch.
        best_by: The name of the value whose maximum marks the best checkpoint; None for no best checkpoint.
        patience: Epochs without a better value of it after which the training ends early; 0: it does not.
        average: Averages the weights, and the averages are what is measured and saved; None for the live ones.
        extra: Extra training images that make up a part of every batch; None for none.
        teacher: The encoder that the network learns from, which the memory holds; None for none.
        labels: The labels of the batches, (N,) or (N, J) int64; None for none, whatever labels the split has.
        columns: The number of classes of each column of labels.
        extends: The last checkpoint of another training, which goes on in this one; None for none.
        started: What it started from, in words; None for random weights.
        pseudo: Which clustering the labels come from; None for the data set's own.

    Raises:
        UsageError: there is a single image, the batch is larger than the data set, the objective does not go with the
            noise, nothing trains, or nothing that is averaged does.
    """

    recipe: Recipe
    settings: Training
    network: Network
    objective: Objective
    memory: nn.Module
    split: Split
    fingerprint: str
    image_size: ImageSize
    classes: tuple[str, ...]
    views: Callable[[Tensor, torch.Generator], Tensor]
    noise: Noise
    drop_last: bool
    set_modes: Callable[[], None]
    evaluate: Evaluator = no_evaluation
    best_by: str | None = None
    patience: int = 0
    average: Average | None = None
    extra: Extra | None = None
    teacher: nn.Module | None = None
    labels: Tensor | None = None
    columns: tuple[int, ...] = ()
    pseudo: PseudoLabels | None = None
    extends: Checkpoint | None = None
    started: Started | None = None

    def __post_init__(self) -> None:
        if isinstance(self.objective, ChecksNoise):
            self.objective.check_noise(self.noise)
        if not self.trained:
            raise UsageError(
                f"nothing trains: the encoder is frozen, and the head of {self.settings.objective!r} has no parameters",
                "--set finetune.freeze=none",
            )
        if self.average is not None and not self.average.live_weights():
            raise UsageError(
                "finetune.average averages the weights of the network, and none of them trains",
                "--set finetune.average.decay=0 does without, finetune.freeze=none trains them",
            )
        if len(self.split) < 2:
            raise UsageError(
                f"{self.split.name} has a single image: batch norm and contrastive losses compare it with others",
                "train on at least 2 images",
            )
        if self.settings.batch_size > len(self.split):
            raise UsageError(
                f"a batch of {self.settings.batch_size} is larger than {self.split.name} with {len(self.split)} images",
                f"for example --set {self.stage}.batch_size={max(2, len(self.split) // 4)}",
            )

    def with_evaluation(self, evaluate: Evaluator, best_by: str | None = None, patience: int = 0) -> TrainingJob:
        """Return the same job, measured after each epoch; ``best_by`` names the value that chooses the checkpoint."""
        return replace(self, evaluate=evaluate, best_by=best_by, patience=patience)

    def with_table(self, table: Table | None) -> TrainingJob:
        """Return the same job with the labels of a clustering; None changes nothing."""
        if table is None:
            return self
        return replace(self, labels=table.labels, columns=table.columns, pseudo=table.origin)

    def record_labels(self, run: Run) -> None:
        """Say which clustering the labels come from, and keep it in run.json, so that a resumed run has the same."""
        if self.pseudo is None:
            return
        run.speaker.say(self.labels_words)
        run.update(labels=self.pseudo)

    @property
    def labels_words(self) -> str:
        """Where the labels come from, if it is a clustering."""
        assert self.pseudo is not None
        kinds = ", ".join(map(str, self.columns))
        outside = f"; {self.pseudo.outside}" if self.pseudo.outside else ""
        return f"labels: {kinds} clusters of {self.pseudo.run}, not classes{outside}"

    @property
    def channels(self) -> int:
        """C, the number of channels of the images."""
        return self.split.images.shape[1]

    @property
    def stage(self) -> str:
        """``"pretrain"`` or ``"finetune"``."""
        return self.objective.stage

    @property
    def images(self) -> str:
        """What the training images are, for messages."""
        images = describe_split(self.split)
        return images if self.extra is None else f"{images}, {self.extra.describe(self.settings.batch_size)}"

    @property
    def fed(self) -> Split:
        """The images of the batches, without labels where there are none to train with."""
        return self.split if self.labels is not None else replace(self.split, labels=None)

    @property
    def origins(self) -> str:
        """The names of the splits that the training images come from."""
        return self.split.name if self.extra is None else f"{self.split.name} and {self.extra.split.name}"

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        n, batch = len(self.split), self.settings.batch_size
        if self.extra is not None and not self.drop_last:
            # Extra images fill the last batch, too.
            return -(-n // batch)
        # BatchNorm can make nothing of a single image.
        return n // batch if self.drop_last else n // batch + (n % batch > 1)

    @property
    def steps(self) -> int:
        """Number of batches in all epochs."""
        return self.steps_per_epoch * self.settings.epochs

    @property
    def kept_passes(self) -> int:
        """Passes of a batch whose activations are kept at once."""
        return self.objective.kept_passes if isinstance(self.objective, KeepsPasses) else _KEPT_PASSES

    @property
    def interval(self) -> int:
        """Number of steps between two checkpoints."""
        return self.settings.steps_between_checkpoints(self.steps_per_epoch)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters of the network, then those of the memory that the network does not have."""
        every = {id(parameter): parameter for part in (self.network, self.memory) for parameter in part.parameters()}
        return list(every.values())

    @cached_property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that train from the start; others stay, or follow as the objective moves them."""
        return [parameter for parameter in self.parameters if parameter.requires_grad]

    @property
    def norms(self) -> list[nn.Parameter]:
        """The parameters of the normalisation layers of network and memory."""
        return norm_parameters(self.network, self.memory)

    @property
    def product(self) -> Network:
        """The network that the training is for, which is measured and saved: the averaged one, or that which trains."""
        return self.network if self.average is None else self.average.network

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save: the product's, ``training.live.*`` where it is an average, and ``training.memory.*``."""
        live = {} if self.average is None else self.average.live_weights()
        return {
            **self.product.tensors(),
            **{f"{LIVE}{name}": weight for name, weight in live.items()},
            **{f"{MEMORY}{name}": tensor for name, tensor in self.own_memory().items()},
        }

    def own_memory(self) -> dict[str, Tensor]:
        """The tensors of the memory by name, each once, but for those that are the network's or the teacher's."""
        others = [self.network] if self.teacher is None else [self.network, self.teacher]
        known = {id(tensor) for module in others for tensor in (*module.parameters(), *module.buffers())}
        held = {**dict(self.memory.named_parameters()), **dict(self.memory.named_buffers())}
        own: dict[str, Tensor] = {}
        for name, tensor in self.memory.state_dict(keep_vars=True).items():
            if (key := id(held.get(name, tensor))) not in known:
                known.add(key)
                own[name] = tensor
        return own

    def meta(self) -> dict[str, JSON]:
        """Return the metadata about the network that every checkpoint stores."""
        return {
            "stage": self.stage,
            "recipe": toml.dumps(self.recipe.resolved()),
            "image_size": size_to_json(self.image_size),
            "channels": self.channels,
            "classes": list(self.classes),
            **({REGISTERED: files} if (files := registered_files(self.recipe)) else {}),
            "content": self.fingerprint,
            **({} if self.pseudo is None else {PSEUDO_LABELS: self.pseudo.to_table()}),
        }
