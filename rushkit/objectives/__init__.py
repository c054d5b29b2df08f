"""Training objectives: each makes the head on the encoder, and yields the losses of a batch.

``rushkit.objectives.create("rush", temperature=0.5)`` makes one; docs/objectives.md shows how to write your own.
Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from rushkit.registries import objectives as _registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import Tensor, nn

    from rushkit.models.network import Network
    from rushkit.noises import Noise

    Views = Callable[[Tensor, torch.Generator], Tensor]

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Batch(Protocol):
    """This rank's rows of a training batch. It makes every draw, as a single process would make it."""

    @property
    def images(self) -> Tensor:
        """The images (n, C, H, W), uint8."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """Their labels, int64: (n,), or (n, J) where there are J columns of them; None in pre-training without a table.

        Pre-training never has the data set's own labels, only those of a clustering (``pretrain.labels``).
        """
        ...

    @property
    def classes(self) -> int:
        """The number of classes K; of the first column, where there are several columns of labels."""
        ...

    @property
    def columns(self) -> tuple[int, ...]:
        """The number of classes of each column of labels."""
        ...

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1)."""
        ...

    @property
    def epoch(self) -> float:
        """The epochs that are done, with fraction."""
        ...

    @property
    def distribution(self) -> Noise:
        """The recipe's smoothing distribution."""
        ...

    def view(self, views: Views | None = None, strength: float = 1.0) -> Tensor:
        """Return a fresh view of each image: (n, C, H, W) float32 with pixels in [0, 1].

        Args:
            views: Maps uint8 images and a generator to float32 views; None: the stage's own.
            strength: How strong the random views of pre-training are, in [0, 1]: 1, as the recipe says; 0, only
                flipped.

        Raises:
            UsageError: a strength outside [0, 1], or below 1 of other views, which have none.
        """
        ...

    def noise(self, x: Tensor) -> Tensor:
        """Draw δ of the recipe's smoothing distribution for images x (k * n, C, H, W); add it without a clamp."""
        ...

    def uniform(self, x: Tensor) -> Tensor:
        """Draw U(−1, 1) like x, with k * n rows of any shape."""
        ...

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, 1) like x, with k * n rows of any shape."""
        ...

    def numbers(self, count: int) -> Tensor:
        """Draw (count,) float32 numbers of U(0, 1), the same on every rank."""
        ...

    def shuffled(self) -> Batch:
        """Return the images of the same batch in another order, over all ranks, to be mixed with these."""
        ...

    def targets(self) -> Tensor:
        """Return the labels as probabilities, (n, classes) float32: one-hot, or smoothed where the recipe says so.

        Raises:
            UsageError: there are several columns of labels.
        """
        ...

    def rows(self, whole: Tensor) -> Tensor:
        """Return this rank's rows (n, ...) of a tensor with a row for each image of the whole batch, or more."""
        ...

    def whole(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all ranks joined, (N, ...), without a gradient."""
        ...

    def note(self, **figures: Tensor) -> None:
        """Note scalars for the step's line in metrics.jsonl: this rank's parts of means, as ``mean`` returns them."""
        ...

    def mean(self, values: Tensor) -> Tensor:
        """Return this rank's part of the mean of per-image values (k * n,) over the whole batch, a scalar.

        The mean of the parts over the ranks is the mean over the batch, even if some rank has no rows.
        """
        ...


class Objective(Protocol):
    """The interface of a training objective; a plugin needs no base class.

    Attributes:
        stage: The stage it is for; fine-tuning has labels, pre-training none but a clustering's.
    """

    stage: Literal["pretrain", "finetune"]

    def head(self, num_features: int, classes: Sequence[int]) -> nn.Module:
        """Return the head: features (N, num_features) to projections, or to logits (N, K).

        Args:
            num_features: Length of the encoder's features.
            classes: The number of classes of each column of labels; several columns only in pre-training with a table
                of clusters. Without one it has the data set's number of classes.
        """
        ...

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the losses of a batch, float32 scalars. Each yield is one optimizer step; what follows comes after it.

        Nothing of torch's may be open at a yield: no ``no_grad``, ``autocast`` or ``inference_mode``.

        Args:
            network: The network that trains; call it as often as you like, in any mode.
            memory: What ``attach`` returned; an empty module for an objective without it.
            batch: The images, and every draw.
        """
        ...


@runtime_checkable
class Attaches(Protocol):
    """An objective with a memory of its own, such as a target network, a queue or a perturbation to carry on."""

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the memory. Its parameters train with the network's, its buffers are remembered.

        It is checkpointed and resumed, and must be equal on all ranks. Modules of the network may be part of it.

        Args:
            network: The network that will train.
            shape: (N, C, H, W) of a whole batch, over all ranks.
        """
        ...


@runtime_checkable
class HasTeacher(Protocol):
    """An objective of pre-training whose network learns from another encoder: the teacher, which ``--from`` names."""

    def attach_teacher(self, network: Network, teacher: nn.Module, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the memory, as ``attach`` does for an objective without a teacher, with the teacher in it.

        The teacher's tensors are not saved with the memory's: a stopped run keeps its checkpoint.

        Args:
            network: The network that will train; it may start from the teacher's weights.
            teacher: An encoder in eval mode, on the network's device, whose parameters get no gradient: images
                (N, C, H, W) of the network's size to features (N, num_features).
            shape: (N, C, H, W) of a whole batch, over all ranks.

        Raises:
            UsageError: the teacher does not suit the network.
        """
        ...


@runtime_checkable
class ChecksNoise(Protocol):
    """An objective that does not go with every smoothing distribution."""

    def check_noise(self, noise: Noise) -> None:
        """Raise UsageError if the objective cannot train under this distribution. Called before training starts."""
        ...


@runtime_checkable
class LearnsLabels(Protocol):
    """An objective of pre-training that says whether it learns labels.

    ``pretrain.labels`` must name a clustering for those that do, and is refused for others, before training starts.
    """

    @property
    def learns_labels(self) -> bool:
        """Whether its loss takes ``batch.labels``: (n,) for one column, (n, J) for several."""
        ...


@runtime_checkable
class Contrasts(Protocol):
    """A contrastive objective that says what its loss is where all projections are the same, which is a collapse."""

    def chance_loss(self, batch_size: int) -> float:
        """Return that loss, for a batch of so many images of all ranks together."""
        ...


@runtime_checkable
class KeepsPasses(Protocol):
    """An objective that says how much of its batch it keeps for a backward pass; others keep two views or versions."""

    @property
    def kept_passes(self) -> int:
        """The most passes of the whole batch whose activations it keeps at once; m draws in one pass are m passes."""
        ...
