"""HopSkipJump (Chen, Jordan and Wainwright 2020): from the labels that a model answers, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_ball, check_counts, check_eps, check_labels, checked_images
from rushkit.attacks.judged import judged
from rushkit.attacks.norms import length, settle
from rushkit.attacks.result import NOT_BROKEN, AttackResult, checked
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.models.answers import Answer
from rushkit.system import generator
from rushkit.votes import first_argmax

# Random images that are tried as starts of an image; the next best start is a flat one.
_STARTS = 50
_FLAT = (0.0, 1.0, 0.5)
# The first radius of the estimates, pixel units (the official code's).
_FIRST_RADIUS = 0.1
# Halvings of a search along a line at most: float32 tells no finer points apart.
_MOST_HALVINGS = 22
# Halvings of a step that leads back to the label.
_STEP_HALVINGS = 20
# Directions whose points go through the model together, on the same draws.
_TOGETHER = 20
_TINY = 1e-12


@dataclass(frozen=True, repr=False)
class HopSkipJumpResult(AttackResult):
    """The result of HopSkipJump, and how near the boundary is.

    Attributes:
        distance: (N,) norm of the smallest perturbation whose label was wrong, within eps or not; infinite where no
            start was found.
    """

    distance: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True, repr=False)
class HopSkipJump:
    """A walk along the decision boundary towards the image, by gradients estimated from labels (Algorithm 2).

    It starts from a random image that the model gets wrong, goes to the boundary by bisection along the line to the
    image, estimates the boundary's normal from the labels of random points around, steps along it as far as it stays
    wrong, and returns to the boundary. An image is broken once a wrong point lies within eps. A random model is asked
    for the majority of ``samples`` fresh draws; a query is such a vote.

    Args:
        norm: "linf" or "l2".
        eps: Radius of the ball, pixel units.
        queries: Queries of the model for each image.
        directions: Random points of the first estimate; the t-th takes √t times as many.
        samples: Draws for each query of a random model; None: its own m.
        selection_samples: Draws of the panel that compares versions of a random model; None: max(samples, 20).
        stop_early: Whether an image leaves once it is broken within eps, rather than being moved closer.
        seed: Seeds every draw.

    Attributes:
        asks: What the model must answer with at least.

    Example::

        HopSkipJump("l2", eps=0.5, queries=2000).run(model, x, y).queries

    Raises:
        UsageError: a norm, radius or number that does not exist or fit.
    """

    norm: Norm
    eps: float
    queries: int = 5000
    directions: int = 100
    samples: int | None = None
    selection_samples: int | None = None
    stop_early: bool = True
    seed: int = 0
    asks: ClassVar[Answer] = "labels"

    def __post_init__(self) -> None:
        check_ball("hopskipjump", self.norm, self.eps, ("linf", "l2"))
        check_counts("hopskipjump", queries=self.queries, directions=self.directions)

    def __repr__(self) -> str:
        return f"HopSkipJump(norm={self.norm!r}, eps={self.eps:g}, queries={self.queries})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> HopSkipJumpResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Raises:
            UsageError: images or labels that do not fit.
            NumericsError: NaN or infinite logits for all images.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            walk = _Walk(self, victim, x, y)
            if self.eps > 0:
                walk.run()
            draw, ball = derive(self.seed, "verdict"), (self.norm, self.eps)
            result = judged(victim, x, walk.best.x_adv, y, ball, draw=draw)
            return checked(HopSkipJumpResult(**{**vars(result), "queries": walk.broken_at}, distance=walk.distance))


class _Walk:
    """The walks of all images, in step; ``index`` are those that still walk."""

    def __init__(self, settings: HopSkipJump, victim: Victim, x: Tensor, y: Tensor) -> None:
        self._settings, self._victim, self._x, self._y = settings, victim, x, y
        self.best = BestIterate(victim, x, y, None, losses.margin, settings.seed)
        self.best.offer(torch.arange(len(x), device=x.device), x)
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.distance[self.best.settled] = 0
        self.broken_at = torch.where(self.best.settled, 0, NOT_BROKEN)
        self._spent = torch.zeros_like(y)
        self._point, self._asked = x.clone(), 0
        dim = x[0].numel()
        # θ of the paper: d^(-3/2) in l2 and d^(-2) in l-inf, as a share of the distance.
        self._precision = dim ** (-1.5 if settings.norm == "l2" else -2.0)
        self._halvings = min(math.ceil(math.log2(1 / self._precision)), _MOST_HALVINGS)

    def run(self) -> None:
        """Walk until every image is broken within eps or its queries are spent."""
        index = self._started((~self.best.settled).nonzero().squeeze(1))
        self._to_boundary(index)
        step = 1
        while len(index := self._walking(index)):
            self._step(index, step)
            step += 1

    def _walking(self, index: Tensor) -> Tensor:
        stay = self._spent[index] + _TOGETHER <= self._settings.queries
        if self._settings.stop_early:
            stay &= ~self.best.settled[index]
        return index[stay]

    def _wrong(self, index: Tensor, points: Tensor) -> Tensor:
        """Return whether points of the images ``index`` are misclassified; one query each: (n, C, H, W) -> (n,)."""
        self._spent[index] += 1
        return self._labels(points) != self._y[index]

    def _labels(self, points: Tensor) -> Tensor:
        victim, self._asked = self._victim, self._asked + 1
        draw = derive(self._settings.seed, "hopskipjump query", self._asked)
        logits = victim.logits(points, draw=draw, samples=victim.samples)
        answers = logits.argmax(dim=2)
        if len(answers) == 1:
            return answers[0]
        return first_argmax(nn.functional.one_hot(answers, victim.num_classes).sum(dim=0))

    def _started(self, index: Tensor) -> Tensor:
        """Set misclassified starts of the images ``index``, and return those that have one."""
        left = index
        for start in self._starts():
            if not len(left := left[self._spent[left] < self._settings.queries]):
                break
            points = start.to(self._x).expand(len(left), *self._x.shape[1:])
            wrong = self._wrong(left, points)
            self._point[left[wrong]] = points[wrong]
            left = left[~wrong]
        return index[~torch.isin(index, left)]

    def _starts(self) -> Iterator[Tensor]:
        """Yield images (C, H, W) to start from, the same ones for all images."""
        shape = self._x.shape[1:]
        for number in range(_STARTS):
            yield torch.rand(shape, generator=generator(self._settings.seed, "attack hopskipjump start", number))
        for grey in _FLAT:
            yield torch.full(shape, grey)

    def _to_boundary(self, index: Tensor) -> None:
        """Move misclassified points towards their images until they are about to be right, and offer them."""
        x, far = self._x[index], self._point[index]
        reach = torch.ones_like(x[:, 0, 0, 0])
        if self._settings.norm == "linf":
            reach = length(far - x, "linf")
        low, high = torch.zeros_like(reach), reach
        for _ in range(self._halvings):
            if not len(index):
                return
            middle = (low + high) / 2
            wrong = self._wrong(index, self._between(x, far, middle))
            low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        self._point[index] = self._between(x, far, high)
        self._offer(index)

    def _between(self, x: Tensor, far: Tensor, share: Tensor) -> Tensor:
        """Return the point that far from x on the way to ``far``: by a blend in l2, by clipping in l-inf."""
        share = _images(share)
        if self._settings.norm == "l2":
            return (1 - share) * x + share * far
        return torch.minimum(torch.maximum(far, x - share), x + share)

    def _offer(self, index: Tensor) -> None:
        """Keep the points of the images ``index`` that are nearer than before; within eps they break their image."""
        settings, x, point = self._settings, self._x[index], self._point[index]
        reached = length(point - x, settings.norm)
        self.distance[index] = torch.minimum(self.distance[index], reached)
        within = reached <= settings.eps
        if not within.any():
            return
        rows, x, point, reached = index[within], x[within], point[within], reached[within]
        if self._victim.random:
            # At the boundary the votes are split: at the rim of the ball fewer are right.
            point = x + (point - x) * _images(settings.eps / reached.clamp(min=_TINY))
        open_before = ~self.best.settled[rows]
        self._spent[rows] += 1
        self.best.offer(rows, settle(x, point.clamp(0, 1), settings.norm, settings.eps))
        self.best.confirm(self._asked)
        broken = rows[open_before & self.best.settled[rows]]
        self.broken_at[broken] = self._spent[broken]

    def _step(self, index: Tensor, step: int) -> None:
        """Take one step of Algorithm 2 with the images ``index``."""
        settings, norm = self._settings, self._settings.norm
        x, point = self._x[index], self._point[index]
        reached = length(point - x, norm)
        normal = self._normal(index, step)
        move = normal.sign() if norm == "linf" else normal
        size = reached / math.sqrt(step)
        moved, climbing = point.clone(), torch.arange(len(index), device=index.device)
        for _ in range(_STEP_HALVINGS):
            tried = (point[climbing] + _images(size[climbing]) * move[climbing]).clamp(0, 1)
            wrong = self._wrong(index[climbing], tried)
            moved[climbing[wrong]] = tried[wrong]
            climbing = climbing[~wrong]
            if not len(climbing := climbing[self._spent[index[climbing]] < settings.queries]):
                break
            size[climbing] /= 2
        self._point[index] = moved
        self._to_boundary(index)

    def _normal(self, index: Tensor, step: int) -> Tensor:
        """Return the estimated unit normals of the boundary (n, C, H, W), towards wrong labels (section III-D)."""
        settings, x, point = self._settings, self._x[index], self._point[index]
        dim = x[0].numel()
        reached = length(point - x, settings.norm)
        radius = reached * self._precision * (math.sqrt(dim) if settings.norm == "l2" else dim)
        radius = torch.full_like(radius, _FIRST_RADIUS) if step == 1 else radius.clamp(min=1e-5)
        count = round(settings.directions * math.sqrt(step))
        source = generator(settings.seed, "attack hopskipjump directions", step)
        answered, moves = torch.zeros_like(x), torch.zeros_like(x)
        signs, made = torch.zeros_like(reached), torch.zeros_like(reached)
        for start in range(0, count, _TOGETHER):
            # The same directions for all images, so that an image walks alike in any batch.
            rays = self._rays(min(_TOGETHER, count - start), source)
            rows = (self._spent[index] + len(rays) <= settings.queries).nonzero().squeeze(1)
            if not len(rows):
                break
            here, far = point[rows], _images(radius[rows])
            tried = (here + far * rays).clamp(0, 1)
            labels = self._labels(tried.flatten(0, 1)).view(len(rays), -1)
            self._spent[index[rows]] += len(rays)
            sign = 2.0 * (labels != self._y[index[rows]]).to(x.dtype) - 1
            ways = (tried - here) / far
            answered[rows] += (sign[..., None, None, None] * ways).sum(dim=0)
            moves[rows] += ways.sum(dim=0)
            signs[rows] += sign.sum(dim=0)
            made[rows] += len(rays)
        # The mean sign is a baseline of smaller variance; where all signs are equal it would leave nothing.
        mean = signs / made.clamp(min=1)
        baseline = torch.where(mean.abs() < 1, mean, torch.zeros_like(mean))
        normal = answered - _images(baseline) * moves
        return normal / _images(normal.flatten(1).norm(dim=1).clamp(min=_TINY))

    def _rays(self, count: int, source: torch.Generator) -> Tensor:
        """Return random directions of unit length, (count, 1, C, H, W)."""
        shape = (count, 1, *self._x.shape[1:])
        rays = torch.randn(shape, generator=source)
        if self._settings.norm == "linf":
            rays = 2 * torch.rand(shape, generator=source) - 1
        lengths: Tensor = rays.flatten(1).norm(dim=1).clamp(min=_TINY)
        return (rays / lengths.view(-1, 1, 1, 1, 1)).to(self._x)


def _images(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
