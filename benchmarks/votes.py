"""Noisy copies that `rushkit certify` counts a second, as a fraction of the images a second of the bare model.

    OMP_NUM_THREADS=1 python benchmarks/votes.py
    python benchmarks/votes.py --backbone resnet18 --device cuda --batch 4096 --draws 100000

One image's draws go through the counting of ``rushkit certify`` and, beside it, through SmoothedClassifier.votes; in
float32, with BatchNorm folded as `certify` loads a model, and in bf16 where the device has units for it. The bare
model, folded and in float32, sees the same number of clean images in batches of the same size. All take turns, and each
one's best round counts, so that a busy machine slows all alike; on a CPU it is the process's own time that counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from precisions import machines
from ranges import show
from torch import nn

from rushkit import noises
from rushkit.certification.draws import count_votes
from rushkit.models.fold import fold_batch_norm
from rushkit.models.network import build_backbone
from rushkit.models.passes import MOST
from rushkit.setup.networks import num_features
from rushkit.setup.subject import in_precision
from rushkit.smoothing import SmoothedClassifier
from rushkit.speed.bench import BARE
from rushkit.system import Machine, generator
from rushkit.units import noisy_unit, unit_sizes


def classifier(args: argparse.Namespace, device: torch.device) -> nn.Module:
    """A classifier of ten classes, with BatchNorm folded."""
    encoder = build_backbone(args.backbone, {}, 3, args.size, 0)
    head = nn.Linear(num_features(encoder), 10).to(device)
    encoder = encoder.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    example = torch.rand(2, 3, args.size, args.size, generator=generator(0, "fold")).to(device)
    return nn.Sequential(fold_batch_norm(encoder, example), head).eval().requires_grad_(False)


def contestants(args: argparse.Namespace, here: Sequence[Machine]) -> dict[str, Callable[[], object]]:
    """What takes turns, by name."""
    device = here[0].device
    batch = args.batch or MOST[device.type]
    network = classifier(args, device)
    noise = noises.create(args.noise, scale=0.25)
    x = torch.rand(1, 3, args.size, args.size, generator=generator(0, "image")).to(device)
    x = (x * 255).round() / 255
    images = x.expand(batch, -1, -1, -1).contiguous()

    @torch.no_grad()
    def bare() -> None:
        for start in range(0, args.draws, batch):
            network(images[: min(batch, args.draws - start)])
        if device.type == "cuda":
            torch.cuda.synchronize()

    def certify(model: nn.Module) -> None:
        units = enumerate(unit_sizes(args.draws))
        count_votes(
            model, ((0, noisy_unit(noise, x[0], size, 0, "bench", unit)) for unit, size in units), 1, 10, batch, device
        )

    def votes(g: SmoothedClassifier) -> None:
        g.votes(x, args.draws).cpu()

    rows: dict[str, Callable[[], object]] = {BARE: bare}
    for machine in here:
        model = in_precision(network, machine)
        rows[f"certify {machine.precision}"] = partial(certify, model)
        g = SmoothedClassifier(model, noise, chunk=batch, seed=0)
        rows[f"SmoothedClassifier {machine.precision}"] = partial(votes, g)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet10-small")
    parser.add_argument("--noise", default="gaussian")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--draws", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=0, help="images in one pass; 0: what suits the device")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto: float32, and bf16 where the device has units for it")
    args = parser.parse_args()
    here = machines(args.device, args.precision)
    rows = contestants(args, here)
    for run in rows.values():
        run()
    clock = time.process_time if here[0].device.type == "cpu" else time.perf_counter
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(args.rounds):
        for name, run in rows.items():
            started = clock()
            run()
            best[name] = min(best[name], clock() - started)
    rates = {
        name: {"images/s": args.draws / seconds, "x bare float32 speed": best[BARE] / seconds}
        for name, seconds in best.items()
    }
    show(f"certify's draws, {args.backbone}, {args.noise}, {args.draws} of one image, {here[0].device.type}", rates)


if __name__ == "__main__":
    main()
