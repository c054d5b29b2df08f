"""Gather a tensor from all ranks so that gradients flow back to the rank that each row came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

Gather = Callable[[Tensor], tuple[Tensor, int]]
"""Maps this rank's rows (n, D) to the rows of all ranks (R * n, D) and the index of this rank's first row in them."""


def all_gather_with_gradient(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all ranks in rank order, (R * n, D), and the index of this rank's first row.

    In the backward pass each rank's rows get the **sum** of the gradients of all ranks' losses. Averaging parameter
    gradients over ranks, as data-parallel training does, then gives the gradient of the mean of the losses. All ranks
    must call it, forward and backward, with the same n.

    Args:
        rows: This rank's rows (n, D).
    """
    return _AllGather.apply(rows), distributed.get_rank() * len(rows)


def gather_over_ranks() -> Gather | None:
    """Return :func:`all_gather_with_gradient` if several ranks train together, else None."""
    together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return all_gather_with_gradient if together else None


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        ctx.first, ctx.count = distributed.get_rank() * len(rows), len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # all_reduce writes in place, and autograd may still use the gradient elsewhere, so it gets a copy.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.narrow(0, ctx.first, ctx.count)
