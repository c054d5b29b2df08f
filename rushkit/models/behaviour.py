"""Find out how somebody's classifier behaves: whether it repeats itself, minds the other images, and has a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.errors import RushkitError
from rushkit.models.draws import global_draws, global_states, kept_draws, seed_draws
from rushkit.models.modes import in_eval_mode
from rushkit.models.repeats import RANDOM_FROM, relative_change
from rushkit.models.trial import MISFITS

# Images of the first passes, and of the later ones, which look for randomness that shows rarely.
ROWS = 8
_FEW = 3
_LATER = 6


@dataclass(frozen=True)
class Behaviour:
    """How a classifier behaves on a few images.

    Attributes:
        classes: K.
        change: The largest change of a logit from one pass to another, as a share of the largest logit.
        draws: Whether it takes random numbers from the global generators of torch, numpy or Python.
        minds_batch: Whether the logits of an image depend on the images beside it; False for a random classifier.
        differentiable: Whether its logits have a gradient by the images.
        flat: Whether that gradient is zero for all of the images.
    """

    classes: int
    change: float
    draws: bool
    minds_batch: bool
    differentiable: bool
    flat: bool

    @property
    def random(self) -> bool:
        """Whether the classifier is random by itself, as far as the passes show."""
        return self.draws or self.change > RANDOM_FROM


def behaviour(model: nn.Module, x: Tensor) -> Behaviour:
    """Run a classifier a dozen times on a few images, in eval mode, and compare its logits.

    Randomness from a source of the model's own that shows in few passes may stay unseen.

    Args:
        model: (N, C, H, W) images in [0, 1] -> (N, K) logits.
        x: (8, C, H, W) images.
    """

    def run(rows: Tensor) -> Tensor:
        logits: Tensor = model(rows)
        return logits

    with in_eval_mode(model), torch.no_grad(), kept_draws(x.device):
        draws, first = _draws(run, x[:_FEW]), run(x)
        change = _largest_change(run, x, first)
        minds_batch = not draws and change <= RANDOM_FROM and _minds_batch(run, x, first)
    with in_eval_mode(model), kept_draws(x.device):
        differentiable, flat = _gradient(model, x[:_FEW])
    return Behaviour(first.shape[1], change, draws, minds_batch, differentiable, flat)


def trial_images(channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return (8, C, H, W) images in [0, 1] to try a classifier on: half of them pixel noise, half soft colours."""
    half = ROWS // 2
    noise = torch.rand(half, channels, height, width, generator=generator)
    colours = torch.rand(half, channels, 3, 3, generator=generator)
    soft = torch.nn.functional.interpolate(colours, (height, width), mode="bilinear", align_corners=False)
    return torch.cat([noise, soft])


def _draws(run: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Return whether a pass takes random numbers from the global generators.

    It moves them then, and two starts end in two states: who seeds the generators in each pass draws the same.
    """
    ends = []
    for number in range(2):
        seed_draws(number, "behaviour", device=x.device)
        before = global_states(x.device)
        run(x)
        ends.append(global_states(x.device))
        if ends[-1] == before:
            return False
    return ends[0] != ends[1]


def _largest_change(run: Callable[[Tensor], Tensor], x: Tensor, first: Tensor) -> float:
    change = relative_change(first, run(x))
    few = run(x[-_FEW:])
    for number in range(_LATER):
        with global_draws(number, "behaviour again", device=x.device):
            change = max(change, relative_change(few, run(x[-_FEW:])))
    return change


def _minds_batch(run: Callable[[Tensor], Tensor], x: Tensor, first: Tensor) -> bool:
    """Return whether the place of an image, or fewer images beside it, change its logits."""
    middle = slice(_FEW, 2 * _FEW)
    return relative_change(first[middle], run(x[middle])) > RANDOM_FROM


def _gradient(model: nn.Module, x: Tensor) -> tuple[bool, bool]:
    """Return whether the logits have a gradient by the images, and whether it is zero everywhere."""
    probe = x.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            log_prob = torch.log_softmax(model(probe), dim=1)
            if not log_prob.requires_grad:
                return False, False
            (gradient,) = torch.autograd.grad(log_prob[:, 0].sum(), probe, allow_unused=True)
    except (RushkitError, *MISFITS):
        # Such as numpy's refusal of a tensor with a gradient.
        return False, False
    return gradient is not None, gradient is not None and not bool(gradient.any())
