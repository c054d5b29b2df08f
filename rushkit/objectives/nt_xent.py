"""Contrastive pre-training: NT-Xent, and the objectives RUSH and SimCLR that minimise it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from rushkit.errors import UsageError
from rushkit.objectives.gather import Gather, gather_over_ranks
from rushkit.objectives.projector import Projected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


def unit_rows(z: Tensor) -> Tensor:
    """Return (N, D) rows scaled to length 1, whatever their scale; rows of zeros stay zero, with a finite gradient.

    They are float32, or float64 as they are.
    Each row is first divided by its largest entry, because squares of tiny entries underflow and those of huge ones
    overflow. A row whose entries are all below the smallest normal number of its dtype counts as zero.
    """
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    # No gradient is needed: scaling a row does not change the result.
    largest = z.detach().abs().amax(dim=1, keepdim=True)
    scaled = z / torch.where(largest >= torch.finfo(z.dtype).tiny, largest, 1)
    # The largest entry is now 1, so only a row of zeros is shorter than 1. A clamp would have zero gradient where the
    # length is exactly 1, as it is for a row with a single non-zero entry.
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / torch.where(length > 0.5, length, 1)


def check_temperature(temperature: float) -> None:
    """Raise UsageError unless a temperature, which divides cosine similarities, is above 0."""
    if not temperature > 0:
        raise UsageError(f"temperature must be above 0 (got {temperature!r})", "the default is 0.5")


def nt_xent(z1: Tensor, z2: Tensor, temperature: float, gather: Gather | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy over the 2N projections of a batch (SimCLR, eq. 1).

    The positive of a projection is the other view of its image; its negatives are the other 2N - 2. The loss is
    symmetric in the views. It is :func:`nt_xent_views` of two views.

    Args:
        z1: Projections (N, D) of the first views, of any scale: they are normalised here.
        z2: Projections (N, D) of the second views, in the same order.
        temperature: Divides the cosine similarities.
        gather: Gathers the rows of all ranks; None uses this rank's batch alone.

    Returns:
        The mean over the 2N projections, a scalar.
    """
    return nt_xent_views((z1, z2), temperature, gather=gather)


def nt_xent_views(
    views: Sequence[Tensor],
    temperature: float,
    positives: Literal["sum", "mean"] = "sum",
    gather: Gather | None = None,
) -> Tensor:
    """NT-Xent over the VN projections of V views of a batch: SimCLR's eq. 1 where V is 2.

    The positives of a projection are the V - 1 other views of its image. Each has a cross-entropy of its own, whose
    candidates are all projections but the anchor: the other positives are among them (Khosla et al. 2020, eq. 2). The
    loss is computed in float32 (float64 for float64 projections) even under autocast.

    Example::

        loss = nt_xent_views(network(torch.cat([x1, x2, x_adv])).chunk(3), temperature=0.5)

    Args:
        views: Projections (N, D) of each view, in the same order of images and of any scale: they are normalised here.
        temperature: Divides the cosine similarities.
        positives: Whether the cross-entropies of a projection's positives are summed (RoCL) or averaged (SupCon).
        gather: Gathers the rows of all ranks, whose projections then serve as negatives too; the mean of the ranks'
            losses equals the loss of the joined batch. None uses this rank's batch alone.

    Returns:
        The mean over the VN projections, a scalar.

    Raises:
        ValueError: fewer than two views.
    """
    if len(views) < 2:
        raise ValueError(f"a contrastive loss compares at least 2 views (got {len(views)})")
    n = len(views[0])
    with torch.autocast(views[0].device.type, enabled=False):
        # The temperature divides the rows, not all pairs of them: fewer passes over the matrix.
        z = unit_rows(torch.cat(list(views))) / math.sqrt(temperature)
        logits, first = (_Gram.apply(z), 0) if gather is None else _against(z, *gather(z))
        # A projection is not its own candidate. Filling the diagonal keeps shapes static and avoids a device sync; its
        # gradient is 0 by itself, and so autograd need not know.
        logits.detach().diagonal(first).fill_(float("-inf"))
        log_prob = F.log_softmax(logits, dim=1)
        rows = torch.arange(len(z), device=z.device)
        losses = torch.stack([F.nll_loss(log_prob, first + rows.roll(k * n)) for k in range(1, len(views))])
        return losses.sum() if positives == "sum" else losses.mean()


def _against(z: Tensor, candidates: Tensor, first: int) -> tuple[Tensor, int]:
    """Return the products (n, N) of rows with the candidates of all ranks, and the index of this rank's first row."""
    return z @ candidates.T, first


class _Gram(torch.autograd.Function):
    """The products (n, n) of all pairs of rows (n, D); its gradient takes one product of matrices, autograd's two."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return rows @ rows.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rows: Tensor
        (rows,) = ctx.saved_tensors
        return (gradients[0] + gradients[0].T) @ rows


def chance_loss(batch_size: int) -> float:
    """Return NT-Xent of two views where all projections of a batch are the same: ln(2B - 1), at every temperature."""
    return math.log(2 * batch_size - 1)


@dataclass(frozen=True, repr=False)
class Rush(Projected):
    """The paper's pre-training objective: NT-Xent of two views, with smoothing noise on the second (RUSH, eq. 11).

    The options of the projector are those of ``Projected``.

    Args:
        temperature: Divides the cosine similarities.
        noise_on: Which views carry noise: the paper's ``"second"``, ``"both"``, or ``"none"`` for plain SimCLR.

    Raises:
        UsageError: a temperature that is not above 0, and as ``Projected``.
    """

    temperature: float = 0.5
    noise_on: Literal["second", "both", "none"] = "second"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        super().__post_init__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(temperature={self.temperature:g}, noise_on={self.noise_on!r})"

    def chance_loss(self, batch_size: int) -> float:
        """Return ln(2B - 1); see ``Contrasts``."""
        return chance_loss(batch_size)

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield NT-Xent of two views, over the projections of all ranks if several train together.

        The views share a pass so that BatchNorm sees both. Noise is added without a clamp.
        """
        first, second = batch.view(), batch.view()
        # Noise is drawn after both views, the second view's first, so that ``noise_on`` changes no other draw.
        if self.noise_on != "none":
            second = second + batch.noise(second)
        if self.noise_on == "both":
            first = first + batch.noise(first)
        z1, z2 = network(torch.cat([first, second])).chunk(2)
        yield nt_xent(z1, z2, self.temperature, gather_over_ranks())


@dataclass(frozen=True, repr=False)
class SimCLR(Rush):
    """Plain SimCLR, without noise (Chen et al. 2020): the baseline that RUSH adds noise to.

    The options of the projector are those of ``Projected``.

    Args:
        temperature: Divides the cosine similarities.
    """

    noise_on: Literal["second", "both", "none"] = field(default="none", init=False)
