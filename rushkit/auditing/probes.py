"""Probe a model by single passes, before any attack: its slopes, its continuity, its batches and what it returns.

An attack follows slopes, so figures under attack mean something only where a slope says how the model changes, and
where the answer for an image does not depend on those beside it. The probes are those of RK122, RK124, RK125 and RK132
in docs/audit.md; they depend on the images, their labels and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor

from rushkit.attacks.guard import untouched
from rushkit.attacks.losses import margin
from rushkit.attacks.symptoms import are_probabilities
from rushkit.attacks.victim import Victim, under_attack
from rushkit.auditing.rejections import RealClasses
from rushkit.checked import checked_logits, not_finite
from rushkit.errors import UsageError
from rushkit.noises import noisy_images
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed, generator

# Images that are probed at most, directions at each of them, and the draws of the panel that they share.
IMAGES, DIRECTIONS, PANEL_DRAWS = 64, 4, 16
# How far the probes move every pixel, in pixel units: a step of an attack, and one that should change next to nothing.
STEP, TINY_STEP = 1e-2, 1e-5
# What rounding may change in a logit, as a share of the image's largest logit: in float32 (deep networks included), and
# where the model returns float16 or bfloat16.
ROUNDING, ROUNDING_HALF = 1e-5, 1e-2
# Images that are looked at alone and behind as many others, at most, and the fewest that say anything.
ROWS, FEWEST_ROWS = 16, 2
# A change at STEP that is so many times what rounding explains is no accident, and neither is its ratio to a tiny one.
_ABOVE_ROUNDING = 20


@dataclass(frozen=True)
class Slopes:
    """How the slopes of the margin M (the best other class less the label) agree with how M changes.

    A pair is an image and a random direction u of signs: the slope ∇M·u, and [M(x + hu) − M(x − hu)] / 2h, h = 0.01.
    What rounding may explain counts as 0.

    Attributes:
        pairs: Number of pairs whose slope is finite.
        moving: Pairs in which the slope or the change is not 0.
        correlation: Spearman's rank correlation of the two; None where one of them is the same in all pairs.
        zero_slopes: Whether every slope is 0.
        zero_changes: Whether every change is 0.
        cut: Whether the output does not depend on the input differentiably, which counts as slopes of 0.
    """

    pairs: int
    moving: int
    correlation: float | None
    zero_slopes: bool
    zero_changes: bool
    cut: bool


@dataclass(frozen=True)
class Jumps:
    """How much of what a large step of every pixel changes in the base model's logits a tiny one changes as well.

    Attributes:
        images: Images that the large step changes by so much that rounding alone cannot make the ratio large.
        ratio: Mean largest change of a logit at a step of 1e-5, over that at 1e-2, of these images; 0 without any.
    """

    images: int
    ratio: float


@dataclass(frozen=True)
class Mates:
    """How the base model's answers for images depend on the images in the same batch.

    Attributes:
        images: Images that went through the model one by one, and behind as many others in one batch.
        change: The largest difference of a logit from that in the plain batch, over the largest logit.
        other_answers: Images with another answer, one by one or behind others, than in the plain batch; where the lead
            of an answer is no more than rounding explains, it counts as both.
    """

    images: int
    change: float
    other_answers: int


@dataclass(frozen=True)
class Probes:
    """What the probes of a model found.

    Attributes:
        slopes: How its slopes agree with how it changes, at images that are right before any attack.
        jumps: How continuous the base model is; None if it is random by itself.
        mates: How it depends on the batch; None if it is random by itself, or if there are fewer than four images.
        low_precision: Whether the base model answers in float16 or bfloat16.
        probabilities: Whether it returned probabilities for every image: outputs within [0, 1] that sum to 1.
        backwards: Images that went backward through the model; the classifier counts those that went forward.
    """

    slopes: Slopes
    jumps: Jumps | None
    mates: Mates | None
    low_precision: bool
    probabilities: bool
    backwards: int


def probe(g: SmoothedClassifier, x: Tensor, y: Tensor, right: list[int], seed: int) -> Probes:
    """Probe a model at images.

    Args:
        g: The model under its noise; it counts the forward passes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        right: Indices of the images that are right before any attack.
        seed: Seeds every draw.

    Raises:
        NumericsError: some logits are NaN or infinite.
    """
    with untouched(g, derived_seed(seed, "audit probe")):
        base, jumps, mates = _Base(g), None, None
        if g.own_draws:
            for some in base.blocks(base.copies(x[:IMAGES], seed)):
                base(some)
        else:
            jumps, mates = _jumps(base, x[:IMAGES], seed), _mates(base, x, seed)
    slopes, backwards = _slopes(g, x[right][:IMAGES], y[right][:IMAGES], base.rounding, seed)
    return Probes(slopes, jumps, mates, base.low_precision, base.probabilities, backwards)


def batch_mates(g: SmoothedClassifier, x: Tensor, seed: int) -> tuple[Mates | None, bool]:
    """Look at images alone and behind others alone, as ``probe`` does, and return whether the answers are in float16.

    Args:
        g: The model under its noise; it counts the forward passes.
        x: (N, C, H, W) images in [0, 1].
        seed: Seeds every draw.

    Returns:
        What was found, None for a model that is random by itself or fewer than four images; and whether the base model
        answers in float16 or bfloat16.

    Raises:
        NumericsError: some logits are NaN or infinite.
    """
    if g.own_draws:
        return None, False
    with untouched(g, derived_seed(seed, "audit probe")):
        base = _Base(g)
        return _mates(base, x, seed), base.low_precision


class _Base:
    """The base model as it answers one batch, without the noise and the chunks of its classifier.

    Attributes:
        low_precision: Whether it has answered in float16 or bfloat16.
        probabilities: Whether all of its outputs so far were probabilities.
    """

    def __init__(self, g: SmoothedClassifier) -> None:
        self._g = g
        # Probabilities sum to 1 with those of a rejection alone; the logits are of the real classes.
        self._whole = g.model.whole if isinstance(g.model, RealClasses) else g.model
        self._classes = g.model.classes if isinstance(g.model, RealClasses) else None
        self.low_precision = False
        self.probabilities = True

    @property
    def rounding(self) -> float:
        """What rounding may change in a logit, as a share of the largest, in the precision of the answers."""
        return ROUNDING_HALF if self.low_precision else ROUNDING

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W) as float64 on the CPU. Raises NumericsError if not finite."""
        self._g.image_forwards += len(x)
        outputs = checked_logits(self._whole(x), len(x))
        if not torch.isfinite(outputs).all():
            raise not_finite()
        self.low_precision |= outputs.dtype in (torch.float16, torch.bfloat16)
        outputs = outputs.cpu().double()
        self.probabilities &= are_probabilities(outputs, self.rounding)
        return outputs[:, : self._classes]

    def copies(self, x: Tensor, seed: int) -> Tensor:
        """Return noisy copies of images (N, C, H, W), one fixed draw each: what the base model is made for."""
        return noisy_images(self._g.noise, x, generator(seed, "audit probe copies", device=x.device))

    def blocks(self, x: Tensor) -> Iterator[Tensor]:
        """Yield images in blocks that the model has memory for."""
        yield from x.split(self._g.chunk or len(x))


def _jumps(base: _Base, x: Tensor, seed: int) -> Jumps:
    """Measure how the logits change when every pixel moves up or down at random, by a tiny step and by a large one."""
    x = base.copies(_inside(x), seed)
    u = _signs(x, seed, "audit probe jump")
    parts = []
    for some, way in zip(base.blocks(x), base.blocks(u), strict=True):
        here = base(some)
        changes = [(base(some + step * way) - here).abs().amax(dim=1) for step in (TINY_STEP, STEP)]
        parts.append(torch.stack([*changes, here.abs().amax(dim=1)]))
    tiny, large, size = torch.cat(parts, dim=1)
    beyond = large > _ABOVE_ROUNDING * base.rounding * size
    return Jumps(int(beyond.sum()), float(tiny[beyond].sum() / large[beyond].sum()) if beyond.any() else 0.0)


def _mates(base: _Base, x: Tensor, seed: int) -> Mates | None:
    """Compare the logits of images in a plain batch with those one by one, and behind as many others in one batch."""
    rows = min(ROWS, len(x) // 2)
    if rows < FEWEST_ROWS:
        return None
    x = base.copies(x[: 2 * rows], seed)
    first, others = x.split(rows)
    plain = base(first)
    # Whatever the chunk: a forward pass of a few images takes less than the gradients of one chunk.
    moved = torch.stack([torch.cat([base(row) for row in first.split(1)]), base(torch.cat([others, first]))[rows:]])
    largest = max(float(plain.abs().amax()), float(moved.abs().amax()))
    # The answer in the plain batch leads what is the answer elsewhere by more than rounding explains.
    lead = plain.amax(dim=1) - plain.gather(1, moved.argmax(dim=2).mT).mT
    return Mates(
        images=rows,
        change=float((moved - plain).abs().amax()) / largest if largest else 0.0,
        other_answers=int((lead > base.rounding * largest).any(dim=0).sum()),
    )


def _slopes(g: SmoothedClassifier, x: Tensor, y: Tensor, rounding: float, seed: int) -> tuple[Slopes, int]:
    """Compare slopes of the margin with its central differences, and count the backward passes."""
    x, panel = _inside(x), derived_seed(seed, "audit probe panel")
    directions = [_signs(x, seed, "audit probe slope", number) for number in range(DIRECTIONS)]
    pairs, cut = [], False
    with under_attack(g, x, derived_seed(seed, "audit probe"), PANEL_DRAWS, PANEL_DRAWS) as victim:
        # What a model draws by itself may depend on the batch: slopes and changes are of the same ones.
        size = max(1, g.chunk // victim.samples) if g.chunk else len(x)
        for rows in torch.arange(len(x), device=x.device).split(size):
            here, label = x[rows], y[rows]
            gradient, usable, largest = _gradient(victim, here, label, panel)
            cut |= gradient is None
            for u in directions:
                ahead, behind = (_margins(victim, here + step * u[rows], label, panel) for step in (STEP, -STEP))
                slope = torch.zeros_like(ahead) if gradient is None else _along(gradient, u[rows])
                pair = torch.stack([slope, (ahead - behind) / (2 * STEP)])
                pair = torch.where(pair.abs() * 2 * STEP > rounding * largest, pair, 0.0)
                pairs.append(pair[:, usable])
    return _agreement(torch.cat(pairs, dim=1), cut), victim.image_backwards


def _agreement(pairs: Tensor, cut: bool) -> Slopes:
    """Return how the slopes and the changes (2, P) of the pairs agree."""
    zero_slopes, zero_changes = (not bool(side.any()) for side in pairs)
    constant = any(len(side.unique()) < 2 for side in pairs)
    return Slopes(
        pairs=pairs.shape[1],
        moving=int((pairs != 0).any(dim=0).sum()),
        correlation=None if constant else float(spearmanr(*pairs.numpy()).statistic),
        zero_slopes=zero_slopes,
        zero_changes=zero_changes,
        cut=cut,
    )


def _gradient(victim: Victim, x: Tensor, y: Tensor, panel: int) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the margin's gradient (None where the graph is cut), (N,) whether it is finite, and the largest logits."""
    try:
        slope = victim.gradient(x, y, _margin, draw=panel)
    except UsageError:
        # The model has answered images before: what it lacks is a gradient.
        logits = victim.logits(x, draw=panel)
        return None, torch.ones(len(x), dtype=torch.bool), _largest(logits)
    return slope.gradient, slope.usable.cpu(), _largest(slope.logits)


def _margins(victim: Victim, x: Tensor, y: Tensor, panel: int) -> Tensor:
    """Return the margins (N,) of images on a panel, float64 on the CPU. Raises NumericsError if not finite."""
    logits = victim.logits(x, draw=panel)
    if not torch.isfinite(logits).all():
        raise not_finite()
    return _margin(logits, y).cpu().double()


def _margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the margin of log p̄ without a rounding error beyond that of the logits, which may be large."""
    return margin(logits if logits.device.type == "mps" else logits.double(), y, target)


def _largest(logits: Tensor) -> Tensor:
    """Return the largest absolute logit of each image over all draws: (m, N, K) -> (N,) float64 on the CPU."""
    return logits.abs().amax(dim=(0, 2)).cpu().double()


def _along(gradient: Tensor, u: Tensor) -> Tensor:
    """Return the slopes along directions: (N, C, H, W) twice -> (N,) float64 on the CPU."""
    return (gradient.cpu().double() * u.cpu().double()).flatten(1).sum(dim=1)


def _inside(x: Tensor) -> Tensor:
    """Return the images moved so far into [0, 1] that no step leaves it."""
    return x.clamp(STEP, 1 - STEP)


def _signs(x: Tensor, seed: int, purpose: str, *counters: int) -> Tensor:
    """Return a random sign for every pixel: the shape and dtype of x."""
    source = generator(seed, purpose, *counters, device=x.device)
    return (2 * torch.randint(2, x.shape, generator=source, device=x.device) - 1).to(x.dtype)
