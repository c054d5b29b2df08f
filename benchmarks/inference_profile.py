"""Where the time of a smoothed PGD step and of a vote goes, beside the bare passes that they need.

    OMP_NUM_THREADS=1 python benchmarks/inference_profile.py --backbone resnet10-small --images 16
    python benchmarks/inference_profile.py --device cuda --images 128 --samples 64

A step is half of what an attack of three steps takes beyond one of one step; a vote counts the answers for all draws.
The bare passes are a forward with its input gradient, and a forward, on as many images, BatchNorm folded. An operator's
own time counts, as in ``step_profile.py``. Ours run in float32, and in bf16 where the device has units for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from attack import SCALE, classifier
from precisions import machines
from step_profile import Marked, profiled

from rushkit import noises
from rushkit.speed.bench import attack_contestants, bare_name, vote_contestants
from rushkit.system import Machine, generator

Kinds = dict[str, float]


def half_of_two(three: Mapping[str, float], one: Mapping[str, float]) -> Kinds:
    """Return the seconds of one step by kind, from those of an attack of three steps and of one."""
    return {kind: max(0.0, seconds - one.get(kind, 0.0)) / 2 for kind, seconds in three.items()}


def by_kind(calls: Mapping[str, Callable[[], object]], names: Mapping[str, str], machine: Machine) -> dict[str, Kinds]:
    """Profile some calls after a warm-up.

    Args:
        calls: Name -> call.
        names: What each call to profile is called in the table.
        machine: Where they run.
    """
    found = {}
    for name, called in names.items():
        calls[name]()
        found[called] = profiled(calls[name], machine)
    return found


def lines_of(title: str, kinds: Kinds, copies: int) -> list[str]:
    """Return the lines of one table."""
    total = sum(kinds.values())
    rows = sorted(kinds.items(), key=lambda row: -row[1])
    return [
        f"\n{title}: {1e3 * total:.1f} ms of operators, {1e6 * total / copies:.0f} us an image",
        *(f"  {kind:12} {1e3 * seconds:9.3f} ms {100 * seconds / total:6.1f} %" for kind, seconds in rows),
    ]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--noise", default="gaussian")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="auto: float32, and bf16 where the device has units for it")
    arguments = parser.parse_args()
    here = machines(arguments.device, arguments.precision)
    x = torch.rand(arguments.images, 3, 32, 32, generator=generator(0, "images")).to(here[0].device)
    network = classifier(arguments.backbone, x, fold=True)
    noise = Marked(noises.create(arguments.noise, std=SCALE))
    copies = arguments.images * arguments.samples
    print(f"{arguments.backbone}, {arguments.images} images, {arguments.samples} draws of {arguments.noise}, {here[0]}")
    for machine in here:
        bare, precision = bare_name(machine.precision), machine.precision
        calls = attack_contestants(network, noise, x, arguments.samples, machine)
        found = by_kind(
            calls, {"three": "three", "one": "one", bare: f"forward and input gradient, {precision}"}, machine
        )
        step = half_of_two(found.pop("three"), found.pop("one"))
        found = {f"PGD step, {precision}": step, **found}
        calls = vote_contestants(network, noise, x, arguments.samples, machine)
        found |= by_kind(calls, {"ours": f"vote, {precision}", bare: f"forward, {precision}"}, machine)
        for title, kinds in found.items():
            print("\n".join(lines_of(title, kinds, copies)), flush=True)


if __name__ == "__main__":
    main()
