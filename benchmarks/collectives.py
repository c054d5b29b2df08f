"""What ranks send one another in a step of pre-training, and how long they wait for it; and on paper, for many GPUs.

    python benchmarks/collectives.py --ranks 1,2,4,8 --batch 64
    OMP_NUM_THREADS=1 python benchmarks/collectives.py --ranks 1,2 --batch 64 --steps 5

The ranks are processes of a gloo group on this machine, each with its share of one batch. Every collective of torch is
wrapped: its bytes are those of the tensors that it is given, by the part of the step that calls it; "sent" is what a
rank sends of them in a ring. The time is that of the best step. Its share in collectives includes the wait for ranks
that are late, so it says something only where there is a free core for each rank.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from math import log2
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ranges import show
from torch import Tensor, distributed

from rushkit.distributed import ranks
from rushkit.distributed.leash import put_on
from rushkit.distributed.share import share_of
from rushkit.distributed.start import run_ranks
from rushkit.place import take_place
from rushkit.recipe.load import load_recipe
from rushkit.speed.bench import bench_job
from rushkit.system import choose_machine, generator
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.loop import given_channels_last, train_batch
from rushkit.training.optimizer import build_optimizer

# The module that calls a collective -> the part of the step.
PARTS = {
    "rushkit.distributed.ranks": "gradients",
    "rushkit.objectives.gather": "NT-Xent",
    "rushkit.models.batch_norm": "SyncBatchNorm",
}
# On paper: the batch and a GPU's seconds for a step of it; how many images a GPU needs to be filled; and the links, in
# bytes and seconds: inside a machine of 8 GPUs (NVLink), and between machines (an adapter of 400 Gb/s for each GPU). A
# collective takes longer with each doubling of the machines; gloo, over TCP, with each doubling of the ranks.
BATCH, STEP, FILLED, IN_MACHINE = 512, 13e-3, 64, 8
INSIDE, BETWEEN = 300e9, 40e9
LATENCY, DOUBLING, GLOO = 20e-6, 15e-6, 50e-6


class Watch:
    """The collectives of this process: their bytes, how often each part of a step called them, and the time in them."""

    def __init__(self) -> None:
        self.payload: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.seconds = 0.0
        for name in ("all_reduce", "all_gather", "broadcast"):
            setattr(distributed, name, self._counted(name, getattr(distributed, name)))

    def _counted(self, name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            caller, world = sys._getframe(1), distributed.get_world_size()
            module = caller.f_globals["__name__"]
            part = "stop?" if caller.f_code.co_name == "largest" else PARTS.get(module, module)
            tensor: Tensor = arguments[1] if name == "all_gather" else arguments[0]
            size = tensor.numel() * tensor.element_size()
            self.payload[part] += size * (world if name == "all_gather" else 1)
            self.sent[part] += size * (world - 1) if name == "all_gather" else 2 * size * (world - 1) // world
            self.calls[part] += 1
            start = time.perf_counter()
            try:
                return collective(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start

        return call


def be_a_rank(batch: int, steps: int, file: Path) -> None:
    """Take some steps on this rank's share of one batch; rank 0 writes what it counted, a step."""
    put_on()
    take_place()
    ranks.join()
    machine = choose_machine("cpu", "float32", "off", "training")
    recipe = load_recipe("cifar10", [f"pretrain.batch_size={batch}"])
    # Where the images are missing, the first rank alone would find out, and go on.
    with ranks.alone():
        job, _ = bench_job(recipe, machine)
    ranks.synchronise(job.network)
    optimizer = build_optimizer(job.settings.optimizer, job.trained, machine.device, job.norms)
    share, draws = share_of(batch), Draws(job.views, job.noise)

    def step() -> None:
        source = generator(0, "step")
        rows = job.split.images[share.rows]
        train_batch(
            StepBatch(rows, None, 0.5, 1.0, share, source, draws, len(job.classes)), job, optimizer, machine, (0, 0, 0)
        )

    job.set_modes()
    with given_channels_last(job.network):
        step()
        watch, rounds = Watch(), []
        for _ in range(steps):
            start, before = time.perf_counter(), watch.seconds
            step()
            ranks.any_rank(False)
            rounds.append((time.perf_counter() - start, watch.seconds - before))
    whole, inside = min(rounds)
    if ranks.rank() == 0:
        kinds = {"payload": watch.payload, "sent": watch.sent, "calls": watch.calls}
        figures = {name: {part: value / steps for part, value in kind.items()} for name, kind in kinds.items()}
        file.write_text(json.dumps(figures | {"step": whole, "share": inside / whole}))
    ranks.wait()
    if ranks.world() > 1:
        distributed.destroy_process_group()


def on_paper(world: int, counted: dict[str, Any], grows: bool) -> dict[str, float]:
    """Return the milliseconds of a step over many GPUs, one part after the other as it is now.

    Args:
        world: How many GPUs.
        counted: What was counted for some ranks and a batch.
        grows: Whether the batch grows with the GPUs, 64 images each, or stays.
    """
    machines = max(1, world / IN_MACHINE)
    batch = FILLED * world if grows else BATCH
    latency, link = LATENCY + DOUBLING * log2(machines), INSIDE if machines == 1 else BETWEEN
    # What all gather of NT-Xent grows with the batch, and of statistics with the ranks; gradients stay.
    growth = {"NT-Xent": batch / counted["batch"], "SyncBatchNorm": world / counted["world"]}
    times = {"compute": STEP * max(batch / world, FILLED) / BATCH}
    for part, calls in counted["calls"].items():
        size = counted["payload"][part] * growth.get(part, 1.0)
        wire = size * 2 * (world - 1) / world / link
        times[part] = calls * (GLOO * log2(world) if part == "stop?" else latency * (world > 1)) + wire
    step = sum(times.values())
    return {f"{part} ms": 1e3 * seconds for part, seconds in times.items()} | {
        "step ms": 1e3 * step,
        "images/s": batch / step,
        "x one GPU": batch / step / (BATCH / STEP),
    }


def main() -> None:
    """Count, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rank-writes", type=Path, help="for the ranks themselves")
    arguments = parser.parse_args()
    if arguments.rank_writes:
        torch.manual_seed(0)
        be_a_rank(arguments.batch, arguments.steps, arguments.rank_writes)
        return
    found = {}
    with TemporaryDirectory() as folder:
        for world in map(int, arguments.ranks.split(",")):
            file = Path(folder, f"{world}.json")
            options = ["--batch", str(arguments.batch), "--steps", str(arguments.steps), "--rank-writes", str(file)]
            if run_ranks([sys.executable, __file__, *options], world):
                sys.exit(1)
            found[world] = json.loads(file.read_text()) | {"world": world, "batch": arguments.batch}
    title = f"cifar10, batch {arguments.batch}"
    for name in ("payload", "sent", "calls"):
        show(f"{title}: {name} a step", {f"{world} ranks": found[world][name] for world in found})
    rows = {f"{world} ranks": {"s/step": found[world]["step"], "share": found[world]["share"]} for world in found}
    show(f"{title}: time", rows)
    largest = found[max(found)]
    for grows, what in ((False, f"a batch of {BATCH}"), (True, f"{FILLED} images a GPU")):
        rows = {f"{world} GPUs": on_paper(world, largest, grows) for world in (1, 8, 64, 512)}
        show(f"on paper, {what}", rows)


if __name__ == "__main__":
    main()
