"""Put modules into eval mode for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode in this block; afterwards, also after an error, restore each submodule's mode.

    ``module.train(False)`` does the switching, so that a submodule which overrides ``train`` has its way. The modes
    come back one by one: ``module.train()`` would thaw the statistics of a BatchNorm that was frozen by its mode.
    """
    modes = [(part, part.training) for part in module.modules()]
    switched = any(training for _, training in modes)
    try:
        if switched:
            module.eval()
        yield
    finally:
        if switched:
            for part, training in modes:
                part.training = training
