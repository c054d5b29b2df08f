"""A pre-training step beside its bare passes; and lightly's, if installed.

    OMP_NUM_THREADS=1 python benchmarks/step.py --backbone resnet18 --batch 32
    python benchmarks/step.py --batch 512 --device cuda --seconds 60

For the optional peer: ``pip install lightly``.

Ours goes from uint8 images to new weights: two views, noise, one forward of both, NT-Xent, backward, optimizer; in
float32, and in bf16 where the device has units for it. The bare passes get the same inputs ready-made. lightly's makes
its views image by image, as its DataLoader's workers would, and does the same passes with its own loss, in float32. The
contestants take turns and each one's best round counts; on a CPU the ratios are of processor time, which a busy machine
distorts least.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from precisions import machines
from ranges import show
from torchvision import transforms

from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.speed.bench import BARE, bench_job, race, step_contestants
from rushkit.speed.figures import Cost
from rushkit.system import Machine
from rushkit.training.job import TrainingJob
from rushkit.training.optimizer import build_optimizer


def lightly_step(job: TrainingJob, recipe: Recipe, machine: Machine) -> Callable[[], object] | None:
    """A step with lightly's transform and loss on the same network, or None where it is not installed."""
    try:
        from lightly.loss import NTXentLoss
        from lightly.transforms.simclr_transform import SimCLRTransform
    except ImportError:
        return None
    size = job.split.images.shape[-1]
    transform = SimCLRTransform(input_size=size, cj_strength=0.5, gaussian_blur=0.0, normalize=None)
    to_pil, images = transforms.ToPILImage(), job.split.images.cpu()
    criterion = NTXentLoss(temperature=recipe.pretrain.temperature)
    optimizer = build_optimizer(recipe.pretrain.optimizer, list(job.network.parameters()), machine.device)

    def step() -> None:
        pairs = [transform(to_pil(image)) for image in images]
        first, second = (torch.stack([pair[view] for pair in pairs]).to(machine.device) for view in (0, 1))
        inputs = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
        loss = criterion(*job.network(inputs).chunk(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def row(cost: Cost, costs: Mapping[str, Cost]) -> dict[str, float]:
    """Return the figures of a contestant."""
    bare = costs[BARE].work
    figures = {"s/step": cost.wall, "x bare float32 cost": cost.work / bare, "x its speed": bare / cost.work}
    return figures | ({"x lightly's speed": costs["lightly"].work / cost.work} if "lightly" in costs else {})


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto: float32, and bf16 where the device has units for it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the peer draws from the global generators
    changes = (f"backbone.name={arguments.backbone}", f"pretrain.batch_size={arguments.batch}")
    recipe = load_recipe("cifar10", [*changes, f"system.device={arguments.device}"])
    contestants: dict[str, Callable[[], object]] = {}
    for machine in machines(arguments.device, arguments.precision):
        job, _ = bench_job(recipe, machine)
        made, _ = step_contestants(job, machine)
        contestants |= {f"ours {machine.precision}": made.pop("ours"), **made}
    full = replace(machine, precision="float32")
    peer = lightly_step(bench_job(recipe, full)[0], recipe, full)
    if peer is not None:
        contestants["lightly"] = peer
    costs = race(contestants, arguments.seconds, machine)
    title = (
        f"step, {arguments.backbone}, batch {arguments.batch}, {machine.device.type}, {torch.get_num_threads()} threads"
    )
    show(title, {name: row(cost, costs) for name, cost in costs.items()})
    if peer is None:
        print("lightly       not installed")


if __name__ == "__main__":
    main()
