"""Noisy copies that `rushkit certify` counts a second, as a fraction of the images a second of the bare model.

    OMP_NUM_THREADS=1 python benchmarks/votes.py
    python benchmarks/votes.py --backbone resnet18 --device cuda --precision bf16 --batch 4096 --draws 100000

One image's draws go through the counting of ``rushkit certify`` and, beside it, through SmoothedClassifier.votes; the
bare model sees the same number of clean images in batches of the same size. The three take turns, and each one's
best round counts, so that a busy machine slows all alike; on a CPU it is the process's own time that counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from rushkit import noises
from rushkit.certification.draws import count_votes
from rushkit.models.network import build_backbone
from rushkit.models.passes import MOST
from rushkit.setup.networks import num_features
from rushkit.setup.subject import LowPrecision
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine, choose_machine, generator
from rushkit.units import noisy_unit, unit_sizes


def contestants(args: argparse.Namespace, machine: Machine) -> dict[str, Callable[[], object]]:
    """What takes turns, by name."""
    device, batch = machine.device, args.batch or MOST[machine.device.type]
    encoder = build_backbone(args.backbone, {}, 3, args.size, 0)
    network = torch.nn.Sequential(encoder, torch.nn.Linear(num_features(encoder), 10)).to(device).eval()
    network = network.to(memory_format=torch.channels_last).requires_grad_(False)
    model = LowPrecision(network, machine)
    noise = noises.create(args.noise, scale=0.25)
    x = torch.rand(1, 3, args.size, args.size, generator=generator(0, "image")).to(device)
    x = (x * 255).round() / 255
    images = x.expand(batch, -1, -1, -1).contiguous()
    g = SmoothedClassifier(model, noise, chunk=batch, seed=0)

    @torch.no_grad()
    def bare() -> None:
        for start in range(0, args.draws, batch):
            model(images[: min(batch, args.draws - start)])
        if device.type == "cuda":
            torch.cuda.synchronize()

    def certify() -> None:
        units = enumerate(unit_sizes(args.draws))
        count_votes(
            model, ((0, noisy_unit(noise, x[0], size, 0, "bench", unit)) for unit, size in units), 1, 10, batch, device
        )

    return {"bare model": bare, "certify": certify, "SmoothedClassifier": lambda: g.votes(x, args.draws).cpu()}


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
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    machine = choose_machine(args.device, args.precision)
    rows = contestants(args, machine)
    for run in rows.values():
        run()
    clock = time.process_time if machine.device.type == "cpu" else time.perf_counter
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(args.rounds):
        for name, run in rows.items():
            started = clock()
            run()
            best[name] = min(best[name], clock() - started)
    print(f"{args.backbone}, {args.noise}, {args.draws} draws of one image, {machine}")
    for name, seconds in best.items():
        share = best["bare model"] / seconds
        print(f"{name:20s} {args.draws / seconds:10.0f} images/s   {share:.3f} of the bare model")


if __name__ == "__main__":
    main()
