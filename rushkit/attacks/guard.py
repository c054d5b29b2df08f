"""Leave a model and the global random state as they were, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from rushkit.models.modes import in_eval_mode
from rushkit.system import generator


@contextmanager
def untouched(model: nn.Module, seed: int) -> Iterator[None]:
    """Keep the model in eval mode, without parameter gradients, inside the block; restore everything afterwards.

    The block restores the mode of every module, ``requires_grad`` and ``.grad`` of every parameter, every buffer, and
    the global random state of torch, numpy and Python. Inside, that state is seeded from ``seed``, so that a model that
    draws from it gives the same result for the same seed, and makes other draws when it is scored afterwards.
    """
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state = _random_state()
    try:
        for parameter, _, _ in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        _seed_all(int(torch.randint(2**32, (), generator=generator(seed, "attack", 0))))
        with in_eval_mode(model):
            yield
    finally:
        _restore_random_state(state)
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


class Weights:
    """The weights of a model, to be put back where somebody's code may have changed them.

    Args:
        model: Its parameters are copied; ``untouched`` restores all else.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]

    def put_back(self) -> bool:
        """Put back what was changed, and return whether anything was."""
        changed = [(parameter, before) for parameter, before in self._kept if not torch.equal(parameter, before)]
        with torch.no_grad():
            for parameter, before in changed:
                parameter.copy_(before)
        return bool(changed)


def _random_state() -> dict[str, Any]:
    # A seed set before CUDA starts would take effect only later, so CUDA is initialised now if there is a GPU.
    if torch.cuda.is_available():
        torch.cuda.init()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None,
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state_all(state["cuda"])
    if state["mps"] is not None:
        torch.mps.set_rng_state(state["mps"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def _seed_all(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
