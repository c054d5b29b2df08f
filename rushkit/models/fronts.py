"""Defences in front of a classifier: callables that change its images, such as a JPEG compression or a purifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.errors import PluginError, UsageError
from rushkit.models.answers import Answer, answer_kind
from rushkit.models.modes import in_eval_mode
from rushkit.models.stood_in import with_slope_of
from rushkit.models.trial import MISFITS, code_of_others


class Front(nn.Module):
    """A callable that changes images, before they reach a classifier.

    One whose outputs have no gradient, or a gradient of zeros, is passed straight through on the way back: the
    classifier's gradient stands for that of both (BPDA with the identity; Athalye, Carlini & Wagner 2018, section 4.1).
    On the way forward nothing changes.

    Args:
        change: (N, C, H, W) images in [0, 1] -> images of any size.
        name: What messages call it.

    Attributes:
        straight_through: Whether the gradient is passed straight through.
    """

    def __init__(self, change: Callable[[Tensor], Any], name: str) -> None:
        super().__init__()
        # A module is registered as a part, any other callable is an attribute.
        self.change = change
        self.name = name
        self.straight_through = False
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the changed images of (N, C, H, W) images.

        Raises:
            UsageError: the callable returns something else than as many images.
            PluginError: the callable raises an error.
        """
        if not self.straight_through:
            return self._changed(x)
        with torch.no_grad():
            changed = self._changed(x.detach())
        return with_slope_of(x, changed)

    def _changed(self, x: Tensor) -> Tensor:
        with code_of_others(self.name, x):
            changed = self.change(x)
        if not isinstance(changed, Tensor) or changed.ndim != 4 or len(changed) != len(x):
            what = f"shape {tuple(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            raise UsageError(
                f"{self.name} returned {what} for {len(x)} images",
                "a front takes a tensor of images (N, C, H, W) in [0, 1], and returns as many",
            )
        return changed.to(x)


class Fronted(nn.Module):
    """A classifier behind fronts, the first of which sees the images first.

    Args:
        fronts: What changes the images.
        model: (N, C, H, W) -> (N, K) logits.

    Attributes:
        differentiable: Whether a gradient passes through all of the fronts.
    """

    def __init__(self, fronts: Sequence[Front], model: nn.Module) -> None:
        super().__init__()
        self.fronts = nn.ModuleList(fronts)
        self.model = model
        self.differentiable = True
        self.training = False

    @property
    def answer_kind(self) -> Answer:
        """What attacks can go by: what the model answers with, without logits where no gradient passes."""
        kind = answer_kind(self.model)
        return kind if self.differentiable or kind != "logits" else "probabilities"

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits (N, K) of the changed images of x (N, C, H, W)."""
        with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
            x = x if self.differentiable else x.detach()
            for front in self.fronts:
                x = front(x)
            logits: Tensor = self.model(x)
            return logits


def find_gradient(front: Front, x: Tensor) -> bool:
    """Pass gradients straight through a front that has none of its own, if it keeps the size of its images.

    Args:
        front: Its ``straight_through`` is set.
        x: (N, C, H, W) images in [0, 1] to try it on.

    Returns:
        Whether a gradient passes now, of its own or straight through.
    """
    probe = x.detach().clone().requires_grad_()
    with in_eval_mode(front):
        try:
            with torch.enable_grad():
                changed = front(probe)
            if changed.requires_grad:
                # Weights that tell the pixels apart: a sum of pixels may be constant where each of them moves.
                (gradient,) = torch.autograd.grad((changed * _weights(changed)).sum(), probe, allow_unused=True)
                if gradient is not None and bool(gradient.any()):
                    return True
        except (PluginError, *MISFITS):
            # Such as numpy's refusal of a tensor with a gradient.
            with torch.no_grad():
                changed = front(x)
    front.straight_through = changed.shape == x.shape
    return front.straight_through


def _weights(like: Tensor) -> Tensor:
    return torch.linspace(1, 2, like.numel(), device=like.device).reshape(like.shape)
