"""The machine a run happens on: device, precision, compiler, memory, and the seeds of every draw."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from rushkit.errors import UsageError

Precision = Literal["float32", "bf16"]
Compile = Literal["auto", "on", "off"]

# Where a control group of Linux says how much memory its processes may take.
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def offline() -> bool:
    """Whether ``RUSHKIT_OFFLINE`` forbids the network. Whatever fetches something asks this first, plugins too."""
    return os.environ.get("RUSHKIT_OFFLINE", "") not in ("", "0")


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
    """The device that a stage computes on, in which precision, and whether training is compiled."""

    device: torch.device
    precision: Precision
    compile: Compile = "off"

    def autocast(self) -> torch.autocast:
        """The autocast context for the precision; does nothing in float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def compiles(self) -> bool:
        """Whether networks are compiled for training: ``auto`` does so on CUDA devices where it works.

        Raises:
            UsageError: it is ``on``, and does not work here.
        """
        if self.compile == "off" or (self.compile == "auto" and self.device.type != "cuda"):
            return False
        obstacle = compile_obstacle(self.device)
        if obstacle is not None and self.compile == "on":
            raise UsageError(f"torch.compile does not work on {self.device}: {obstacle}", "--set system.compile=off")
        return obstacle is None

    def compiled(self, network: nn.Module) -> Callable[..., Any]:
        """What to call in place of a network that trains; it shares the network's parameters."""
        return torch.compile(network) if self.compiles else network

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"{self.device.type} ({torch.get_num_threads()} threads), {self.precision}"


def choose_machine(device: str = "auto", precision: str = "auto", compile: Compile = "off") -> Machine:
    """The machine that ``auto`` or a name stands for, made ready. Raises UsageError where it cannot be had."""
    chosen = choose_device(device)
    machine = Machine(chosen, choose_precision(precision, chosen), compile)
    if chosen.type == "cpu":
        keep_freed_memory()
    elif machine.precision == "float32":
        # A figure "in float32" is not one of TF32's ten bits.
        torch.backends.cudnn.allow_tf32 = False
    return machine


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for the next pass to use.

    glibc gives large blocks back to the system as soon as they are free, and each pass of a network then waits for the
    system to fill their pages with zeros anew: on a CPU up to a tenth of a training step. Other C libraries are left
    alone, and so is one that MALLOC_ variables of the environment have been set for.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def memory_bytes() -> int:
    """The memory of this machine in bytes, or of the container that this process runs in, whichever is less."""
    sizes = [1 << 36]
    with suppress(ValueError, OSError, AttributeError):
        sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    # "max" where a container has no limit of its own.
    with suppress(ValueError, OSError):
        sizes.append(int(_CONTAINER_LIMIT.read_text(encoding="ascii")))
    return min(sizes)


def device_memory(device: torch.device) -> int:
    """The whole memory of a device in bytes; that of MPS and of the CPU is the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory_bytes()


@cache
def compile_obstacle(device: torch.device) -> str | None:
    """Why torch.compile cannot be used on a device (no compiler, no Triton), found by a trial; None if it can."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    # Each of the compilers behind it fails in its own way.
    except Exception as error:  # noqa: BLE001
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


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
