"""Fast adaptive boundary attack (Croce and Hein 2020, "Minimally distorted adversarial examples")."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_ball, check_counts, check_eps, check_labels, checked_images
from rushkit.attacks.hyperplane import shortest_move
from rushkit.attacks.judged import judged
from rushkit.attacks.norms import length
from rushkit.attacks.restarts import likeliest_others
from rushkit.attacks.result import AttackResult, checked
from rushkit.attacks.victim import Slope, Victim, derive, under_attack
from rushkit.system import generator

# The paper's α_max, η and β: the largest pull towards the image, how far a step overshoots the boundary, and how far a
# point beyond it is drawn back towards the image.
_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9
# The selection of a random model costs a panel, so it sees what is closest every few steps.
OFFER_EVERY = 10
_TINY = 1e-8


@dataclass(frozen=True, repr=False)
class FABResult(AttackResult):
    """The result of FAB, and how near the boundary is.

    Attributes:
        distance: (N,) norm of the smallest perturbation that was misclassified, within eps or not; infinite where none
            was found. On a random model it is the smallest that one step's draws misclassified.
    """

    distance: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True, repr=False)
class FAB:
    """FAB at the settings of official AutoAttack (FAB-T): 100 steps towards each of up to 9 targets.

    It walks along the boundary, linearised at every step, towards the smallest perturbation; one within eps counts. The
    boundary is that of log p̄. For a random model, whose votes are split at the boundary, the closest points are moved
    along their ray to the rim of the ball, and votes decide.

    Args:
        norm: "linf", "l2" or "l1".
        eps: Radius of the ball, pixel units.
        steps: Steps towards each target.
        restarts: Starts towards each target: the first at the image, the others at half the radius.
        targeted: Walk towards one class at a time, the likeliest first, or (a pass for each other class) the nearest.
        n_targets: Targets for each image, at most the number of other classes.
        samples: Draws for each pass of a random model; None: its own m.
        selection_samples: Draws of the panel that compares versions of a random model; None: max(samples, 20).
        stop_early: Whether an image leaves once it is broken within eps, rather than being moved closer.
        seed: Seeds every draw.

    Example::

        FAB("l1", eps=12, stop_early=False).run(model, x, y).distance

    Raises:
        UsageError: a norm, radius or number that does not exist or fit.
    """

    norm: Norm
    eps: float
    steps: int = 100
    restarts: int = 1
    targeted: bool = True
    n_targets: int = 9
    samples: int | None = None
    selection_samples: int | None = None
    stop_early: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball("fab", self.norm, self.eps)
        check_counts("fab", steps=self.steps, restarts=self.restarts, n_targets=self.n_targets)

    def __repr__(self) -> str:
        return f"FAB(norm={self.norm!r}, eps={self.eps:g}, steps={self.steps})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> FABResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Raises:
            UsageError: images or labels that do not fit, or no gradient.
            NumericsError: NaN or infinite logits or gradients at all images that are attacked.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            best = BestIterate(victim, x, y, None, losses.margin, self.seed)
            best.offer(torch.arange(len(x), device=x.device), x)
            distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
            distance[best.settled] = 0
            others = likeliest_others(victim, x, y, self.seed)
            aims = others[:, : self.n_targets].split(1, dim=1) if self.targeted else [others]
            for number, aim in enumerate(aims):
                for restart in range(self.restarts):
                    # Images that were misclassified from the start have nowhere to walk.
                    walking = ~best.settled if self.stop_early else distance > 0
                    index = walking.nonzero().squeeze(1)
                    walk = _Walk(self, victim, best, (x[index], aim[index], index), (number, restart))
                    walk.run(distance)
            draw, notes = derive(self.seed, "verdict"), best.notes()
            result = judged(victim, x, best.x_adv, y, (self.norm, self.eps), draw=draw, notes=notes)
            return checked(FABResult(**vars(result), distance=distance), best.useless)


class _Walk:
    """One walk along the boundary; every tensor has one row for each image that is still walking."""

    def __init__(
        self,
        settings: FAB,
        victim: Victim,
        best: BestIterate,
        images: tuple[Tensor, Tensor, Tensor],
        walk: tuple[int, int],
    ) -> None:
        """Start at images (n, C, H, W) with their target classes (n, targets) and positions in the batch (n,)."""
        self._settings, self._victim, self._best, self._walk = settings, victim, best, walk
        self._x, self._aim, self._index = images
        self._here = self._start() if walk[1] else self._x.clone()
        self._closest = self._x.clone()
        self._distance = torch.full_like(self._x[:, 0, 0, 0], torch.inf)
        self._new = torch.zeros_like(self._distance, dtype=torch.bool)
        self._usable = ~self._new

    def run(self, distance: Tensor) -> None:
        """Walk, offer what is closest to the selection, and lower the entries of ``distance`` (N,)."""
        for step in range(self._settings.steps):
            if not len(self._index):
                return
            self._step(step)
            distance[self._index] = torch.minimum(distance[self._index], self._distance)
            if self._victim.random and (step + 1) % OFFER_EVERY == 0:
                self._offer_closest(self._new & (self._distance <= self._settings.eps), step)
            self._leave()
        self._offer_closest(self._new, self._settings.steps)

    def _step(self, step: int) -> None:
        """Take one step of Algorithm 1."""
        settings, victim, best = self._settings, self._victim, self._best
        y = best.y[self._index]
        value, normal, self._usable = self._nearest_plane(y, step)
        moves = []
        for start, change in ((self._here, -value), (self._x, _dot(normal, self._here - self._x) - value)):
            moves.append(shortest_move(start, normal, change, settings.norm))
        lengths = [length(move, settings.norm).clamp(min=_TINY) for move in moves]
        alpha = (lengths[0] / (lengths[0] + lengths[1])).clamp(max=_ALPHA_MAX).view(-1, 1, 1, 1)
        from_here, from_image = self._here + _ETA * moves[0], self._x + _ETA * moves[1]
        self._here = ((1 - alpha) * from_here + alpha * from_image).clamp(0, 1)
        draw = derive(settings.seed, "fab look", *self._walk, step)
        logits = victim.logits(self._here, draw=draw, samples=victim.samples)
        broken = losses.margin(logits, y) > 0
        reached = length(self._here - self._x, settings.norm)
        closer = broken & (reached < self._distance)
        self._distance = torch.where(closer, reached, self._distance)
        self._closest = torch.where(_images(closer), self._here, self._closest)
        self._new |= closer
        within = closer & (reached <= settings.eps)
        if not victim.random and within.any():
            best.offer(self._index[within], self._here[within], logits[:, within])
        self._here = torch.where(_images(broken), self._x + _BETA * (self._here - self._x), self._here)

    def _nearest_plane(self, y: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the margin (n,) of the class whose linearised boundary is nearest, its gradient (n, C, H, W), and
        (n,) bool, whether any class has a gradient that is finite.
        """
        dual: dict[Norm, float] = {"linf": 1, "l2": 2, "l1": torch.inf}
        draw = derive(self._settings.seed, "fab step", *self._walk, step)
        value = torch.zeros_like(self._distance)
        normal, nearest = torch.zeros_like(self._x), torch.full_like(value, torch.inf)
        for target in self._aim.unbind(1):
            slope = self._victim.gradient(self._here, y, losses.margin, target, draw=draw)
            steepness = slope.gradient.flatten(1).norm(p=dual[self._settings.norm], dim=1)
            distance = slope.loss.abs() / steepness.clamp(min=1e-12)
            nearer = slope.usable & (distance < nearest)
            nearest = torch.where(nearer, distance, nearest)
            value = torch.where(nearer, slope.loss, value)
            normal = torch.where(_images(nearer), slope.gradient, normal)
        usable = torch.isfinite(nearest)
        self._best.see(self._index, Slope(value, normal, slope.logits, usable))
        return value, normal, usable

    def _offer_closest(self, rows: Tensor, step: int) -> None:
        """Let the selection see the closest points of these rows (n,) bool, and a vote settle what it can.

        Points outside the ball are moved onto its rim, and those inside it too if the model is random.
        """
        if not rows.any():
            return
        settings = self._settings
        index, x, closest, distance = (t[rows] for t in (self._index, self._x, self._closest, self._distance))
        self._new = self._new & ~rows
        reach = settings.eps / distance.clamp(min=_TINY)
        if not self._victim.random:
            reach = reach.clamp(max=1)
        self._best.offer(index, (x + _images(reach) * (closest - x)).clamp(0, 1))
        if settings.stop_early:
            aim, restart = self._walk
            self._best.confirm((aim * settings.restarts + restart) * (settings.steps + 1) + step)

    def _leave(self) -> None:
        """Drop the images without a finite gradient, and those that are broken unless they are to be moved closer."""
        stay = self._usable
        if self._settings.stop_early:
            stay = stay & ~self._best.settled[self._index]
        self._index, self._x, self._aim = self._index[stay], self._x[stay], self._aim[stay]
        self._here, self._closest = self._here[stay], self._closest[stay]
        self._distance, self._new, self._usable = self._distance[stay], self._new[stay], self._usable[stay]

    def _start(self) -> Tensor:
        """Return points at half the radius in one random direction, the same for all images."""
        settings, (number, restart) = self._settings, self._walk
        source = generator(settings.seed, "attack fab start", number, restart)
        shape = (1, *self._x.shape[1:])
        ray = torch.randn(shape, generator=source, dtype=torch.float64)
        if settings.norm == "linf":
            ray = 2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1
        ray = ray / length(ray, settings.norm).clamp(min=_TINY)
        return (self._x + settings.eps / 2 * ray.to(self._x)).clamp(0, 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(dim=1)


def _images(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)
