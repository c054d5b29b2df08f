"""A training batch as objectives see it: a rank's rows, and draws that are those of a single process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rushkit.distributed import ranks
from rushkit.distributed.share import Share
from rushkit.errors import UsageError
from rushkit.noises import Noise

Views = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class Draws:
    """Where the draws of a batch come from.

    Attributes:
        views: Maps uint8 images and a generator to float32 views.
        smoothing: The smoothing distribution.
        noise_drawn: Whether noise that is not always zero was drawn, ever.
    """

    views: Views
    smoothing: Noise
    noise_drawn: bool = False


@dataclass
class StepBatch:
    """This rank's rows of the batch of one step; see ``objectives.Batch``.

    All draws come from one generator, in the order in which the objective asks for them.

    Attributes:
        images: (n, C, H, W) uint8.
        labels: (n,) or (n, J) int64, or None.
        progress: The share of the run that is done, in [0, 1).
        epoch: The epochs that are done, with fraction.
        share: The rows of the whole batch that they are.
        source: The generator of the step, of which every rank has its own in the same state.
        draws: The views and the noise.
        classes: The number of classes; of the first column of labels, where there are several.
        label_smoothing: (n,) share of each label that is spread over all classes; None for none.
        noted: What ``note`` was told.
        columns: The number of classes of each column of labels; none means the one column of ``classes``.
    """

    images: Tensor
    labels: Tensor | None
    progress: float
    epoch: float
    share: Share
    source: torch.Generator
    draws: Draws = field(repr=False)
    classes: int = 0
    label_smoothing: Tensor | None = None
    noted: dict[str, Tensor] = field(default_factory=dict, repr=False)
    columns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.columns = self.columns or (self.classes,)

    @property
    def distribution(self) -> Noise:
        """The smoothing distribution."""
        return self.draws.smoothing

    def view(self, views: Views | None = None, strength: float = 1.0) -> Tensor:
        """Return a fresh view of each image, (n, C, H, W) float32: the stage's own, or one by other views."""
        views = self.draws.views if views is None else views
        if strength != 1:
            # SimCLR's have it; crop and flip, and a plugin's function, need not.
            weakened = getattr(views, "weakened", None)
            if weakened is None:
                raise UsageError("these views have no strength", "ask for them without one")
            views = weakened(strength)
        return self.share.views(views)(self.images, self.source)

    def noise(self, x: Tensor) -> Tensor:
        """Draw δ for images x (k * n, C, H, W), and note that noise was drawn."""
        self.draws.noise_drawn |= self.draws.smoothing.std > 0.0
        return self.share.noise(self.draws.smoothing).sample(x, self.source)

    def uniform(self, x: Tensor) -> Tensor:
        """Draw U(−1, 1) like x (k * n, ...)."""
        return self.share.drawn(x, lambda shape: torch.rand(shape, **self._like(x)).mul_(2).sub_(1))

    def normal(self, x: Tensor) -> Tensor:
        """Draw N(0, 1) like x (k * n, ...)."""
        return self.share.drawn(x, lambda shape: torch.randn(shape, **self._like(x)))

    def numbers(self, count: int) -> Tensor:
        """Draw (count,) float32 numbers of U(0, 1), the same on every rank."""
        return torch.rand(count, generator=self.source, device=self.images.device)

    def shuffled(self) -> StepBatch:
        """Return the same step's images in another order, over all ranks."""
        order = torch.randperm(self.share.total, generator=self.source, device=self.images.device)

        def moved(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else self.rows(self.whole(rows)[order])

        images = self.rows(self.whole(self.images)[order])
        return replace(self, images=images, labels=moved(self.labels), label_smoothing=moved(self.label_smoothing))

    def targets(self) -> Tensor:
        """Return the labels as probabilities, (n, classes) float32: one-hot, or smoothed where the recipe says so.

        Raises:
            UsageError: there are several columns of labels.
        """
        assert self.labels is not None
        if self.labels.dim() > 1:
            raise UsageError(
                f"an objective that takes one column of labels got {len(self.columns)}",
                "choose one, for example pretrain.labels_clusters = [10]",
            )
        exact = F.one_hot(self.labels, self.classes).float()
        if self.label_smoothing is None:
            return exact
        return exact.lerp(torch.full_like(exact, 1 / self.classes), self.label_smoothing[:, None])

    def rows(self, whole: Tensor) -> Tensor:
        """Return this rank's rows (n, ...) of a tensor with a row for each image of the batch, or more."""
        return whole[self.share.rows]

    def whole(self, rows: Tensor) -> Tensor:
        """Return the rows (n, ...) of all ranks joined, (N, ...), without a gradient."""
        return ranks.joined_rows(rows, -(-self.share.total // ranks.world()))

    def note(self, **figures: Tensor) -> None:
        """Note this rank's parts of means, scalars, for the step's line in metrics.jsonl."""
        for name, figure in figures.items():
            self.noted[name] = figure.detach()

    def mean(self, values: Tensor) -> Tensor:
        """Return this rank's part of the mean of values (k * n,) over the whole batch."""
        if ranks.world() == 1:
            return values.mean()
        copies = len(values) // self.share.count if self.share.count else 1
        return values.sum() * (ranks.world() / (copies * self.share.total))

    def _like(self, x: Tensor) -> dict[str, Any]:
        return {"generator": self.source, "device": x.device, "dtype": x.dtype}
