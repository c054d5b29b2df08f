"""``rushkit doctor``."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from rushkit.cli.options import Changes, Debug, Json, Output, runs_root
from rushkit.paths import exists

NAME = "doctor"
EXAMPLE = "Example: rushkit doctor"

# SCIENCE: two views of an image through CIFAR ResNet-18, forward and backward, and what the paper's pre-training takes.
_GFLOP_PER_IMAGE = 6.68
_PAPER_IMAGES = 50_000 * 1000
_LITTLE_ROOM = 5 * 2**30
_PASSES = 3


def command(changes: Changes = None, json: Json = False, debug: Debug = False) -> None:
    """What there is to work with: device, versions, data, plugins, room on the disk; and what would be slow here."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from rushkit.recipe.overrides import parse_changes
    from rushkit.run.environment import environment

    chosen = dict(parse_changes(changes or []))
    root = runs_root(changes)
    folder = str(chosen.get("system.data_dir") or os.environ.get("RUSHKIT_DATA") or "data")
    machine = _machine(str(chosen.get("system.device") or os.environ.get("RUSHKIT_DEVICE") or "auto"))
    facts: dict[str, Any] = {
        **machine,
        "versions": environment()["versions"],
        "platform": environment()["platform"],
        "data": {"folder": folder, "sets": _datasets(folder)},
        "runs": {"folder": root, "free": _free(root)},
        "plugins": _plugins(),
    }
    facts["advice"] = advice(facts)
    table = Table(show_header=False)
    for name, words in _rows(facts).items():
        table.add_row(name, words)
    said = Text("\n".join(f"- {line}" for line in facts["advice"]) or "nothing to complain of")
    Output(json).result(facts, Group(table, said))


def advice(facts: dict[str, Any]) -> list[str]:
    """What would be slow or go wrong with these facts, each with what to do about it."""
    found = []
    days = facts["paper_days"]
    if days > 2:
        found.append(
            f"slow: the paper's pre-training (recipe cifar10) would take about {days:.0f} days on this device; "
            "cifar10-cpu and digits are made for it"
        )
    if facts["compile_obstacle"]:
        found.append(
            f"slow: training is not compiled, as torch.compile does not work here: {facts['compile_obstacle']}"
        )
    if facts["device"].startswith("cpu") and facts["threads"] < facts["cores"] / 2:
        found.append(
            f"slow: torch uses {facts['threads']} of {facts['cores']} cores; OMP_NUM_THREADS or torch.set_num_threads "
            "says how many"
        )
    if facts["device"].startswith("cpu") and facts["accelerators"]:
        found.append(f"slow: {', '.join(facts['accelerators'])} could be used: leave system.device at auto")
    if facts["runs"]["free"] < _LITTLE_ROOM:
        found.append(
            f"little room: {facts['runs']['free'] / 2**30:.1f} GiB are free for {facts['runs']['folder']}; a run of "
            "ResNet-18 takes 0.3 GiB; `rushkit runs clean`, or another folder in RUSHKIT_RUNS"
        )
    # A data set that cannot be downloaded, such as a folder of images, is the user's own.
    missing = [name for name, about in facts["data"]["sets"].items() if about["fetch"] and about["state"] != "ready"]
    if missing:
        found.append(
            f"data: {', '.join(missing)} would be downloaded to {facts['data']['folder']} at the first use; "
            "`rushkit data check NAME` says more"
        )
    for name, problem in facts["plugins"].items():
        if problem not in ("ok", ""):
            found.append(f"plugin {name}: {problem}; repair or uninstall its owner")
    return found


def _machine(device: str) -> dict[str, Any]:
    """The device, and how long the paper's pre-training would take on it."""
    import torch

    from rushkit.system import choose_machine, compile_obstacle

    machine = choose_machine(device, compile="auto")
    gflops = _measure_gflops(machine)
    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        accelerators.append("mps")
    return {
        "device": str(machine.device),
        "machine": str(machine),
        "precision": machine.precision,
        "compiles": machine.compiles,
        "compile_obstacle": compile_obstacle(machine.device) if machine.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 1,
        "accelerators": accelerators,
        "gflops": gflops,
        "paper_days": _GFLOP_PER_IMAGE * _PAPER_IMAGES / gflops / 86400,
    }


def _measure_gflops(machine: Any) -> float:
    """Arithmetic that a convolution of ResNet-18 reaches here, forward and backward, in GFLOP a second."""
    import torch

    from rushkit.system import generator

    batch = 8 if machine.device.type == "cpu" else 512
    draw = generator(0, "doctor")
    x = torch.rand(batch, 64, 32, 32, generator=draw).to(machine.device, memory_format=torch.channels_last)
    weight = torch.rand(64, 64, 3, 3, generator=draw).to(machine.device).requires_grad_()
    x.requires_grad_()
    seconds = []
    for _ in range(_PASSES):
        start = time.perf_counter()
        with machine.autocast():
            torch.nn.functional.conv2d(x, weight, padding=1).float().sum().backward()
        # A number brought back waits for the device.
        float(weight.grad.sum())  # type: ignore[union-attr]
        seconds.append(time.perf_counter() - start)
    flop = 3 * 2 * batch * 64 * 64 * 9 * 32 * 32
    return flop / min(seconds) / 1e9


def _datasets(folder: str) -> dict[str, dict[str, Any]]:
    """Data set -> ``state``, which is ``ready`` or what is the matter, and whether ``rushkit data fetch`` gets it."""
    from rushkit import data
    from rushkit.errors import RushkitError

    found = {}
    for name in data.names():
        try:
            about = data.describe(name, folder)
        except RushkitError as error:
            found[name] = {"state": error.message, "fetch": False}
            continue
        problem = about.problem or "; ".join(sorted({check.status for check in about.checks}))
        found[name] = {"state": "ready" if about.ready else problem, "fetch": bool(about.url)}
    return found


def _plugins() -> dict[str, str]:
    """Every name that a plugin registers, and whether it can be used."""
    from rushkit import registries
    from rushkit.cli.plugins import find_problem
    from rushkit.registry import BUILTIN_OWNER

    return {
        f"{entry.owner}/{entry.name}": find_problem(registry, entry) or "ok"
        for registry in registries.ALL
        for entry in registry.entries()
        if entry.owner != BUILTIN_OWNER
    }


def _free(folder: str) -> int:
    """Bytes that are free where a folder is or would be made."""
    path = Path(folder).resolve()
    while not exists(path) and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def _rows(facts: dict[str, Any]) -> dict[str, str]:
    sets = facts["data"]["sets"]
    return {
        "machine": facts["machine"],
        "training": "compiled" if facts["compiles"] else "not compiled",
        "arithmetic": f"{facts['gflops']:.0f} GFLOP/s in a convolution, forward and backward",
        "platform": facts["platform"],
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        f"data in {facts['data']['folder']}": ", ".join(f"{name}: {about['state']}" for name, about in sets.items()),
        f"runs in {facts['runs']['folder']}": f"{facts['runs']['free'] / 2**30:.0f} GiB free",
        "plugins": ", ".join(f"{name} {state}" for name, state in facts["plugins"].items()) or "none",
    }
