"""The values of one module with the slope of another: BPDA, for defences whose own slope is zero, rough or cut off.

Backward pass differentiable approximation: Athalye, Carlini & Wagner 2018, "Obfuscated gradients give a false sense of
security", section 4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.models.answers import Answer
from rushkit.models.draws import global_draws, kept_draws


class StoodIn(nn.Module):
    """A module whose values are its own, and whose slope is that of a stand-in.

    Without gradients the stand-in is not run, so that every decision is the module's alone. With them both are run on
    copies of the images, so that neither can change what the other sees, and both find the global generators as they
    were: what draws alike draws the same. Afterwards the generators stand where the module alone would have left them.

    Args:
        real: The module whose values count: (N, ...) -> (N, ...).
        slope: The stand-in, with outputs of the same shape; None: the identity.
        draws_alone: Whether the stand-in is random and the module is not. Its draws then follow from the images, so
            that an attack that is stopped and goes on meets the same ones.
    """

    def __init__(
        self,
        real: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor], Tensor] | None = None,
        draws_alone: bool = False,
    ) -> None:
        super().__init__()
        # A module is registered as a part, any other callable is an attribute.
        self.real, self.slope = real, slope or nn.Identity()
        self._draws_alone = draws_alone
        self.training = False

    @property
    def answer_kind(self) -> Answer:
        """What attacks can go by: logits, for there is a gradient."""
        return "logits"

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of ``real`` at x, whose gradient is that of the stand-in."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return self.real(x)
        with self._same_draws(x):
            smooth = self.slope(x.clone())
        with torch.no_grad():
            values = self.real(x.detach().clone())
        return with_slope_of(smooth, values)

    def with_own_draws(self) -> StoodIn:
        """Return the same for a stand-in that is random where the module is not."""
        return StoodIn(self.real, self.slope, draws_alone=True)

    @contextmanager
    def _same_draws(self, x: Tensor) -> Iterator[None]:
        if not self._draws_alone:
            with kept_draws(x.device):
                yield
            return
        seed = int.from_bytes(hashlib.blake2b(x.detach().cpu().numpy().tobytes(), digest_size=6).digest())
        with global_draws(seed, "stand-in", device=x.device):
            yield


def with_slope_of(smooth: Tensor, values: Tensor) -> Tensor:
    """Return a tensor of these values, to the last bit, whose gradient is passed on to ``smooth``, of the same shape.

    Values of ``smooth`` that are NaN or infinite leave no trace in it.
    """
    joined: Tensor = _Joined.apply(smooth, values)
    return joined


class _Joined(torch.autograd.Function):
    """Another tensor of the same shape on the way forward, the identity on the way back."""

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, values: Tensor) -> Tensor:
        """Return the values."""
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the values as that of ``smooth``."""
        # As any other gradient would, it lies in memory as the images do.
        return gradient.contiguous(), None
