"""LARS: momentum with a learning rate of its own for each tensor of weights (You et al. 2017, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

_TINY = 1e-8  # keeps the ratio finite


class Lars(torch.optim.Optimizer):
    """LARS: each tensor's gradient is scaled by the trust ratio r, which bounds the step by the length of the weights.

    With weights w, gradient g and weight decay λ, r = η‖w‖ / (‖g‖ + λ‖w‖ + 1e-8), and 1 where ‖w‖ or ‖g‖ is 0. Then
    v ← μv + r(g + λw) and w ← w − lr·v; with ``lr_inside`` v ← μv + lr·r(g + λw) and w ← w − v, as in the paper. The
    two differ where the rate changes. A group with ``adapt = False`` has r = 1: plain momentum.

    >>> optimizer = Lars(network.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-6, eta=0.001)

    Args:
        params: The parameters, or groups of them, each with settings of its own.
        lr: The learning rate.
        momentum: μ.
        weight_decay: λ.
        eta: The trust coefficient η.
        lr_inside: Whether the rate enters the momentum with the gradient, or multiplies it afterwards.
        clip: Whether r is replaced by min(r / lr, 1), so that no step is longer than one of plain momentum.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.001,
        lr_inside: bool = False,
        clip: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "lr_inside": lr_inside,
            "clip": clip,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; ``closure``, if given, computes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update([parameter for parameter in group["params"] if parameter.grad is not None], group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        gradients: list[Tensor] = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        velocities: list[Tensor] = [self.state[weight]["momentum_buffer"] for weight in weights]

        changes = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(changes, trust_ratios(weights, gradients, group))
        inside, outside = (group["lr"], 1.0) if group["lr_inside"] else (1.0, group["lr"])
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, changes, alpha=inside)
        torch._foreach_add_(weights, velocities, alpha=-outside)


def trust_ratios(weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Return r of each tensor, scalars. Nothing is read back from the device.

    Args:
        weights: The tensors w.
        gradients: Their gradients g, without weight decay.
        group: The settings ``eta``, ``weight_decay``, ``clip`` and ``lr``.
    """
    length, slope = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, gradients))
    ratio = group["eta"] * length / (slope + group["weight_decay"] * length + _TINY)
    if group["clip"]:
        ratio = (ratio / group["lr"]).clamp(max=1.0)
    return list(torch.where((length > 0) & (slope > 0), ratio, 1.0).unbind())
