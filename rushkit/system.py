"""The machine that a run computes on (device, precision, compiler, memory), and the seeds of its random draws."""

from __future__ import annotations

import ctypes
import hashlib
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from rushkit import bf16
from rushkit.bf16 import has_bf16_units
from rushkit.errors import UsageError
from rushkit.rounding import counted

Precision = Literal["float32", "bf16"]
Compile = Literal["auto", "on", "off"]
# What passes are for: steps of training with their attacks, figures that are reported, or features whose small
# differences count.
Purpose = Literal["training", "figures", "features"]

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
    """The device that a stage computes on, its precision and why it is that one, and whether training is compiled."""

    device: torch.device
    precision: Precision
    compile: Compile = "off"
    why: str = ""

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
    def in_attacks(self) -> str:
        """The machine in words, for attacks: they select and score in float32 whatever its precision."""
        low = ", gradients in bf16" if self.search_precision == "bf16" else ""
        return f"{replace(self, precision='float32')}{low}"

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
        return f"{self.device.type} ({counted(torch.get_num_threads(), 'thread')}), {self.precision}"


def choose_machine(
    device: str = "auto", precision: str = "auto", compile: Compile = "off", purpose: Purpose = "figures"
) -> Machine:
    """Return the machine for a device and a precision, each a name or ``auto``, and set torch up for it.

    Example::

        machine = choose_machine(purpose="training")
        print(machine, machine.why)

    Raises:
        UsageError: the device cannot be used, or the precision is unknown.
    """
    torch_device = choose_device(device)
    chosen, why = choose_precision(precision, torch_device, purpose)
    machine = Machine(torch_device, chosen, compile, why)
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


def choose_precision(name: str, device: torch.device, purpose: Purpose = "figures") -> tuple[Precision, str]:
    """Return the precision called ``name`` for a purpose, and why it is that one.

    ``auto`` is bf16 autocast on a CUDA device with bf16 units. On a CPU it is bf16 for training where the CPU has units
    for it and a short trial shows that they are worth it; figures are made in float32 there. Features are computed in
    float32 everywhere, whatever the name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in ("auto", "float32", "bf16"):
        raise UsageError(f"unknown precision {name!r}", "use auto, float32 or bf16")
    if purpose == "features":
        return "float32", "features are compared by small differences"
    if name != "auto":
        return name, "system.precision says so"  # type: ignore[return-value]
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported()
        return ("bf16", "the GPU computes in bf16") if has else ("float32", "the GPU does not compute in bf16")
    if device.type != "cpu":
        return "float32", f"auto is float32 on {device.type}"
    return ("float32", "figures are made in float32 on a CPU") if purpose == "figures" else _for_training()


def _for_training() -> tuple[Precision, str]:
    """Return what ``auto`` is for training on this CPU, and why."""
    units = " and ".join(bf16.cpu_units())
    if not units:
        return "float32", f"{bf16.cpu_name()} has no units for bf16"
    trial = bf16.trial()
    when = "an earlier trial" if trial.remembered else "a trial"
    found = f"{bf16.cpu_name()} has {units}, and in {when} bf16 was {trial.ratio:.2f} times as fast as float32"
    return ("bf16", found) if trial.ratio >= bf16.WORTH else ("float32", f"{found}; it must be {bf16.WORTH:g} times")
