"""Seeds for modules that draw from torch's global generators: initialisers, dropout, stochastic depth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rushkit.system import derived_seed


@contextmanager
def global_draws(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators with (seed, purpose, counters) in this block; restore them afterwards.

    Args:
        seed: As in ``system.generator``, and so the purpose and the counters.
        purpose: What the draws are for.
        *counters: Such as epoch, step and rank.
        device: The one that draws; the CPU's generator is set beside it.
    """
    generators = [torch.default_generator, *_of_accelerator(torch.device(device))]
    states = [generator.get_state() for generator in generators]
    number = derived_seed(seed, purpose, *counters)
    try:
        for generator in generators:
            # Not torch.manual_seed: that reseeds every accelerator, and not all of them are put back.
            generator.manual_seed(number)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _of_accelerator(device: torch.device) -> list[torch.Generator]:
    if device.type == "cuda":
        # They exist from the first use of CUDA on.
        torch.cuda.init()
        return [torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]]
    return [torch.mps._get_default_mps_generator()] if device.type == "mps" else []
