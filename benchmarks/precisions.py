"""The precisions that a benchmark measures in one run."""

from __future__ import annotations

from rushkit.system import Machine, choose_machine, has_bf16_units


def machines(device: str, precision: str = "auto") -> list[Machine]:
    """Return the device in the precision that is asked for; ``auto``: float32, and bf16 where it has units for it."""
    if precision != "auto":
        return [choose_machine(device, precision)]
    full = choose_machine(device, "float32")
    return [full, choose_machine(device, "bf16")] if has_bf16_units(full.device) else [full]
