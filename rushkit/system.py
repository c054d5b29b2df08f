"""The machine a run happens on: device, precision, and the seeds of every draw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch

from rushkit.errors import UsageError

Precision = Literal["float32", "bf16"]


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one draw, from the seed, what the draw is for, and counters such as epoch, step and rank.

    Draws never touch the global random state, and a resumed run repeats them exactly. On a CPU torch uses the low 32
    bits of a seed: among millions of draws a few pairs share a stream.
    """
    made = torch.Generator(device)
    made.manual_seed(derived_seed(seed, purpose, *counters))
    return made


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """A seed for one draw, a positive 63-bit number: what ``manual_seed`` takes on every device."""
    words = ":".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Machine:
    """The device and the precision that a stage computes with."""

    device: torch.device
    precision: Precision

    def autocast(self) -> torch.autocast:
        """The autocast context for the precision; does nothing in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"{self.device.type} ({torch.get_num_threads()} threads), {self.precision}"


def choose_machine(device: str = "auto", precision: str = "auto") -> Machine:
    """The machine that ``auto`` or a name stands for. Raises UsageError where it cannot be had."""
    chosen = choose_device(device)
    return Machine(chosen, choose_precision(precision, chosen))


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError(f"rushkit does not compute on {device.type}")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used: {reason}", "use auto, cpu, cuda, cuda:1 or mps") from error
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """``auto`` is bf16 autocast on a CUDA device that has bf16 units, else float32.

    On a CPU without such units bf16 autocast is an order of magnitude slower than float32, so it is never chosen there.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name not in ("float32", "bf16"):
        raise UsageError(f"unknown precision {name!r}", "use auto, float32 or bf16")
    return name  # type: ignore[return-value]
