"""BatchNorm over the joined batch of all ranks, so that data-parallel training equals training in one process."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.errors import UsageError
from rushkit.models.timm_layers import is_batch_norm_act


def synchronise_batch_norm(module: nn.Module) -> nn.Module:
    """Make every BatchNorm layer in a module take its statistics over the rows of all ranks.

    Parameters, buffers and state-dict names stay. On CUDA the layers become torch's own SyncBatchNorm, whose kernels
    are fused but which runs nowhere else; on other devices they become :class:`SynchronisedBatchNorm`.

    Args:
        module: Changed in place; on its device.

    Raises:
        UsageError: a kind of BatchNorm of somebody's own, of which only CUDA has a joined form.
    """
    if any(parameter.is_cuda for parameter in module.parameters()):
        from timm.layers import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if not isinstance(layer, _BatchNorm) or isinstance(layer, SynchronisedBatchNorm):
                continue
            joined: type[SynchronisedBatchNorm] | None
            joined = SynchronisedBatchNormAct if is_batch_norm_act(layer) else _JOINED.get(type(layer))
            if joined is None:
                raise UsageError(
                    f"{type(layer).__name__} cannot be synchronised over processes on {_device(module).type}",
                    "train this backbone in one process, or on CUDA devices",
                )
            setattr(parent, name, joined.of(layer))
    return module


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm of any dimension whose training statistics cover the rows of all ranks.

    Ranks may hold different numbers of rows, none included. In eval mode it is plain BatchNorm.
    """

    @classmethod
    def of(cls, layer: _BatchNorm) -> Self:
        """Return the same layer, sharing its parameters, buffers and modules."""
        made = cls(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        made._parameters, made._buffers, made._modules = layer._parameters, layer._buffers, layer._modules
        made.training = layer.training
        return made

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, ...) normalised by the mean and variance of each channel over all ranks."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        normalised: Tensor
        normalised, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.track_running_stats and self.running_mean is not None:
            self._follow(mean, variance, count)
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # momentum None: the plain mean over all batches so far.
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class SynchronisedBatchNormAct(SynchronisedBatchNorm):
    """timm's BatchNorm with dropout and activation built in, over all ranks."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) normalised, then through the layer's own dropout and activation."""
        activated: Tensor = self.act(self.drop(super().forward(input)))
        return activated


# Exact types: a subclass may compute something else.
_JOINED: dict[type[_BatchNorm], type[SynchronisedBatchNorm]] = {
    nn.BatchNorm1d: SynchronisedBatchNorm,
    nn.BatchNorm2d: SynchronisedBatchNorm,
    nn.BatchNorm3d: SynchronisedBatchNorm,
}


class _Normalise(torch.autograd.Function):
    """Forward and backward of BatchNorm with its two reductions over all ranks: one collective in each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        mean, variance, count = joined_moments(x)
        normalised = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        upstream = _wide(gradients[0])
        shape = (1, -1) + (1,) * (x.ndim - 2)
        centred = _wide(x) - mean.view(shape)
        mine = torch.stack([upstream.sum(_rows(x)), (upstream * centred).sum(_rows(x))])
        everyone = mine.clone()
        distributed.all_reduce(everyone)
        shift, slope = everyone / count
        through = upstream - shift.view(shape)
        through.sub_(centred.mul_((slope * scale.square()).view(shape)))
        through.mul_((scale if weight is None else scale * weight).view(shape))
        # Of weight and bias each rank gives its own rows' part, as of every other parameter.
        for_weight = None if weight is None else mine[1] * scale
        for_bias = mine[0] if ctx.needs_input_grad[2] else None
        return through.to(x.dtype), for_weight, for_bias, None


def joined_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) of each channel of (N, C, ...) over all ranks, and the count of rows.

    Each rank's own moments are joined, not sums of squares, which would cancel.
    """
    channels, rows = x.shape[1], x.numel() // x.shape[1]
    moments = torch.zeros(2 * channels + 1, dtype=torch.float64, device=x.device)
    if rows:
        variance, mean = torch.var_mean(_wide(x), _rows(x), correction=0)
        moments[:channels], moments[channels:-1], moments[-1] = mean, variance, rows
    parts = [torch.empty_like(moments) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, moments)
    table = torch.stack(parts)
    means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean).square())).sum(0) / count
    kind = _wide(x).dtype
    return mean.to(kind), variance.to(kind), count.to(kind)


def _wide(x: Tensor) -> Tensor:
    """Convert half precision to float32, which a sum over a batch needs."""
    return x if x.dtype == torch.float64 else x.float()


def _rows(x: Tensor) -> list[int]:
    return [dimension for dimension in range(x.ndim) if dimension != 1]


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
