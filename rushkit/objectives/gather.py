"""Tensors of all ranks: rows joined so that gradients flow back to where each came from, and means of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    return all_gather_with_gradient if _together() else None


@torch.no_grad()
def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the mean of each tensor over the ranks that train together, in one collective; all of one dtype."""
    if not _together() or not tensors:
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = (flat / distributed.get_world_size()).split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


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
