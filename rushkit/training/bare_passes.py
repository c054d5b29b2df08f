"""The passes of networks that a training step makes, seen once and made again without anything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.models.modes import frozen, in_eval_mode
from rushkit.models.network import Network
from rushkit.system import Machine
from rushkit.training.job import TrainingJob

Kind = Literal["forward", "input", "weights"]
# The cost of a pass in forward passes.
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
