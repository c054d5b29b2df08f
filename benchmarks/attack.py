"""A smoothed PGD step and a vote beside the bare passes they need; torchattacks' PGDRS and EOTPGD beside ours.

    OMP_NUM_THREADS=1 python benchmarks/attack.py --backbone resnet18 --images 4 --samples 8
    python benchmarks/attack.py --device cuda --images 128 --samples 64

The peers are torchattacks, which rushkit depends on, and adversarial-robustness-toolbox's randomized smoothing, which
is optional: ``pip install adversarial-robustness-toolbox``.

A step of ours is the difference between attacks of three steps and of one, so that what an attack does once does not
count; the peers' likewise. The bare pass is a forward with its input gradient on as many images as a step has noisy
copies. The contestants take turns and each one's best round counts; on a CPU the ratios are of processor time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchattacks
from torch import nn

from rushkit import noises
from rushkit.bench import Cost, attack_contestants, race, vote_contestants
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import Network, build_backbone
from rushkit.setup.networks import num_features
from rushkit.system import choose_machine, generator

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


def report(title: str, unit: str, count: int, rows: dict[str, Cost], bare: Cost) -> None:
    """One table."""
    print(f"\n{title:22} {unit:>12} {'x bare cost':>12}")
    for name, cost in {"bare": bare, **rows}.items():
        print(f"{name:22} {count / cost.wall:12.1f} {cost.work / bare.work:12.3f}")


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30, help="for each of the two tables")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-fold", action="store_true", help="leave BatchNorm in the model")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # the peers draw from the global generators
    machine = choose_machine(arguments.device)
    x = torch.rand(arguments.images, 3, 32, 32, generator=generator(0, "images")).to(machine.device)
    encoder = build_backbone(arguments.backbone, {}, 3, 32, 0)
    network = Network(encoder, nn.Linear(num_features(encoder), 10)).to(machine.device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    if machine.precision == "float32" and not arguments.no_fold:
        network.encoder = fold_batch_norm(network.encoder, x[:2])
    noise, copies = noises.create("gaussian", scale=SCALE), arguments.images * arguments.samples
    print(f"{arguments.backbone}, {arguments.images} images, {arguments.samples} draws, {machine}")

    y = torch.arange(len(x), device=x.device) % 10
    contestants = attack_contestants(network, noise, x, arguments.samples, machine)
    costs = race({**contestants, **peers(network, x, y, arguments.samples)}, arguments.seconds, machine)
    steps = {"smoothed PGD step": costs["one"].a_step(costs["three"])}
    for name in ("PGDRS", "EOTPGD"):
        steps[f"{name} step"] = costs[f"{name} 1"].a_step(costs[f"{name} 3"])
    report("attack", "samples/s", copies, steps, costs["bare"])

    contestants = vote_contestants(network, noise, x, arguments.samples, machine)
    toolbox = toolbox_votes(network, x, arguments.samples)
    if toolbox is not None:
        contestants["toolbox"] = toolbox
    costs = race(contestants, arguments.seconds, machine)
    votes = {"vote": costs["ours"]} | ({"toolbox vote": costs["toolbox"]} if toolbox else {})
    report("votes", "samples/s", copies, votes, costs["bare"])
    if toolbox is None:
        print("adversarial-robustness-toolbox: not installed")


if __name__ == "__main__":
    main()
