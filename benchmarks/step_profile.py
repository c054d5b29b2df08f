"""Where the time of a pre-training step goes: convolution, batch norm, views, noise, NT-Xent, optimizer, copies, idle.

    OMP_NUM_THREADS=1 python benchmarks/step_profile.py --batch 128
    python benchmarks/step_profile.py --device cuda --batch 512 --json build/profile.json

The step is that of rushkit, from uint8 images to new weights, in up to four ways: in float32, in the machine's
precision (bf16 on a GPU with units for it), compiled, and as one CUDA graph. The network is channels-last in all of
them. Beside each way stand the bare passes in float32, on prepared inputs. An operator's own time counts: on a GPU that
of its kernels, on a CPU its processor time. What a backward pass does counts to the kind of the forward operator.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from rushkit.distributed.share import Share
from rushkit.files import write_json
from rushkit.noises import Noise
from rushkit.objectives import nt_xent
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.run.checkpoint import save_checkpoint
from rushkit.run.optimizer_state import optimizer_tensors
from rushkit.speed.bench import bare_name, bench_job, peak_memory, step_contestants
from rushkit.system import Machine, choose_machine, compile_obstacle, generator
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.job import TrainingJob
from rushkit.training.loop import given_channels_last
from rushkit.training.optimizer import build_optimizer

WAYS = ("float32", "eager", "compiled", "graph")
# Of the profiler's events, the name of a part of the step begins so.
PART = "part: "
IDLE = "idle"
# Steps before the first that counts, and steps that are profiled.
_WARM_UP = 3
_PROFILED = 5
# Of a fused kernel's name, of an operator's, and of a kernel that no operator claims; the first that fits.
_FUSED = (("batch norm", r"batch_norm|bn_"), ("NT-Xent", r"nll|log_softmax"), ("copies", r"clone|copy|cat"))
_OPERATORS = (
    ("convolution", r"conv"),
    ("batch norm", r"batch_?norm"),
    ("copies", r"^aten::(copy_|_to_copy|to|contiguous|clone|cat)$|memcpy|memset"),
)
_KERNELS = (
    ("batch norm", r"batch_?norm|bn_|::bn"),
    ("optimizer", r"multi_tensor_apply|fused_?sgd|fused_?adam"),
    ("copies", r"copy|memcpy|memset|catarray|nchwtonhwc|nhwctonchw"),
    ("convolution", r"conv|cudnn|xmma|cutlass|gemm|wgrad|dgrad|fprop|sm\d\d_"),
)


@dataclass(frozen=True)
class Way:
    """One way of making a step, as it was measured.

    Attributes:
        name: One of ``WAYS``.
        precision: Of the network's passes.
        per_second: Steps a second.
        host: Seconds until the host was done with a step that the device may still have been at.
        memory_bytes: Peak memory so far.
        kinds: Seconds a step by kind of work.
    """

    name: str
    precision: str
    per_second: float
    host: float
    memory_bytes: int
    kinds: dict[str, float]


class Marked:
    """A noise whose draws are a part of the profile.

    Args:
        noise: The noise.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self.std = noise.std

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw δ."""
        with record_function(f"{PART}noise"):
            return self._noise.sample(x, generator)


def marked(job: TrainingJob) -> TrainingJob:
    """Return the job with its views and its noise marked for the profiler."""

    def views(images: Tensor, source: torch.Generator) -> Tensor:
        with record_function(f"{PART}views"):
            return job.views(images, source)

    return replace(job, views=views, noise=Marked(job.noise))


@contextmanager
def nt_xent_marked() -> Iterator[None]:
    """Mark the loss for the profiler in this block."""
    plain = nt_xent.nt_xent

    def loss(*given: Any, **options: Any) -> Tensor:
        with record_function(f"{PART}NT-Xent"):
            return plain(*given, **options)

    with mock.patch.object(nt_xent, "nt_xent", loss):
        yield


def first_fit(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    """Return the kind of the first rule whose pattern is in the name, in any case."""
    return next((kind for kind, pattern in rules if re.search(pattern, name, re.IGNORECASE)), None)


def kind_of(names: Sequence[str]) -> str | None:
    """Return the kind of work of an operator.

    Args:
        names: The operator's, then those of what it was called by, outwards.
    """
    for name in names:
        if name.startswith(PART):
            return name.removeprefix(PART)
        if name.startswith("Optimizer."):
            return "optimizer"
    for name in names:
        rules = _FUSED if name.startswith("triton") else _OPERATORS
        if kind := first_fit(name, rules):
            return kind
    return None


def kind_of_kernel(name: str) -> str:
    """Return the kind of work of a kernel that no operator claims, such as one of a CUDA graph."""
    return first_fit(name, _FUSED if name.startswith("triton") else _KERNELS) or "other"


def seconds_by_kind(events: Sequence[Any], on_device: bool) -> dict[str, float]:
    """Add up the time of a profile by kind of work.

    Args:
        events: What ``profile.events()`` returns.
        on_device: Whether the time of kernels counts, or that of operators on the CPU.
    """
    spent: Counter[str] = Counter()
    unclaimed: Counter[str] = Counter()
    operators = [event for event in events if event.device_type == DeviceType.CPU]
    parts = _parts_by_number(operators)
    for event in operators:
        line = list(_outwards(event))
        backward = (parts[each.sequence_nr] for each in line if each.scope == 1 and each.sequence_nr in parts)
        kind = next(backward, None) or kind_of([each.name for each in line])
        if not on_device:
            spent[kind or "other"] += event.self_cpu_time_total / 1e6
        for kernel in event.kernels if on_device else ():
            spent[kind or kind_of_kernel(kernel.name)] += kernel.duration / 1e6
            unclaimed[kernel.name] -= kernel.duration / 1e6
    if on_device:
        kernels = list(_kernels(events))
        for event in kernels:
            unclaimed[event.name] += _length(event)
        for name, seconds in unclaimed.items():
            spent[kind_of_kernel(name)] += max(seconds, 0.0)
        spent[IDLE] = idle_seconds([(event.time_range.start / 1e6, event.time_range.end / 1e6) for event in kernels])
    return {kind: seconds for kind, seconds in spent.most_common() if seconds > 0}


def idle_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """Return how long nothing ran between the first start and the last end of some spans, which may overlap."""
    idle, until = 0.0, None
    for start, end in sorted(spans):
        if until is not None and start > until:
            idle += start - until
        until = end if until is None else max(until, end)
    return idle


def _parts_by_number(operators: Iterable[Any]) -> dict[int, str]:
    """Return the marked part that the forward operators with a sequence number belong to."""
    parts = {}
    for event in operators:
        if event.sequence_nr >= 0 and event.scope == 0:
            for each in _outwards(event):
                if each.name.startswith(PART):
                    parts[event.sequence_nr] = each.name.removeprefix(PART)
    return parts


def _outwards(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _kernels(events: Iterable[Any]) -> Iterator[Any]:
    """Yield what ran on the device, but for the spans of marked parts and of the optimizer."""
    for event in events:
        if event.device_type == DeviceType.CUDA and not event.name.startswith((PART, "Optimizer.", "ProfilerStep")):
            yield event


def _length(event: Any) -> float:
    return float(event.time_range.end - event.time_range.start) / 1e6


def steps_of(way: str, recipe: Recipe, machine: Machine) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a step made in one way, and its bare passes on prepared inputs in the precision of the machine."""
    job = marked(bench_job(recipe, machine)[0])
    if way == "graph":
        step = graph_of(job, recipe, machine)
        return step, step
    made, _ = step_contestants(job, machine)
    return made["ours"], made[bare_name(machine.precision)]


def graph_of(job: TrainingJob, recipe: Recipe, machine: Machine) -> Callable[[], object]:
    """Return the replay of a whole step, recorded as one CUDA graph: draws, views, passes, loss and optimizer."""
    job.set_modes()
    optimizer = build_optimizer(recipe.pretrain.optimizer, job.trained, machine.device, job.norms)
    source, count = generator(0, "graph", device=machine.device), len(job.split)
    batch = StepBatch(
        job.split.images,
        None,
        0.0,
        0.0,
        Share(0, count, count),
        source,
        Draws(job.views, job.noise),
        columns=job.columns,
    )

    def step() -> None:
        with given_channels_last(job.network), machine.autocast():
            (loss,) = job.objective.losses(job.network, job.memory, batch)
        loss.backward()
        optimizer.step()

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            optimizer.zero_grad(set_to_none=True)
            step()
    torch.cuda.current_stream().wait_stream(aside)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(source)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def speed_of(step: Callable[[], object], seconds: float, machine: Machine) -> tuple[float, float]:
    """Return the least seconds a step, of blocks of steps, and the least seconds until the host was done with one."""
    for _ in range(_WARM_UP):
        step()
    _wait(machine)
    started = time.perf_counter()
    step()
    _wait(machine)
    block = max(1, min(50, int(seconds / 5 / max(time.perf_counter() - started, 1e-6))))
    best = host = float("inf")
    finish = time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < finish:
        started = time.perf_counter()
        for _ in range(block):
            before = time.perf_counter()
            step()
            host = min(host, time.perf_counter() - before)
        _wait(machine)
        best = min(best, (time.perf_counter() - started) / block)
    return best, host


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def profiled(step: Callable[[], object], machine: Machine, steps: int = _PROFILED) -> dict[str, float]:
    """Return the seconds a step by kind of work."""
    on_device = machine.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with nt_xent_marked(), profile(activities=activities) as seen:
        for _ in range(steps):
            step()
        _wait(machine)
    return {kind: seconds / steps for kind, seconds in seconds_by_kind(seen.events(), on_device).items()}


def machine_for(way: str, machine: Machine) -> Machine:
    """Return the machine that makes a step in one way."""
    if way == "float32":
        return replace(machine, precision="float32", compile="off")
    return replace(machine, compile="on" if way == "compiled" else "off")


def obstacle_to(way: str, machine: Machine) -> str | None:
    """Return why a step cannot be made in one way here; None if it can."""
    if way == "eager" and machine.precision == "float32":
        return "the precision is float32 here: the row is there already"
    if way == "graph" and machine.device.type != "cuda":
        return "CUDA graphs need a CUDA device"
    return compile_obstacle(machine.device) if way == "compiled" else None


def measured(way: str, recipe: Recipe, machine: Machine, seconds: float) -> tuple[Way, float]:
    """Measure one way, and return it with the seconds of its bare passes."""
    ours, bare = steps_of(way, recipe, machine_for(way, machine))
    best, host = speed_of(ours, seconds, machine)
    memory = peak_memory(machine)
    bare_best, _ = speed_of(bare, seconds / 2, machine)
    kinds = profiled(ours, machine)
    return Way(way, machine_for(way, machine).precision, 1 / best, host, memory, kinds), bare_best


def seconds_of_checkpoint(recipe: Recipe, machine: Machine) -> float:
    """Return how long it takes to write a checkpoint of the training, with its optimizer, to the temporary folder."""
    job, _ = bench_job(recipe, machine)
    optimizer = build_optimizer(recipe.pretrain.optimizer, job.trained, machine.device, job.norms)
    for parameter in job.trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    tensors, _ = optimizer_tensors(optimizer)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        save_checkpoint(Path(folder) / "checkpoint.safetensors", {**job.tensors(), **tensors}, {})
        return time.perf_counter() - started


def lines_of(way: Way, batch: int, bare: float | None) -> Iterator[str]:
    """Yield the lines of a way's table; ``bare`` is the seconds of the bare passes in float32, where they are known."""
    beside = "" if bare is None else f"; {way.per_second * bare:.2f} x the speed of the bare passes in float32"
    rate = f"{way.per_second:.2f} steps/s, {way.per_second * batch:.0f} images/s"
    yield f"\n{way.name}, {way.precision}: {rate}{beside}; host {1e3 * way.host:.2f} ms a step"
    total = sum(way.kinds.values())
    for kind, seconds in way.kinds.items():
        yield f"  {kind:12} {1e3 * seconds:9.3f} ms {100 * seconds / total:6.1f} %"


def measure_all(
    ways: Sequence[str], recipe: Recipe, machine: Machine, seconds: float
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield what is known after each way, as JSON, and the lines to print of it."""
    batch = recipe.pretrain.batch_size
    found: dict[str, Any] = {"machine": str(machine), "backbone": recipe.backbone.name, "batch": batch}
    found |= {"ways": [], "left_out": {}, "checkpoint_seconds": seconds_of_checkpoint(recipe, machine)}
    yield (
        found,
        [f"{recipe.backbone.name}, batch {batch}, {machine}; a checkpoint: {found['checkpoint_seconds']:.3f} s"],
    )
    bare_float32 = None
    for way in ways:
        obstacle = obstacle_to(way, machine)
        if obstacle is None:
            try:
                row, bare = measured(way, recipe, machine, seconds)
            # What a compiler or a driver raises says why this way is left out; the others are measured all the same.
            except Exception as error:  # noqa: BLE001
                obstacle = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        if obstacle is not None:
            found["left_out"][way] = obstacle
            yield found, [f"\n{way}: left out, {obstacle}"]
            continue
        bare_float32 = bare if way == "float32" else bare_float32
        beside = None if bare_float32 is None else row.per_second * bare_float32
        found["ways"].append(asdict(row) | {"bare_seconds": bare, "x_bare_float32": beside})
        yield found, list(lines_of(row, batch, bare_float32))


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5, help="for each way; its bare passes take half of it again")
    parser.add_argument("--ways", default=",".join(WAYS), help="which of them, with commas between")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch has it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, help="a file that is written anew after each way")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    machine = choose_machine(arguments.device, arguments.precision)
    changes = (
        f"backbone.name={arguments.backbone}",
        f"pretrain.batch_size={arguments.batch}",
        f"system.device={arguments.device}",
        "pretrain.objective=rush",
    )
    recipe = load_recipe(arguments.recipe, [*changes, *arguments.set])
    for found, lines in measure_all(arguments.ways.split(","), recipe, machine, arguments.seconds):
        print("\n".join(lines), flush=True)
        if arguments.json:
            write_json(arguments.json, found)


if __name__ == "__main__":
    main()
