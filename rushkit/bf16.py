"""Whether a device computes faster in bf16: by its units, and on a CPU by a short trial, which is remembered."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from rushkit.errors import shorten, showable
from rushkit.files import replace_file
from rushkit.paths import cache_root, read_text, regular_stat

# What torch and Linux call instructions that multiply bf16 numbers, and their names.
_UNITS = {"avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16", "bf16": "Arm BF16"}
# Where Linux lists what a CPU can do.
_CPU_INFO = Path("/proc/cpuinfo")
# Where macOS says the same, and the name of the CPU.
_SYSCTL, _MAC_BF16, _MAC_NAME = "/usr/sbin/sysctl", "hw.optional.arm.FEAT_BF16", "machdep.cpu.brand_string"
# Variables that keep the libraries under torch from using units that are there; and oneDNN's names of x86 instruction
# sets without any for bf16, to which it can be limited.
_ONEDNN = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITS = (*_ONEDNN, "ATEN_CPU_CAPABILITY")
_WITHOUT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
# The first generation of NVIDIA GPUs with bf16 units.
_CAPABILITY = (8, 0)
# Images, channels and side of the trial's convolution: some 2 GFLOP forward and backward.
_BATCH, _CHANNELS, _SIDE = 32, 64, 16
_ROUNDS, _FEWEST_ROUNDS, _SECONDS = 7, 3, 0.5
# Bounds on what is remembered: no trial ends beyond them, so that anything else was not written here.
_RATIOS, _LONGEST, _MOST = (1e-3, 1e3), 1 << 16, 64
# bf16 costs digits, so that it must be worth it.
WORTH = 1.1


@dataclass(frozen=True)
class Trial:
    """How a CPU did in both precisions.

    Attributes:
        ratio: How many times as fast bf16 was as float32.
        remembered: Whether an earlier process measured it.
    """

    ratio: float
    remembered: bool


@cache
def has_bf16_units(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 numbers in hardware; elsewhere bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _CAPABILITY
    return device.type == "cpu" and bool(cpu_units())


@cache
def cpu_units() -> tuple[str, ...]:
    """Return the names of the CPU's units for bf16: ``("AVX512-BF16", "AMX-BF16")``; none where it has none.

    Nor where ``ONEDNN_MAX_CPU_ISA`` keeps oneDNN, which computes in bf16 for torch, from using them.
    ``torch.cpu.get_capabilities`` knows; where torch has no such function, the system is asked.
    ``torch.ops.mkldnn._is_mkldnn_bf16_supported`` is no guide: it is true where bf16 is emulated.
    """
    if any(os.environ.get(name, "").upper() in _WITHOUT for name in _ONEDNN):
        return ()
    with suppress(AttributeError, RuntimeError):
        said = torch.cpu.get_capabilities()
        if not _UNITS.keys().isdisjoint(said):
            return tuple(name for word, name in _UNITS.items() if said.get(word) is True)
    if sys.platform == "darwin":
        return (_UNITS["bf16"],) if _sysctl(_MAC_BF16) == "1" else ()
    words = set(_cpu_info().split())
    return tuple(name for word, name in _UNITS.items() if word in words)


@cache
def cpu_name() -> str:
    """Return the CPU's model, such as ``"AMD EPYC 9R14"``."""
    lines = (line.partition(":") for line in _cpu_info().splitlines())
    named = next((value for key, _, value in lines if key.strip() == "model name"), "")
    name = named or _sysctl(_MAC_NAME) or platform.processor() or platform.machine() or "unknown CPU"
    return shorten(showable(" ".join(name.split())), 80)


def trial() -> Trial:
    """Return how bf16 did beside float32 on this CPU; measured where no earlier process did so.

    What was measured is remembered in ``bf16.json`` of the cache, by the CPU's model and units, torch's version and the
    variables that limit them. A file that is damaged is ignored and made anew; one that cannot be written is done
    without.
    """
    limits = [f"{name}={value}" for name in _LIMITS if (value := os.environ.get(name))]
    place = ", ".join([cpu_name(), *cpu_units(), f"torch {torch.__version__}", *limits])
    known = _read()
    if place in known:
        return Trial(known[place], remembered=True)
    ratio = min(max(measure(), _RATIOS[0]), _RATIOS[1])
    _write({**known, place: ratio})
    return Trial(ratio, remembered=False)


def measure() -> float:
    """Return how many times as fast a convolution is in bf16, forward and backward: the median of alternating rounds.

    It takes about half a second, and draws no random numbers. Where torch cannot compute in bf16 it is 0.
    """
    x = torch.linspace(-1, 1, _BATCH * _CHANNELS * _SIDE**2).view(_BATCH, _CHANNELS, _SIDE, _SIDE)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.linspace(-1, 1, _CHANNELS**2 * 9).view(_CHANNELS, _CHANNELS, 3, 3).requires_grad_()

    def seconds(bf16: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            y = F.conv2d(x, weight, padding=1)
        torch.autograd.grad(y.float().square().mean(), (x, weight))
        return time.perf_counter() - start

    ratios: list[float] = []
    with torch.enable_grad(), suppress(RuntimeError):
        # The first passes of a process are slower than the others.
        for bf16 in (False, True):
            seconds(bf16)
        finish = time.perf_counter() + _SECONDS
        while len(ratios) < _FEWEST_ROUNDS or (len(ratios) < _ROUNDS and time.perf_counter() < finish):
            ratios.append(seconds(bf16=False) / seconds(bf16=True))
        return median(ratios)
    return 0.0


def _file() -> Path:
    return cache_root() / "bf16.json"


def _read() -> dict[str, float]:
    """Return what is remembered; nothing where the file is missing, damaged, or not one that ``_write`` made."""
    low, high = _RATIOS
    try:
        if regular_stat(_file()).st_size > _LONGEST:
            return {}
        trials = json.loads(read_text(_file()))["trials"]
        return {place: ratio for place, ratio in trials.items() if isinstance(ratio, float) and low <= ratio <= high}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}


def _write(trials: dict[str, float]) -> None:
    newest = dict(list(trials.items())[-_MOST:])
    with suppress(OSError, ValueError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        replace_file(_file(), [json.dumps({"trials": newest}, indent=1).encode()])


@cache
def _cpu_info() -> str:
    with suppress(OSError):
        return _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    return ""


def _sysctl(key: str) -> str:
    """Return what macOS says for a key; empty elsewhere."""
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run([_SYSCTL, "-n", key], capture_output=True, timeout=5, check=True)
            return done.stdout.decode(errors="replace").strip()
    return ""
