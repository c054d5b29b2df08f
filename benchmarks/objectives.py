"""A training step of every objective that rushkit brings, beside the bare passes that it makes.

    OMP_NUM_THREADS=1 python benchmarks/objectives.py --backbone resnet18 --batch 16
    OMP_NUM_THREADS=1 python benchmarks/objectives.py --backbone resnet10-small --batch 256 pgd-at trades

Ours goes from uint8 images to new weights: views, draws, attack, loss, backward, optimizer. The bare passes are those
that the network was seen to make in such a step, on the same inputs, ready-made: forward alone, forward and backward
to the input, or forward, backward to the weights and optimizer. F is their cost for an image in forward passes, where
these three count 1, 2 and 3. The contestants take turns and each one's best round counts; on a CPU the ratios are of
processor time, which a busy machine distorts least.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.bench import race
from rushkit.distributed.share import Share
from rushkit.errors import UsageError
from rushkit.models.modes import frozen, in_eval_mode
from rushkit.models.network import Network
from rushkit.recipe.load import load_recipe
from rushkit.registries import objectives
from rushkit.registry import BUILTIN_OWNER
from rushkit.setup.start import machine_of
from rushkit.system import Machine, generator
from rushkit.training.batch import Draws, StepBatch
from rushkit.training.finetune import finetuning_job
from rushkit.training.job import TrainingJob
from rushkit.training.loop import build_optimizer, given_channels_last, train_batch
from rushkit.training.pretrain import pretraining_job
from rushkit.training.teacher import stand_in

Kind = Literal["forward", "input", "weights"]
COST: dict[Kind, int] = {"forward": 1, "input": 2, "weights": 3}


@dataclass(frozen=True)
class Pass:
    """A pass of a network that was seen.

    Attributes:
        network: The network.
        x: (n, C, H, W) its input, a leaf that requires a gradient where the input did.
        kind: How far back the gradient goes.
        training: Whether the network was in training mode.
    """

    network: nn.Module
    x: Tensor
    kind: Kind
    training: bool

    @property
    def setting(self) -> tuple[int, Kind, bool]:
        """What passes that run one after another share."""
        return id(self.network), self.kind, self.training


@dataclass
class Seen:
    """The passes of a step, grouped by the optimizer step that they lead to."""

    groups: list[list[Pass]] = field(default_factory=lambda: [[]])

    def passes_an_image(self, images: int) -> float:
        """F, the cost for an image in forward passes."""
        return sum(COST[seen.kind] * len(seen.x) for group in self.groups for seen in group) / images


def kind_of(network: nn.Module, x: Tensor) -> Kind:
    """Tell how far back the gradient of a pass goes."""
    if not torch.is_grad_enabled():
        return "forward"
    if any(parameter.requires_grad for parameter in network.parameters()):
        return "weights"
    return "input" if x.requires_grad else "forward"


@contextmanager
def watching(job: TrainingJob, optimizer: torch.optim.Optimizer) -> Iterator[Seen]:
    """See the passes of the job's network, and of networks and the teacher in its memory, in this block."""
    seen = Seen()

    def note(network: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].detach().contiguous(memory_format=torch.channels_last).clone()
        x.requires_grad_(given[0].requires_grad)
        seen.groups[-1].append(Pass(network, x, kind_of(network, given[0]), network.training))

    with ExitStack() as stack:
        for module in (job.network, *job.memory.modules()):
            if isinstance(module, Network) or module is job.teacher:
                stack.callback(module.register_forward_pre_hook(note).remove)
        stack.callback(optimizer.register_step_post_hook(lambda *_: seen.groups.append([])).remove)
        yield seen


def replay(seen: Seen, optimizer: torch.optim.Optimizer, machine: Machine) -> None:
    """Make the passes that were seen, and nothing else."""
    for group in seen.groups:
        for each in group:
            each.x.grad = None
        losses: list[Tensor] = []
        for _, passes in groupby(group, key=lambda each: each.setting):
            losses += run_alike(list(passes), machine)
        if losses:
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            optimizer.step()


def run_alike(passes: list[Pass], machine: Machine) -> list[Tensor]:
    """Make passes of one setting, and return the losses whose gradient goes to the weights."""
    first = passes[0]
    with ExitStack() as stack:
        if not first.training:
            stack.enter_context(in_eval_mode(first.network))
        if first.kind == "forward":
            stack.enter_context(torch.no_grad())
        if first.kind == "input":
            stack.enter_context(frozen(first.network))
        losses = []
        for each in passes:
            with machine.autocast():
                loss = first.network(each.x).float().square().mean()
            if each.kind == "input":
                torch.autograd.grad(loss, each.x)
            losses.append(loss)
    return losses if first.kind == "weights" else []


def job_of(name: str, batch: int, changes: Sequence[str] = ()) -> tuple[TrainingJob, Machine]:
    """Return the training of an objective on real digits, with the default of each option that is not changed."""
    stage = objectives.get(name).stage  # type: ignore[attr-defined]
    given = [f"{stage}.objective={name}", f"{stage}.batch_size={batch}", "finetune.freeze=none", *changes]
    for noise in ("gaussian", "none"):
        recipe = load_recipe("digits", [f"noise.name={noise}", *(["noise.std=0.25"] * (noise == "gaussian")), *given])
        machine = machine_of(recipe)
        try:
            if stage == "pretrain":
                return pretraining_job(recipe, machine, teacher=stand_in(recipe))[0], machine
            return finetuning_job(recipe, None, machine)[0], machine
        except UsageError:
            if noise == "none":
                raise
    raise AssertionError


def contestants_of(job: TrainingJob, machine: Machine) -> tuple[dict[str, Callable[[], object]], Seen]:
    """Return a step of a job beside its bare passes, and these."""
    job.set_modes()
    machine.compile_in_place(job.network, *job.memory.children())
    optimizer = build_optimizer(job.settings.optimizer, job.trained, machine.device)
    count = job.settings.batch_size
    images, labels = job.split.images[:count].to(machine.device), job.split.labels
    labels = None if labels is None else labels[:count].to(machine.device)
    draws = Draws(job.views, job.noise)

    def ours() -> None:
        share, source = Share(0, count, count), generator(0, "bench", device=machine.device)
        # Half-way: no warm-up of a radius, no epoch without the objective's second part.
        batch = StepBatch(images, labels, 0.5, job.settings.epochs / 2, share, source, draws, len(job.classes))
        with given_channels_last(job.network):
            train_batch(batch, job, optimizer, machine, (0, 0, 0))

    with watching(job, optimizer) as seen:
        ours()
    return {"bare": lambda: replay(seen, optimizer, machine), "ours": ours}, seen


def main() -> None:
    """Measure and print the table."""
    builtin = [entry.name for entry in objectives.entries() if entry.owner == BUILTIN_OWNER]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objectives", nargs="*", metavar="NAME", help="none: all")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20, help="for each objective; at least three rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changes = (f"backbone.name={arguments.backbone}", "data.image_size=32", *arguments.set)
    for index, name in enumerate(arguments.objectives or builtin):
        job, machine = job_of(name, arguments.batch, changes)
        contestants, seen = contestants_of(job, machine)
        costs = race(contestants, arguments.seconds, machine)
        if not index:
            print(f"{arguments.backbone}, batch {arguments.batch}, {machine}")
            print(f"{'':16} {'F':>6} {'s/step':>9} {'bare':>9} {'x bare':>8}")
        ours, bare = costs["ours"], costs["bare"]
        print(
            f"{name:16} {seen.passes_an_image(arguments.batch):6.1f} {ours.wall:9.4f} "
            f"{bare.wall:9.4f} {ours.work / bare.work:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
