"""Fold BatchNorm into the convolutions before it, for inference: the same function in fewer passes over memory."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rushkit.models.timm_layers import is_batch_norm_act

# Folding rounds differently, no more: a difference beyond this share of the largest output is another function.
_TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norm(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a module for inference that computes the same in eval mode, with BatchNorm folded where possible.

    A BatchNorm layer is folded if a pass of the example shows that its input is the output of a convolution, that
    nothing else uses that output, and that both layers are called once. The activation of timm's BatchNormAct2d stays
    in its place. Both modules are compared on the example, and one for which folding changes the outputs is returned as
    it is; so is one that cannot be copied.

    Args:
        module: In eval mode; it is not changed.
        example: (N, C, H, W) inputs to trace and to compare the two on.

    Returns:
        A copy without these BatchNorm layers, or ``module`` itself.
    """
    if not any(_is_norm(layer) for layer in module.modules()):
        return module
    try:
        folded = copy.deepcopy(module)
        expected, pairs = _traced(folded, example)
        if not pairs:
            return module
        for convolution, path in pairs:
            norm = folded.get_submodule(path)
            assert isinstance(norm, nn.BatchNorm2d)
            _fold(convolution, norm)
            folded.set_submodule(path, _rest(norm))
        found = folded(example)
        close = (found - expected).abs().amax() <= _TOLERANCE * expected.abs().amax()
    except Exception:  # noqa: BLE001 - a module that computes may still not bear to be copied, traced or changed
        # Weights that a hook makes before each pass, as torch's old weight_norm and spectral_norm do, cannot be copied.
        return module
    return folded if close else module


class _Uses(TorchDispatchMode):
    """Counts the operations that take each tensor while it is entered, but for those inside of BatchNorm layers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of: Counter[int] = Counter()
        self.counting = True

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count the operation for each tensor among its arguments, and run it."""
        if self.counting:
            self.of.update(id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


def _traced(module: nn.Module, example: Tensor) -> tuple[Tensor, list[tuple[nn.Conv2d, str]]]:
    """Return the outputs of a pass, and each convolution whose only use is BatchNorm, with the path of that layer."""
    uses, calls = _Uses(), Counter[nn.Module]()
    # Outputs of convolutions, kept until the end so that no other tensor takes their identities; and the paths of the
    # layers that each was given to.
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    given_to: dict[int, list[str]] = {}

    def convolved(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        calls[layer] += 1
        outputs.append((layer, output))
        uses.of[id(output)], given_to[id(output)] = 0, []

    def normed(layer: nn.Module, inputs: tuple[Tensor, ...], path: str) -> None:
        calls[layer] += 1
        uses.counting = False
        for x in inputs:
            given_to.get(id(x), []).append(path)

    def left(*_: object) -> None:
        uses.counting = True

    hooks = []
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(layer.register_forward_hook(convolved))
        elif _is_norm(layer) and layer.track_running_stats:
            hooks.append(layer.register_forward_pre_hook(partial(normed, path=path)))
            hooks.append(layer.register_forward_hook(left))
    try:
        with uses:
            found = module(example)
    finally:
        for hook in hooks:
            hook.remove()
    pairs = []
    for convolution, output in outputs:
        once = calls[convolution] == 1 and not uses.of[id(output)]
        match given_to[id(output)]:
            case [path] if once and calls[module.get_submodule(path)] == 1:
                pairs.append((convolution, path))
    return found, pairs


def _is_norm(layer: nn.Module) -> bool:
    # Others may compute something else in their forward passes.
    return type(layer) is nn.BatchNorm2d or is_batch_norm_act(layer)


def _rest(norm: Any) -> nn.Module:
    """Return what a folded layer does beside normalising."""
    return nn.Sequential(norm.drop, norm.act) if is_batch_norm_act(norm) else nn.Identity()


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale the convolution's filters and shift its bias as the norm would its outputs; in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    shift = -mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight = convolution.weight
    filters = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
    weight.copy_(filters)
    convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
