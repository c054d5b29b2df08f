"""Bound the memory of a training step: the repeated blocks of a network compute their activations again when needed.

A block so changed keeps its input alone and runs a second time in the backward pass (Chen et al. 2016, "Training Deep
Nets with Sublinear Memory Cost"), which costs about one forward pass more and leaves every number as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# Of each class of blocks, the one that recomputes.
_KINDS: dict[type[nn.Module], type[nn.Module]] = {}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recompute_blocks(module: nn.Module) -> int:
    """Let the repeated blocks of a module recompute their activations, in place, and return how many there are.

    BatchNorm, and whatever else has buffers, moves in the first pass alone. Dropout draws the same mask in both, from
    torch's global generators. Names, parameters and copies by ``copy.deepcopy`` are as before, and so are passes
    without gradients.
    """
    blocks = repeated_blocks(module)
    for block in blocks:
        block.__class__ = _recomputed(type(block))
    return len(blocks)


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks that a network is a sequence of, such as a ResNet's, in order; of nested ones the innermost.

    A block is a module with parts that stands in a ``Sequential``, ``ModuleList`` or ``ModuleDict``, and of whose class
    the network has several.
    """
    candidates = [
        child
        for parent in module.modules()
        if isinstance(parent, _CONTAINERS)
        for child in parent.children()
        if not isinstance(child, (*_CONTAINERS, _BatchNorm, torch.jit.ScriptModule)) and any(child.children())
    ]
    times = Counter(type(child) for child in candidates)
    repeated = {child for child in candidates if times[type(child)] > 1}
    return [child for child in candidates if child in repeated and repeated.isdisjoint([*child.modules()][1:])]


def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the class of the blocks of a kind that recompute; blocks that are turned into it stay of the kind."""
    if issubclass(kind, _Recomputed):
        return kind
    if kind not in _KINDS:
        _KINDS[kind] = type(kind.__name__, (_Recomputed, kind), {"__module__": kind.__module__})
    return _KINDS[kind]


class _Recomputed(nn.Module):
    """Comes before the class of a block."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Run the block, and again in the backward pass."""
        if not torch.is_grad_enabled():
            return super().forward(*inputs, **options)
        return checkpoint(super().forward, *inputs, use_reentrant=False, context_fn=lambda: _contexts(self), **options)


@dataclass(frozen=True)
class _State:
    """What a pass depends on in one part of a block, beside its weights: modes and buffers, as they are now."""

    part: nn.Module
    training: bool
    tracks: bool | None
    buffers: dict[str, Tensor | None]

    @classmethod
    def of(cls, part: nn.Module) -> _State:
        """Return the state of a part, with its own buffers."""
        tracks = part.track_running_stats if isinstance(part, _BatchNorm) else None
        return cls(part, part.training, tracks, part._buffers)

    def with_copies(self) -> _State:
        """Return the same state with copies of the buffers, which a pass may change."""
        copies = {name: None if buffer is None else buffer.clone() for name, buffer in self.buffers.items()}
        return replace(self, buffers=copies)

    def restore(self) -> None:
        """Put the part into this state."""
        self.part.training, self.part._buffers = self.training, self.buffers
        if isinstance(self.part, _BatchNorm) and self.tracks is not None:
            self.part.track_running_stats = self.tracks


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a block's first and second pass; the second starts from the state that is there now."""
    return nullcontext(), _second_pass([_State.of(part).with_copies() for part in block.modules()])


@contextmanager
def _second_pass(first: list[_State]) -> Iterator[None]:
    """Put the parts of a block back into the state before their first pass; afterwards, into that of now.

    What the second pass moves, such as running statistics, are copies.
    """
    now = [_State.of(state.part) for state in first]
    try:
        for state in first:
            state.restore()
        yield
    finally:
        for state in now:
            state.restore()
