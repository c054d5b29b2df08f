"""Examine this machine: the devices, packages and data sets that are available, and what would be slow or fail."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from rushkit import data, registries
from rushkit.doctor.examination import DataFolder, DataSetState, Examination, RunsFolder
from rushkit.errors import RushkitError, UsageError
from rushkit.paths import exists
from rushkit.recipe.find import find_recipe
from rushkit.registry import BUILTIN_OWNER, Entry, Registry
from rushkit.run.environment import environment
from rushkit.system import Machine, choose_machine, compile_obstacle, generator

# SCIENCE: two views of an image through CIFAR ResNet-18, forward and backward, and what the paper's pre-training takes.
_GFLOP_PER_IMAGE = 6.68
_PAPER_IMAGES = 50_000 * 1000
_LITTLE_ROOM = 5 * 2**30
_PASSES = 3
# What rushkit would pass by itself, and the sizes without which a noise cannot be made; the first that fits is taken.
_TRIALS: dict[str, tuple[dict[str, str | int | float], ...]] = {
    "noise": ({"std": 0.25}, {"scale": 0.25}, {}),
    "attack": tuple({"norm": norm, "eps": 0.1} for norm in ("linf", "l2", "l1")),
    "data set": ({"root": "data"},),
    "backbone": ({"in_channels": 3, "image_size": 32},),
}


def examine(device: str, data_dir: str, runs_dir: str) -> Examination:
    """Measure the device, and look at packages, data sets, plugins and the disk.

    Args:
        device: As ``system.device`` of a recipe, such as ``"auto"``.
        data_dir: The folder of data sets.
        runs_dir: The folder of runs; it need not be there.

    Raises:
        UsageError: the device cannot be had.
    """
    machine, figures = choose_machine(device, compile="auto", purpose="training"), choose_machine(device)
    gflops = measure_gflops(machine)
    around = environment()
    return Examination(
        device=str(machine.device),
        machine=str(machine),
        precision=machine.precision,
        precision_reason=machine.why,
        figures_precision=figures.precision,
        figures_precision_reason=figures.why,
        compiles=machine.compiles,
        compile_obstacle=compile_obstacle(machine.device) if machine.device.type == "cuda" else None,
        threads=torch.get_num_threads(),
        cores=os.cpu_count() or 1,
        accelerators=_accelerators(),
        gflops=gflops,
        paper_days=_GFLOP_PER_IMAGE * _PAPER_IMAGES / gflops / 86400,
        versions=around.versions,
        platform=around.platform,
        data=DataFolder(data_dir, _data_sets(data_dir)),
        runs=RunsFolder(runs_dir, _free_bytes(runs_dir)),
        plugins=_plugins(),
    )


def advice(facts: Examination) -> list[str]:
    """Return sentences on what would be slow or fail, each with what to do about it."""
    return [*_advice_on_speed(facts), *_advice_on_folders(facts)]


def _advice_on_speed(facts: Examination) -> Iterator[str]:
    if facts.paper_days > 2:
        yield (
            f"slow: the paper's pre-training (recipe cifar10) would take about {facts.paper_days:.0f} days on this "
            "device; cifar10-cpu and digits are made for it"
        )
    if facts.compile_obstacle:
        yield f"slow: training is not compiled, as torch.compile does not work here: {facts.compile_obstacle}"
    if facts.device.startswith("cpu") and facts.threads < facts.cores / 2:
        yield (
            f"slow: torch uses {facts.threads} of {facts.cores} cores; OMP_NUM_THREADS or torch.set_num_threads says "
            "how many"
        )
    if facts.device.startswith("cpu") and facts.accelerators:
        yield f"slow: {', '.join(facts.accelerators)} could be used: leave system.device at auto"


def _advice_on_folders(facts: Examination) -> Iterator[str]:
    if facts.runs.free < _LITTLE_ROOM:
        yield (
            f"little room: {facts.runs.free / 2**30:.1f} GiB are free for {facts.runs.folder}; a run of ResNet-18 "
            "takes 0.3 GiB; `rushkit runs clean`, or another folder in RUSHKIT_RUNS"
        )
    # A data set that cannot be downloaded, such as a folder of images, is the user's own.
    missing = [name for name, about in facts.data.sets.items() if about.fetch and about.state != "ready"]
    if missing:
        yield (
            f"data: {', '.join(missing)} would be downloaded to {facts.data.folder} at the first use; "
            "`rushkit data check NAME` says more"
        )
    for name, problem in facts.plugins.items():
        if problem not in ("ok", ""):
            yield f"plugin {name}: {problem}; repair or uninstall its owner"


def component_problem(registry: Registry, entry: Entry) -> str:
    """Return why a component cannot be used, or ``""``. One of a plugin is made too, where its options can be guessed.

    Args:
        registry: Where the component is registered.
        entry: Its name and owner.
    """
    name = f"{entry.owner}/{entry.name}"
    try:
        if registry.kind == "recipe":
            find_recipe(name)
        elif entry.owner == BUILTIN_OWNER or entry.name.endswith("/*"):
            entry.load()
        else:
            _make(registry, name)
    except RushkitError as error:
        return error.message
    return ""


def measure_gflops(machine: Machine) -> float:
    """Return what a convolution of ResNet-18 reaches on a machine, forward and backward, in GFLOP a second."""
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


def _make(registry: Registry, name: str) -> None:
    for options in _TRIALS.get(registry.kind, ({},)):
        try:
            registry.create(name, **options)
            return
        except UsageError:
            continue


def _accelerators() -> list[str]:
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def _data_sets(folder: str) -> dict[str, DataSetState]:
    return {name: _data_set(name, folder) for name in data.names()}


def _data_set(name: str, folder: str) -> DataSetState:
    try:
        about = data.describe(name, folder)
    except RushkitError as error:
        return DataSetState(error.message, fetch=False)
    problem = about.problem or "; ".join(sorted({check.status for check in about.checks}))
    return DataSetState("ready" if about.ready else problem, bool(about.url))


def _plugins() -> dict[str, str]:
    return {
        f"{entry.owner}/{entry.name}": component_problem(registry, entry) or "ok"
        for registry in registries.ALL
        for entry in registry.entries()
        if entry.owner != BUILTIN_OWNER
    }


def _free_bytes(folder: str) -> int:
    """Bytes that are free where a folder is or would be made."""
    path = Path(folder).resolve()
    while not exists(path) and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
