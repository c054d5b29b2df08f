"""What a planted defence claims under a naive attack, and what an attack that knows the defence leaves of it.

Both are written out here, as an evaluator would write them, and share no loop with rushkit's PGD: the self-test is not
to be judged by what it tests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rushkit.attacks.norms import ascent, project, random_start
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.ground import CLASSES
from rushkit.noises import settled
from rushkit.system import derived_seed, generator

STEPS = 40
# The length of all steps together, in radii of the ball.
_WAY = 2.5
# Maps logits (N, K) and labels (N,) to the sum that is climbed.
Loss = Callable[[Tensor, Tensor], Tensor]


def naive(case: Case, planted: Planted, x: Tensor, y: Tensor, seed: int = 0) -> float:
    """Return the share of images that are right after the attack behind the claim, out of all images.

    PGD of 40 steps of 2.5 eps / 40 along the slope of cross-entropy, on one draw a step, from a random start; the last
    iterate counts. ``Case.naive`` says whether each step draws afresh, or the attack holds one draw, which is not that
    of its judgement, or an image is left alone from the first answer that is not its label on. A rejection counts as
    right: that is the claim. A model whose output has no slope keeps its random start.

    Example::

        left = naive(case, case.build(ground), x[:128], y[:128])

    Args:
        case: Names the ball and the kind of attack.
        planted: What the case built.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) their labels.
        seed: Seeds every draw; the global random state is left as it was.
    """
    draw = derived_seed(seed, f"self-test naive {case.name}")
    held = draw if case.naive == "held" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw)
        x_adv = _start(case, x, seed)
        for _ in range(STEPS):
            logits, slope = _ascended(planted, planted.model, x_adv, y, _cross_entropy, held)
            stepped = _step(case, x, x_adv, slope)
            if case.naive == "rejecting":
                stepped = torch.where((logits.argmax(1) == y).view(-1, 1, 1, 1), stepped, x_adv)
            x_adv = stepped
        # After the last pass the generator goes on to a draw that the attack has not seen.
        return _right(planted, x_adv, y).float().mean().item()


def adaptive(case: Case, planted: Planted, x: Tensor, y: Tensor, seed: int = 0) -> float | None:
    """Return the share of images that an attack through the stand-in leaves right; None if there is no stand-in.

    PGD of 40 steps, as ``naive``, but of the stand-in's margin. The model itself judges every iterate, and an image
    counts as right if it is right at all of them. A model that is random by itself would lose by chance alone if it
    were asked so often: of it, fresh votes on the last iterate count. A rejection counts as right here too.

    Args:
        case: Names the ball.
        planted: What the case built.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) their labels.
        seed: Seeds every draw; the global random state is left as it was.
    """
    if planted.stand_in is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, f"self-test adaptive {case.name}"))
        once = _is_steady(planted, x)
        left = _right(planted, x, y)
        x_adv = _start(case, x, seed)
        for _ in range(STEPS):
            if once:
                left &= _right(planted, x_adv, y)
            _, slope = _ascended(planted, planted.stand_in, x_adv, y, _margin, None)
            x_adv = _step(case, x, x_adv, slope)
        last = _right(planted, x_adv, y)
        return (left & last if once else last).float().mean().item()


def _start(case: Case, x: Tensor, seed: int) -> Tensor:
    return random_start(x, case.norm, case.eps, generator(seed, f"self-test start {case.name}", device=x.device))


def _step(case: Case, x: Tensor, x_adv: Tensor, slope: Tensor) -> Tensor:
    return project(x, x_adv + ascent(slope, case.norm, _WAY * case.eps / STEPS), case.norm, case.eps)


def _ascended(
    planted: Planted, model: nn.Module, x: Tensor, y: Tensor, loss: Loss, held: int | None
) -> tuple[Tensor, Tensor]:
    """Return the logits (N, K) of one draw, and the slope (N, C, H, W) of their summed loss; 0 where there is none."""
    moved = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = _drawn(planted, model, moved, held)
        slope = None
        if logits.requires_grad:
            (slope,) = torch.autograd.grad(loss(logits, y), moved, allow_unused=True)
    return logits.detach(), torch.zeros_like(x) if slope is None else slope.nan_to_num(0.0)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, y, reduction="sum")


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the summed lead of the best other class over the label; classes beyond the data's are no answer."""
    logits = logits[:, :CLASSES]
    labels = nn.functional.one_hot(y, logits.shape[1]).bool()
    return (logits.masked_fill(labels, -torch.inf).amax(1) - logits[labels]).sum()


def _right(planted: Planted, x: Tensor, y: Tensor) -> Tensor:
    """Return for each image (N,) whether the vote of m draws is its label or a rejection."""
    with torch.no_grad():
        answers = torch.stack([_drawn(planted, planted.model, x).argmax(1) for _ in range(planted.samples)])
        answers = answers.mode(0).values
    return (answers == y) | (answers >= CLASSES)


def _is_steady(planted: Planted, x: Tensor) -> bool:
    """Return whether two passes of the same images give the same logits."""
    with torch.no_grad():
        return torch.equal(_drawn(planted, planted.model, x), _drawn(planted, planted.model, x))


def _drawn(planted: Planted, model: nn.Module, x: Tensor, held: int | None = None) -> Tensor:
    """Return the logits of one draw of the noise, and of the model's own randomness, from torch's global generator."""
    if held is not None:
        torch.manual_seed(held)
    logits: Tensor = model(settled(planted.noise, x + planted.noise.sample(x.detach())))
    return logits
