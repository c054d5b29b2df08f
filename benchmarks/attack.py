"""A smoothed PGD step and a vote beside the bare passes they need; torchattacks' PGDRS and EOTPGD beside ours.

    OMP_NUM_THREADS=1 python benchmarks/attack.py --backbone resnet18 --images 4 --samples 8
    python benchmarks/attack.py --device cuda --images 128 --samples 64

The peers are torchattacks, which rushkit depends on, and adversarial-robustness-toolbox's randomized smoothing, which
is optional: ``pip install adversarial-robustness-toolbox``.

A step of ours is the difference between attacks of three steps and of one, so that what an attack does once does not
count; the peers' likewise. The bare pass is a forward with its input gradient on as many images as a step has noisy
copies, in float32, BatchNorm folded. Ours run in float32, and in bf16 where the device has units for it. The
contestants take turns and each one's best round counts; on a CPU the ratios are of processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchattacks
from precisions import machines
from ranges import show
from torch import nn

from rushkit import noises
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import Network, build_backbone
from rushkit.setup.networks import num_features
from rushkit.speed.bench import BARE, attack_contestants, race, vote_contestants
from rushkit.speed.figures import Cost
from rushkit.system import Machine, generator

EPS = 8 / 255
SCALE = 0.25


class Noisy(nn.Module):
    """Draws its own Gaussian noise in every pass: what EOTPGD expects."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of x under one draw."""
        return self.model(x + SCALE * torch.randn_like(x))


def pgdrs(model: nn.Module, steps: int, samples: int, images: int) -> torchattacks.PGDRS:
    """The RUSH authors' attack; its own name of the Gaussian is spelt so."""
    return torchattacks.PGDRS(
        model,
        EPS,
        2 / 255,
        steps,
        noise_type="guassian",
        noise_sd=SCALE,
        noise_batch_size=samples,
        batch_max=samples * images,
    )


def peers(model: nn.Module, x: torch.Tensor, y: torch.Tensor, samples: int) -> dict[str, Callable[[], object]]:
    """One and three steps of each torchattacks attack."""
    noisy = Noisy(model).eval()
    found: dict[str, Callable[[], object]] = {}
    for steps in (1, 3):
        found[f"PGDRS {steps}"] = partial(pgdrs(model, steps, samples, len(x)), x, y)
        found[f"EOTPGD {steps}"] = partial(torchattacks.EOTPGD(noisy, EPS, 2 / 255, steps, eot_iter=samples), x, y)
    return found


def toolbox_votes(model: nn.Module, x: torch.Tensor, samples: int) -> Callable[[], object] | None:
    """adversarial-robustness-toolbox's smoothed prediction, or None where it is not installed."""
    try:
        from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing
    except ImportError:
        return None
    smoothed = PyTorchRandomizedSmoothing(
        model,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        10,
        clip_values=(0.0, 1.0),
        sample_size=samples,
        scale=SCALE,
        alpha=0.001,
        device_type="gpu" if x.is_cuda else "cpu",
    )
    images = np.asarray(x.cpu())
    return lambda: smoothed.predict(images, batch_size=len(x) * samples)


def report(title: str, count: int, rows: dict[str, Cost], bare: Cost) -> None:
    """One table."""
    show(
        title,
        {
            name: {
                "samples/s": count / cost.wall,
                "x bare float32 cost": cost.work / bare.work,
                "x its speed": bare.work / cost.work,
            }
            for name, cost in {BARE: bare, **rows}.items()
        },
    )


def classifier(backbone: str, x: torch.Tensor, fold: bool) -> nn.Module:
    """A classifier of ten classes, with BatchNorm folded where that is asked for."""
    encoder = build_backbone(backbone, {}, 3, 32, 0)
    network = Network(encoder, nn.Linear(num_features(encoder), 10)).to(x.device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    if fold:
        network.encoder = fold_batch_norm(encoder, x[:2])
    return network


def ours(
    contestants: Callable[..., dict[str, Callable[[], object]]],
    network: nn.Module,
    x: torch.Tensor,
    samples: int,
    here: list[Machine],
) -> dict[str, Callable[[], object]]:
    """What takes turns: bare passes by their name, ours by name and precision."""
    noise, rows = noises.create("gaussian", scale=SCALE), {}
    for machine in here:
        for name, call in contestants(network, noise, x, samples, machine).items():
            rows[name if name.startswith("bare") else f"{name} {machine.precision}"] = call
    return rows


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30, help="for each of the two tables")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto: float32, and bf16 where the device has units for it")
    parser.add_argument("--no-fold", action="store_true", help="leave BatchNorm in the model")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the peers draw from the global generators
    here, samples = machines(arguments.device, arguments.precision), arguments.samples
    x = torch.rand(arguments.images, 3, 32, 32, generator=generator(0, "images")).to(here[0].device)
    network = classifier(arguments.backbone, x, not arguments.no_fold)
    copies = arguments.images * samples
    what = f"{arguments.backbone}, {arguments.images} images, {samples} draws, {here[0].device.type}"

    y = torch.arange(len(x), device=x.device) % 10
    contestants = ours(attack_contestants, network, x, samples, here)
    costs = race({**contestants, **peers(network, x, y, samples)}, arguments.seconds, here[0])
    steps = {
        f"smoothed PGD step {machine.precision}": costs[f"one {machine.precision}"].a_step(
            costs[f"three {machine.precision}"]
        )
        for machine in here
    }
    for name in ("PGDRS", "EOTPGD"):
        steps[f"{name} step"] = costs[f"{name} 1"].a_step(costs[f"{name} 3"])
    report(f"attack, {what}", copies, steps, costs[BARE])

    contestants = ours(vote_contestants, network, x, samples, here)
    toolbox = toolbox_votes(network, x, samples)
    if toolbox is not None:
        contestants["toolbox"] = toolbox
    costs = race(contestants, arguments.seconds, here[0])
    votes = {f"vote {machine.precision}": costs[f"ours {machine.precision}"] for machine in here}
    votes |= {"toolbox vote": costs["toolbox"]} if toolbox else {}
    report(f"votes, {what}", copies, votes, costs[BARE])
    if toolbox is None:
        print("adversarial-robustness-toolbox: not installed")


if __name__ == "__main__":
    main()
