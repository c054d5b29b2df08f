"""Free adversarial training (Shafahi et al. 2019): each backward pass moves the weights and the perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from rushkit.errors import UsageError
from rushkit.objectives.supervised import Supervised, cross_entropy, labels_of
from rushkit.recipe.radius import check_eps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Free(Supervised):
    """Cross-entropy on x + δ, m times on each batch, with a step of both weights and δ each time (algorithm 1).

    The gradient of δ comes from the backward pass that trains the weights, so the attack costs no pass of its own. The
    perturbation of a row is carried on to the image that the next batch has in that row.

    Args:
        norm: Norm of the ball; the method is of "linf".
        eps: Radius of the ball, pixel units.
        step_size: Length of a step of δ, pixel units; None: eps.
        replays: m, the times that a batch is trained on; a run takes 1/m of the epochs that it would take without.
        carry: Whether δ is carried on to the next batch; it starts at zero otherwise.
        box: Where pixels are kept in [0, 1]: "input" clips x + δ, and a pixel that is clipped keeps its δ; "delta"
            clips δ itself, by the image that it is added to.

    Raises:
        UsageError: a radius or step that is not in pixel units, or no replays.
    """

    norm: Literal["linf"] = "linf"
    eps: float = 8 / 255
    step_size: float | None = None
    replays: int = 8
    carry: bool = True
    box: Literal["input", "delta"] = "input"

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        if self.step_size is not None:
            check_eps(self.norm, self.step_size, name="step_size")
        if self.replays < 1:
            raise UsageError(
                f"replays must be at least 1 (got {self.replays})", "the paper's are 8; 1 repeats no batch"
            )

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return a memory of the perturbations (N, C, H, W) of a whole batch, zeros; an empty one without ``carry``."""
        memory = nn.Module()
        if self.carry:
            memory.register_buffer("delta", torch.zeros(shape))
        return memory

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean cross-entropy of the perturbed views, once a replay; the perturbation moves after each."""
        labels_of(batch)
        x, target = batch.view(), batch.targets()
        delta = self._within(batch.rows(memory.get_buffer("delta")) if self.carry else torch.zeros_like(x), x)
        step_size = self.eps if self.step_size is None else self.step_size
        for _ in range(self.replays):
            delta.requires_grad_()
            yield batch.mean(cross_entropy(network((x + delta).clamp(0, 1)), target))
            assert delta.grad is not None
            delta = self._within(delta.detach() + step_size * delta.grad.sign(), x)
        if self.carry:
            carried = batch.whole(delta)
            # The last batch of an epoch may have fewer images: the perturbations of its missing rows stay.
            memory.get_buffer("delta")[: len(carried)] = carried

    def _within(self, delta: Tensor, x: Tensor) -> Tensor:
        """Return δ within the ball and, where the box is δ's, such that x + δ is in [0, 1]."""
        delta = delta.clamp(-self.eps, self.eps)
        return torch.minimum(torch.maximum(delta, -x), 1 - x) if self.box == "delta" else delta
