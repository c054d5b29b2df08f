"""Stand-ins for the plain objects that people save beside weights: settings, paths and numpy's numbers.

A file that holds them can be opened with ``torch.load(weights_only=True)``, which then makes these in their place: none
of them keeps, imports or runs anything.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch.serialization

# numpy's type codes and their struct formats, of the numbers that a training may save.
_NUMBERS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "b1": "?"}


class Bystander:
    """An object of which nothing is kept."""

    def __new__(cls, *given: object) -> Bystander:
        """Make one, whatever is given."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


class NumberType:
    """The type of a numpy number, of which only the code is kept, such as ``"f8"``."""

    def __init__(self, code: object = "", *others: object) -> None:
        self.code = code if isinstance(code, str) else ""

    def __setstate__(self, state: object) -> None:
        """Keep nothing: byte orders are taken for little-endian."""


def numpy_number(kind: object, data: object = b"") -> float | None:
    """Return a numpy number of a type and its bytes; None where they are not those of one number."""
    form = _NUMBERS.get(kind.code) if isinstance(kind, NumberType) else None
    if form is None or not isinstance(data, bytes) or len(data) != struct.calcsize(f"<{form}"):
        return None
    return float(struct.unpack(f"<{form}", data)[0])


# What a file calls, and what stands in for it.
STAND_INS: dict[str, Callable[..., Any]] = {
    "argparse.Namespace": Bystander,
    "types.SimpleNamespace": Bystander,
    "pathlib.Path": Bystander,
    "pathlib.PosixPath": Bystander,
    "pathlib.WindowsPath": Bystander,
    "pathlib.PurePosixPath": Bystander,
    "pathlib.PureWindowsPath": Bystander,
    "pathlib._local.PosixPath": Bystander,
    "pathlib._local.WindowsPath": Bystander,
    "numpy.dtype": NumberType,
    "numpy.core.multiarray.scalar": numpy_number,
    "numpy._core.multiarray.scalar": numpy_number,
}


def standing_in() -> AbstractContextManager[None]:
    """Return a context in which ``torch.load(weights_only=True)`` makes the stand-ins."""
    context: AbstractContextManager[None] = torch.serialization.safe_globals(
        [(stand_in, name) for name, stand_in in STAND_INS.items()]
    )
    return context
