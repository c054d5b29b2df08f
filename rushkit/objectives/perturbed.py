"""Adversarial weight perturbation (AWP, Wu et al. 2020): a step is taken where the loss near the weights is high."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError
from rushkit.models.modes import still
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.gather import mean_over_ranks

if TYPE_CHECKING:
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Perturbed(Attacked):
    """A base for objectives with an inner attack whose steps can be taken at perturbed weights.

    Args:
        awp: Length γ of the perturbation of the weights, as a share of each tensor's own length; 0: none. Wu et al.
            2020 take 0.01 for ``pgd-at`` and 0.005 for ``trades``.
        awp_start: Epochs before it starts.

    Raises:
        UsageError: a negative length or epoch, or a length of 1 or more; and as ``Attacked``.
    """

    awp: float = 0.0
    awp_start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.awp < 1:
            raise UsageError(f"awp must be in [0, 1) (got {self.awp!r})", "the paper's are 0.01 and 0.005")
        if not self.awp_start >= 0:
            raise UsageError(f"awp_start must be at least 0 (got {self.awp_start!r})", "it is a number of epochs")
        super().__post_init__()

    def awp_steps(self, network: nn.Module, loss: Callable[[], Tensor], batch: Batch) -> Iterator[Tensor]:
        """Yield a loss, at perturbed weights where the options and the epoch ask for that.

        Args:
            network: Whose weights train.
            loss: Computes this rank's part of the loss, a scalar, with images that are attacked already.
            batch: The batch.
        """
        if not self.awp or batch.epoch < self.awp_start:
            yield loss()
            return
        with perturbed(network, loss, self.awp):
            yield loss()


@contextmanager
def perturbed(network: nn.Module, loss: Callable[[], Tensor], gamma: float) -> Iterator[None]:
    """Move the weights up the loss in this block, each tensor to w + γ‖w‖·g/‖g‖ with its gradient g (Wu et al. 2020).

    The optimizer's step falls inside the block, and the perturbation is subtracted after it::

        with perturbed(network, lambda: loss_at(x_adv), 0.01):
            yield loss_at(x_adv)

    Only trained tensors of two or more dimensions move, so neither biases nor BatchNorm; a tensor without a gradient
    stays. BatchNorm's running statistics do not move for g.

    Args:
        network: Whose weights move.
        loss: Computes this rank's part of the loss, a scalar.
        gamma: γ, the length of the perturbation as a share of the weights' own.
    """
    weights: list[Tensor] = [
        parameter for parameter in network.parameters() if parameter.requires_grad and parameter.dim() > 1
    ]
    with still(network), torch.enable_grad():
        moves = _moves(weights, loss(), gamma)
    _add(weights, moves, 1.0)
    try:
        yield
    finally:
        _add(weights, moves, -1.0)


def _moves(weights: list[Tensor], loss: Tensor, gamma: float) -> list[Tensor]:
    """Return γ‖w‖·g/‖g‖ of each tensor; g is the gradient of the whole batch, on every rank."""
    gradients = mean_over_ranks(torch.autograd.grad(loss, weights, materialize_grads=True))
    slopes, sizes = torch._foreach_norm(gradients), torch._foreach_norm(weights)
    scales = [gamma * torch.where(slope > 0, size / slope, 0) for slope, size in zip(slopes, sizes, strict=True)]
    return [gradient * scale.detach() for gradient, scale in zip(gradients, scales, strict=True)]


@torch.no_grad()
def _add(weights: list[Tensor], moves: list[Tensor], sign: float) -> None:
    torch._foreach_add_(weights, moves, alpha=sign)
    # Autocast keeps half-precision copies of weights until its outermost block ends.
    torch.clear_autocast_cache()
