"""The machine a run happens on: device, precision, and the seeds of every draw."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import torch

from rushkit.errors import UsageError

Precision = Literal["float32", "bf16"]


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one draw, from the seed, what the draw is for, and counters such as epoch, step and rank.

    Draws never share a stream and never touch the global random state, so a resumed run repeats them exactly.
    """
    words = ":".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    # Positive 63-bit: what manual_seed takes on every device.
    value = int.from_bytes(digest, "big") >> 1
    made = torch.Generator(device)
    made.manual_seed(value)
    return made


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


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context for a precision; does nothing in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def describe(device: torch.device) -> dict[str, Any]:
    """The device in words, for run.json and the first line of every command."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"type": "cuda", "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    return {"type": device.type, "threads": torch.get_num_threads()}
