"""A pre-training step beside the bare model's forward, backward and optimizer; and lightly's, if installed.

    OMP_NUM_THREADS=1 python benchmarks/step.py --backbone resnet18 --batch 32
    python benchmarks/step.py --batch 512 --device cuda --seconds 60

For the optional peer: ``pip install lightly``.

Ours goes from uint8 images to new weights: two views, noise, one forward of both, NT-Xent, backward, optimizer. The
bare step gets the same inputs ready-made. lightly's makes its views image by image, as its DataLoader's workers would,
and does the same passes with its own loss. The contestants take turns and each one's best round counts; on a CPU the
ratios are of processor time, which a busy machine distorts least.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torchvision import transforms

from rushkit.bench import bench_job, race, training_contestants
from rushkit.recipe.load import load_recipe
from rushkit.recipe.schema import Recipe
from rushkit.setup.start import machine_of
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
        with machine.autocast():
            loss = criterion(*job.network(inputs).chunk(2))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the peer draws from the global generators
    changes = {
        "backbone.name": arguments.backbone,
        "pretrain.batch_size": arguments.batch,
        "system.device": arguments.device,
    }
    recipe = load_recipe("cifar10", [f"{key}={value}" for key, value in changes.items()])
    machine = machine_of(recipe)
    job, _ = bench_job(recipe, machine)
    contestants = training_contestants(job, recipe, machine)
    peer = lightly_step(job, recipe, machine)
    if peer is not None:
        contestants["lightly"] = peer
    costs = race(contestants, arguments.seconds, machine)
    print(f"{arguments.backbone}, batch {arguments.batch}, {machine}")
    print(f"{'':10} {'s/step':>9} {'x bare':>8}")
    for name, cost in costs.items():
        print(f"{name:10} {cost.wall:9.4f} {cost.work / costs['bare'].work:8.3f}")
    if peer is None:
        print("lightly    not installed")


if __name__ == "__main__":
    main()
