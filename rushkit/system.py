"""The machine that a run computes on (device, precision, compiler, memory), and the seeds of its random draws."""

from __future__ import annotations

import ctypes
import hashlib
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rushkit.errors import UsageError

Precision = Literal["float32", "bf16"]
Compile = Literal["auto", "on", "off"]

# Where Linux lists what a CPU can do, and the words for instructions that multiply bf16 numbers (x86, x86, ARM).
_CPU_FEATURES = Path("/proc/cpuinfo")
_BF16_WORDS = {"avx512_bf16", "amx_bf16", "bf16"}
# The first generation of NVIDIA GPUs with bf16 units.
_BF16_CAPABILITY = (8, 0)
# The file in which a Linux control group states the memory limit of its processes.
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Parameter numbers from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def offline() -> bool:
    """Return whether ``RUSHKIT_OFFLINE`` forbids network access. Check this before any download, in plugins too."""
    return os.environ.get("RUSHKIT_OFFLINE", "") not in ("", "0")


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for one draw, seeded by the run's seed, the purpose and counters such as epoch, step and rank.

    Its draws never touch the global random state, and a resumed run repeats them exactly. On a CPU torch uses only the
    low 32 bits of a seed, so among millions of generators a few pairs share a stream.
    """
    source = torch.Generator(device)
    source.manual_seed(derived_seed(seed, purpose, *counters))
    return source


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return the seed for one draw: a non-negative 63-bit number, which ``manual_seed`` accepts on every device."""
    words = ":".join([str(seed), purpose, *map(str, counters)])
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def uniform_draw(seed: int, purpose: str, *counters: int) -> float:
    """Return a uniform draw from (0, 1], a multiple of 2⁻⁵³, seeded as ``generator`` is and the same on every machine.

    It is the upper end of the cell that the draw falls into: a bound that loosens as the draw rises stays valid.
    """
    return ((derived_seed(seed, purpose, *counters) >> 10) + 1) / 2**53


@dataclass(frozen=True)
class Machine:
    """The device that a stage computes on, its precision, and whether training is compiled."""

    device: torch.device
    precision: Precision
    compile: Compile = "off"

    def autocast(self) -> torch.autocast:
        """Return the autocast context for the precision; in float32 it does nothing."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def search_precision(self) -> Precision:
        """The precision of passes that only search, such as the gradients of attacks.

        It is bf16 if the machine's precision is, unless the device has no units for it: there it would be slower than
        float32.
        """
        return "bf16" if self.precision == "bf16" and has_bf16_units(self.device) else "float32"

    @property
    def compiles(self) -> bool:
        """Whether networks are compiled for training; ``auto`` compiles on CUDA devices where torch.compile works.

        Raises:
            UsageError: ``compile`` is ``on``, and torch.compile does not work here.
        """
        if self.compile == "off" or (self.compile == "auto" and self.device.type != "cuda"):
            return False
        obstacle = compile_obstacle(self.device)
        if obstacle is not None and self.compile == "on":
            raise UsageError(f"torch.compile does not work on {self.device}: {obstacle}", "--set system.compile=off")
        return obstacle is None

    def compile_in_place(self, *networks: nn.Module) -> None:
        """Compile networks for training, if this machine does so; their names and parameters stay."""
        for network in networks if self.compiles else ():
            network.compile()

    def uncompiled(self) -> AbstractContextManager[object]:
        """Return a context in which compiled networks run as they were written.

        Passes of another shape or mode than the training's, such as those of an incomplete batch or of an evaluation,
        would each make the compiler work for a minute.
        """
        return torch.compiler.set_stance("force_eager") if self.compiles else nullcontext()

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        return f"{self.device.type} ({torch.get_num_threads()} threads), {self.precision}"


def choose_machine(device: str = "auto", precision: str = "auto", compile: Compile = "off") -> Machine:
    """Return the machine for a device and a precision, each a name or ``auto``, and set torch up for it.

    Raises:
        UsageError: the device cannot be used, or the precision is unknown.
    """
    torch_device = choose_device(device)
    machine = Machine(torch_device, choose_precision(precision, torch_device), compile)
    if torch_device.type == "cpu":
        keep_freed_memory()
    else:
        # TF32 keeps only ten bits of mantissa: results would not be float32 results. The votes of attacks are float32
        # whatever the precision.
        torch.backends.cudnn.allow_tf32 = False
    return machine


@cache
def keep_freed_memory() -> None:
    """Make glibc keep the memory that this process frees, so that the next forward pass can reuse it.

    By default glibc returns large blocks to the system as soon as they are freed, and each pass waits for the system to
    zero their pages again, which takes up to a tenth of a training step on a CPU. This does nothing under another C
    library, or if the environment sets any MALLOC_ variable.
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
    """Return the memory of this machine, or of the container around this process if that is less, in bytes."""
    sizes = [1 << 36]
    with suppress(ValueError, OSError, AttributeError):
        sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    # The file holds "max" if the container has no limit.
    with suppress(ValueError, OSError):
        sizes.append(int(_CONTAINER_LIMIT.read_text(encoding="ascii")))
    return min(sizes)


def device_memory(device: torch.device) -> int:
    """Return the total memory of a device in bytes; MPS and the CPU use the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory_bytes()


@cache
def compile_obstacle(device: torch.device) -> str | None:
    """Try torch.compile on a device, and return why it fails (no compiler, no Triton); None if it works."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    # Each compiler backend raises exceptions of its own.
    except Exception as error:  # noqa: BLE001
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device does not exist here, or rushkit does not support it.
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


@cache
def has_bf16_units(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 numbers in hardware; elsewhere bf16 is slower than float32.

    A CPU is asked on Linux only. Torch's own answer for CPUs is no guide: it is true where bf16 is emulated.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    if device.type != "cpu":
        return False
    with suppress(OSError):
        return not _BF16_WORDS.isdisjoint(_CPU_FEATURES.read_text(encoding="utf-8", errors="replace").split())
    return False


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called ``name``; ``auto`` is bf16 autocast on a CUDA device with bf16 units, else float32.

    A CPU without such units runs bf16 autocast ten times slower than float32, so ``auto`` never picks it on a CPU.

    Raises:
        UsageError: the name is unknown.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if name not in ("float32", "bf16"):
        raise UsageError(f"unknown precision {name!r}", "use auto, float32 or bf16")
    return name  # type: ignore[return-value]
