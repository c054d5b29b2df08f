"""Seeds for modules that draw from global generators: initialisers, dropout, stochastic depth, random defences."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from rushkit.system import derived_seed


@contextmanager
def global_draws(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators with (seed, purpose, counters) in this block; restore them afterwards.

    They are torch's, numpy's and Python's: a random defence may resize or shift images by ``random.randint``.

    Args:
        seed: As in ``system.generator``, and so the purpose and the counters.
        purpose: What the draws are for.
        *counters: Such as epoch, step and rank.
        device: The one that draws; the CPU's generator is set beside it.
    """
    with kept_draws(device):
        seed_draws(seed, purpose, *counters, device=device)
        yield


@contextmanager
def kept_draws(device: torch.device | str = "cpu") -> Iterator[None]:
    """Restore the global generators after this block, in which ``seed_draws`` may be called any number of times.

    Keeping numpy's takes a quarter of a millisecond, seeding them all a twentieth of that.
    """
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def seed_draws(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> None:
    """Seed the global generators as ``global_draws`` does, and leave them so."""
    number = derived_seed(seed, purpose, *counters)
    for generator in _generators(device):
        # Not torch.manual_seed: that reseeds every accelerator, and not all of them are put back.
        generator.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


def global_states(device: torch.device | str = "cpu") -> tuple[bytes, ...]:
    """Return the states of the global generators, which differ where somebody has drawn from one of them."""
    of_torch = [generator.get_state().numpy().tobytes() for generator in _generators(device)]
    name, keys, *rest = np.random.get_state()
    return *of_torch, np.asarray(keys).tobytes(), repr((name, rest)).encode(), repr(random.getstate()).encode()


def _generators(device: torch.device | str) -> list[torch.Generator]:
    return [torch.default_generator, *_of_accelerator(torch.device(device))]


def _of_accelerator(device: torch.device) -> list[torch.Generator]:
    if device.type == "cuda":
        # They exist from the first use of CUDA on.
        torch.cuda.init()
        return [torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]]
    return [torch.mps._get_default_mps_generator()] if device.type == "mps" else []
