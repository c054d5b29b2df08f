"""Keep what one job changes in its process from the next: a job ends as it would in a process of its own."""

from __future__ import annotations

import gc
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from rushkit import registries
from rushkit.place import leave_place


@contextmanager
def isolated() -> Iterator[None]:
    """Undo, after a block, what it changed of the process: draws, threads, precision, environment, place, registries.

    Compiled code and memory are given back, too. Caches stay that hold the same for every job, such as what was
    measured of the machine.
    """
    environment, folder, path = dict(os.environ), _working_folder(), list(sys.path)
    filters = list(warnings.filters)
    threads, kind, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    draws = _Draws()
    switches = _switches()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        if folder and folder != _working_folder():
            os.chdir(folder)
        sys.path[:] = path
        warnings.filters[:] = filters  # type: ignore[index]
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(grad)
        _switch(switches)
        draws.restore()
        leave_place()
        for registry in registries.ALL:
            registry.known_files.clear()
        _give_back()


class _Draws:
    """The states of all generators that no job should draw from, and that a library's code may draw from."""

    def __init__(self) -> None:
        self._python, self._numpy, self._torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None

    def restore(self) -> None:
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


def _switches() -> tuple[bool, ...]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return (
        cudnn.benchmark,
        cudnn.deterministic,
        cudnn.allow_tf32,
        matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


def _switch(switches: tuple[bool, ...]) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32, deterministic = switches
    torch.use_deterministic_algorithms(deterministic)


def _give_back() -> None:
    """Drop compiled code, and memory that nothing refers to."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _working_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - as text, to compare
    except OSError:
        return ""
