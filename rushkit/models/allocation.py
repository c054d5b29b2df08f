"""Bound the memory that building a model takes, since its sizes may come from an untrusted recipe or file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rushkit.errors import RushkitError


class _Limit(TorchDispatchMode):
    """Raise an error in place of the allocation that goes beyond ``room`` bytes, before it is made."""

    def __init__(self, room: int, error: RushkitError) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room, self._error = room, error

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if not any(isinstance(argument, Tensor) for argument in args):
            try:
                made = func(*args, **kwargs | {"device": torch.device("meta")})
            # An operation that takes no device, or whose size does not fit into 64 bits, which torch will say.
            except (RuntimeError, TypeError):
                made = None
            if isinstance(made, Tensor):
                self._room -= made.nbytes
                if self._room < 0:
                    raise self._error
        return func(*args, **kwargs)


@contextmanager
def allocations_within(room: int, error: RushkitError) -> Iterator[None]:
    """Bound the memory that new tensors in this block take together.

    Args:
        room: Bytes. What is freed inside the block still counts.
        error: Raised by the tensor that goes beyond, which is not made.
    """
    with _Limit(room, error):
        yield
