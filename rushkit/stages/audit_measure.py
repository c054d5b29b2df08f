"""What an audit measures: sweeps of one attack, its rivals, gradients, saturation and planted examples.

Nothing here judges; ``stages.audit_checks`` does, from these figures alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.losses import LossName, classes_needed, nll
from rushkit.attacks.norms import length, project, random_start
from rushkit.attacks.pgd import PGD
from rushkit.attacks.square import fits, square
from rushkit.attacks.victim import under_attack
from rushkit.errors import NumericsError, UsageError
from rushkit.smoothing import SmoothedClassifier
from rushkit.stages.planted import Features, plant_and_seek
from rushkit.stages.scoring import SELECTION_SAMPLES, Search, count_right
from rushkit.system import derived_seed, generator

# Draws behind every accuracy, spread over votes of m, and the votes that judge the best images.
_SCORE_DRAWS = 64
_FINAL_VOTES = 10
# Rough costs: an attack's own verdict, in draws, and a pass forward and backward, in forward passes.
_VERDICT_DRAWS, _BACKWARD = 60, 3
# Images that one gradient pass holds, draws included.
_PASS = {"cpu": 512, "cuda": 8192, "mps": 1024}
_RIVALS: tuple[LossName, ...] = ("ce", "dlr", "margin")
# Where every image can be turned into grey, so that no classifier may be right: half the box, by norm and dimension.
_HALF_BOX: dict[str, Callable[[int], float]] = {
    "linf": lambda dim: 0.5,
    "l2": lambda dim: 0.5 * math.sqrt(dim),
    "l1": lambda dim: 0.5 * dim,
}


@dataclass(frozen=True)
class Settings:
    """What an audit spends.

    Attributes:
        norm: Of the ball.
        eps: Its radius, pixel units.
        steps: Gradient steps; the sweep goes from a quarter to twice as many.
        eot: Draws a gradient; the sweep likewise.
        queries: Of Square.
        planted: Images that get a planted example.
        seed: Of every draw.
    """

    norm: Norm
    eps: float
    steps: int = 20
    eot: int = 10
    queries: int = 200
    planted: int = 8
    seed: int = 0

    @property
    def step_counts(self) -> tuple[int, ...]:
        """The sweep of steps."""
        return _sweep(self.steps)

    @property
    def eot_counts(self) -> tuple[int, ...]:
        """The sweep of draws."""
        return _sweep(self.eot)

    def large_eps(self, dim: int) -> float:
        """A radius at which every image can become any grey."""
        return max(_HALF_BOX[self.norm](dim), self.eps)


@dataclass(frozen=True)
class Point:
    """What votes of fresh noise say after one attack.

    Attributes:
        label: Of the attack.
        value: Where it stands in its sweep.
        share: For each image, the share of votes that are right.
    """

    label: str
    value: float
    share: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Mean over images and votes."""
        return math.fsum(self.share) / len(self.share)

    @property
    def right(self) -> tuple[bool, ...]:
        """Which images most votes have right."""
        return tuple(share > 0.5 for share in self.share)


@dataclass(frozen=True)
class Gradients:
    """Input gradients of −log p̄ at the images, each from ``eot`` draws.

    Attributes:
        zero: For each image, whether every entry is 0.
        zero_entries: Share of entries that are 0.
        cosines: For each image with two gradients that are not 0, the cosine between them; their draws are independent.
        saturated: Share of draws whose −log p of the label is exactly 0 in float32, and so has no gradient.
    """

    zero: tuple[bool, ...]
    zero_entries: float
    cosines: tuple[float, ...]
    saturated: float


@dataclass
class Measured:
    """Everything that the checks look at; what could not be measured is None or empty.

    Attributes:
        settings: What was spent.
        images: How many there were.
        classes: K.
        clean: Before any attack, all images.
        attacked: Indices of the images that are right; all points below are about these.
        commonest: Share of them that have the commonest label: what a constant answer gets right.
        not_finite: Images for which some draw gives NaN or infinite logits.
        problem: Why the rest could not be measured, or "".
        no_gradient: Whether that is because the output does not depend on the input differentiably.
        gradients: At the images.
        steps, draws, radii: The sweeps.
        losses: The base attack under other losses; the first is the base attack itself.
        fixed, single, noise, black_box: Rivals of the base attack; see ``measure``.
        best: The best of all white-box attacks for each image, judged anew.
        any_failure: Share of the attacked images that lose at least one of the final votes.
        curve: The base attack's mean loss at each step.
        excess: How far the farthest image lies outside its ball or the box, pixel units; infinite for NaN pixels.
        planted: For each planted example, whether the attack found one; None where none could be planted.
    """

    settings: Settings
    images: int = 0
    classes: int = 0
    clean: Point | None = None
    attacked: tuple[int, ...] = ()
    commonest: float = 0.0
    not_finite: int = 0
    problem: str = ""
    no_gradient: bool = False
    gradients: Gradients | None = None
    steps: list[Point] = field(default_factory=list)
    draws: list[Point] = field(default_factory=list)
    radii: list[Point] = field(default_factory=list)
    losses: list[Point] = field(default_factory=list)
    fixed: Point | None = None
    single: Point | None = None
    noise: Point | None = None
    black_box: Point | None = None
    best: Point | None = None
    any_failure: float | None = None
    curve: tuple[float, ...] = ()
    excess: float = 0.0
    planted: list[bool] | None = None


def passes(settings: Settings, m: int, images: int) -> int:
    """About how many forward passes an audit of so many images makes; a backward counts two."""
    steps, eot = settings.steps, settings.eot
    climbs = eot * (sum(settings.step_counts) + 7 * steps + 1) + steps // 2 * sum(settings.eot_counts)
    runs = len(settings.step_counts) + len(settings.eot_counts) + 9
    # A run ends with the attack's own verdict, a panel that looks for the best image, and the votes that score.
    score = runs * (_VERDICT_DRAWS + SELECTION_SAMPLES + max(m, _SCORE_DRAWS)) + _FINAL_VOTES * m
    planted = settings.planted * (_BACKWARD * (steps * eot + 128) + 5 * SELECTION_SAMPLES)
    return images * (_BACKWARD * climbs + score + settings.queries * eot) + planted


def measure(
    g: SmoothedClassifier,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    features: Features | None = None,
    advance: Callable[[str], None] = lambda label: None,
) -> Measured:
    """Attack images in every way that the checks compare.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        settings: Norm, eps and budgets.
        features: (N, C, H, W) -> (N, F), where examples are planted; None: the model's logits.
        advance: Called with the label of each piece of work that is done.
    """
    found = Measured(settings, images=len(x))
    work = _Measuring(g, x, y, found, features or g.model, advance)
    try:
        if work.look() and work.differentiate():
            work.attack()
    except NumericsError as error:
        found.not_finite = max(found.not_finite, 1)
        found.problem = error.message
    return found


class _Measuring:
    def __init__(
        self,
        g: SmoothedClassifier,
        x: Tensor,
        y: Tensor,
        found: Measured,
        features: Features,
        advance: Callable[[str], None],
    ) -> None:
        self._g, self._x, self._y = g, x, y
        self._found, self._settings = found, found.settings
        self._features, self._advance = features, advance
        self._search: Search | None = None

    def look(self) -> bool:
        """The model without any attack; whether there is something to attack."""
        found, g = self._found, self._g
        for image in self._x:
            try:
                found.classes = g.tally(image[None], _SCORE_DRAWS).votes.shape[1]
            except NumericsError as error:
                found.not_finite += 1
                found.problem = error.message
        if found.not_finite:
            return False
        found.clean = self._score("clean", 0.0, self._x, self._y)
        found.attacked = tuple(index for index, right in enumerate(found.clean.right) if right)
        if not found.attacked:
            found.problem = "no image is classified rightly before any attack"
            return False
        self._x, self._y = self._x[list(found.attacked)], self._y[list(found.attacked)]
        found.commonest = int(self._y.cpu().bincount().max()) / len(self._y)
        self._advance("clean")
        return True

    def differentiate(self) -> bool:
        """The gradients at the images; whether there are any."""
        try:
            self._found.gradients = self._gradients()
        except UsageError as error:
            self._found.problem, self._found.no_gradient = error.message, True
        self._advance("gradients")
        return not self._found.no_gradient

    def attack(self) -> None:
        """Every attack that the checks compare."""
        found, settings = self._found, self._settings
        self._search = Search(self._g, self._x, self._y, derived_seed(settings.seed, "audit best"))
        base = None
        for steps in settings.step_counts:
            point, curve = self._climb(f"{steps} steps", steps, steps=steps)
            found.steps.append(point)
            if steps == settings.steps:
                base = point
                found.curve = curve
        assert base is not None
        for eot in settings.eot_counts:
            half = max(1, settings.steps // 2)
            found.draws.append(self._climb(f"{eot} draws", eot, steps=half, samples=eot)[0])
        small, double = settings.eps / 2, 2 * settings.eps
        large = settings.large_eps(self._x[0].numel())
        found.radii = [
            self._climb("eps / 2", small, eps=small)[0],
            Point("eps", settings.eps, base.share),
            *([self._climb("2 eps", double, eps=double)[0]] if double < large else []),
            self._climb("large eps", large, eps=large)[0],
        ]
        found.losses = [Point("nll", 0, base.share)]
        for loss in _RIVALS:
            if found.classes >= classes_needed(loss, False):
                found.losses.append(self._climb(loss, 0, loss=loss)[0])
        found.fixed = self._climb("fixed noise", 0, noise="fixed")[0]
        single = {"steps": 1, "step_size": settings.eps or None, "random_start": False}
        found.single = self._climb("single step", 0, **single)[0]
        found.noise = self._noise()
        found.black_box = self._black_box()
        self._judge_best()
        found.planted = plant_and_seek(
            self._g, self._features, self._x[: settings.planted], settings.norm, settings.eps, settings.steps,
            settings.eot, derived_seed(settings.seed, "audit planted"),
        )  # fmt: skip
        self._advance("planted examples")

    def _climb(self, label: str, value: float, **changes: Any) -> tuple[Point, tuple[float, ...]]:
        """One white-box attack on every image, with the last iterate of one climb: what a sweep compares."""
        settings = self._settings
        options: dict[str, Any] = {"eps": settings.eps, "steps": settings.steps, "samples": settings.eot}
        options |= changes
        results = []
        size = max(1, _PASS[self._x.device.type] // options["samples"])
        for start in range(0, len(self._x), size):
            seed = derived_seed(settings.seed, f"audit {label}", start)
            attack = PGD(settings.norm, best="last", seed=seed, **options)
            results.append(attack.run(self._g, self._x[start : start + size], self._y[start : start + size]))
        x_adv = torch.cat([result.x_adv for result in results])
        self._look_outside(x_adv, options["eps"])
        if options["eps"] <= settings.eps:
            self._offer(x_adv)
        point = self._score(label, value, x_adv, self._y)
        self._advance(label)
        weights = torch.tensor([len(result.x_adv) for result in results], dtype=torch.float64)
        curves = torch.stack([result.loss_curve for result in results])
        mean = (curves * weights[:, None]).sum(0) / weights.sum()
        return point, tuple(mean.tolist())

    def _noise(self) -> Point:
        """Random noise as large as the ball allows: corners in l-inf, random directions at full length else."""
        x, settings = self._x, self._settings
        source = generator(settings.seed, "audit noise", device=x.device)
        delta = random_start(torch.full_like(x, 0.5), settings.norm, min(settings.eps, 0.5), source) - 0.5
        if settings.norm == "linf":
            delta = settings.eps * delta.sign()
        else:
            size = length(delta, settings.norm).clamp(min=1e-12).view(-1, 1, 1, 1)
            delta = settings.eps * delta / size
        point = self._score("random noise", 0, project(x, x + delta, settings.norm, settings.eps), self._y)
        self._advance("random noise")
        return point

    def _black_box(self) -> Point | None:
        """Square, which sees scores and no gradient; None where it does not fit the norm or the images."""
        settings, (height, width) = self._settings, self._x.shape[2:]
        if settings.norm == "l1" or not fits(settings.norm, height, width):
            return None
        seed = derived_seed(settings.seed, "audit square")
        attack = square(settings.norm, settings.eps, settings.queries, samples=settings.eot, seed=seed)
        x_adv = attack.run(self._g, self._x, self._y).x_adv
        self._look_outside(x_adv, settings.eps)
        point = self._score("square", settings.queries, x_adv, self._y)
        self._advance("square")
        return point

    def _judge_best(self) -> None:
        """Votes that chose nothing, on the best white-box version of each image."""
        assert self._search is not None
        seed = derived_seed(self._settings.seed, "audit final")
        right = count_right(self._g, self._search.x_adv, self._y, _FINAL_VOTES, seed)["majority"]
        self._found.best = Point("best", 0, tuple(count / _FINAL_VOTES for count in right))
        self._found.any_failure = sum(count < _FINAL_VOTES for count in right) / len(right)

    def _offer(self, x_adv: Tensor) -> None:
        assert self._search is not None
        self._search.offer(0, torch.arange(len(x_adv), device=x_adv.device), x_adv)

    def _score(self, label: str, value: float, x: Tensor, y: Tensor) -> Point:
        votes = max(1, _SCORE_DRAWS // self._g.samples)
        seed = derived_seed(self._settings.seed, f"audit score {label}")
        right = count_right(self._g, x, y, votes, seed)["majority"]
        return Point(label, float(value), tuple(count / votes for count in right))

    def _look_outside(self, x_adv: Tensor, eps: float) -> None:
        delta = x_adv.double() - self._x.double()
        outside = [length(delta, self._settings.norm).amax() - eps, x_adv.amax() - 1, -x_adv.amin()]
        # Nothing compares with NaN: it would pass for an image within the ball.
        farthest = torch.stack([distance.double() for distance in outside]).nan_to_num(math.inf, math.inf).amax()
        self._found.excess = max(self._found.excess, float(farthest))

    def _gradients(self) -> Gradients:
        eot, seed = self._settings.eot, self._settings.seed
        pairs, saturated = [], []
        size = max(1, _PASS[self._x.device.type] // eot)
        for start in range(0, len(self._x), size):
            x, y = self._x[start : start + size], self._y[start : start + size]
            with under_attack(self._g, x, derived_seed(seed, "audit gradient", start), eot) as victim:
                looks = [victim.gradient(x, y, nll) for _ in range(2)]
            pairs.append(torch.stack([gradient.flatten(1) for _, gradient, _ in looks]))
            logits = torch.cat([each for _, _, each in looks])
            surprise = torch.log_softmax(logits, dim=2).gather(2, y.expand(len(logits), -1)[..., None])
            saturated.append((surprise == 0).double().mean(dim=(0, 2)))
        both = torch.cat(pairs, dim=1).double()
        zero = (both == 0).all(dim=2).all(dim=0)
        usable = (both != 0).any(dim=2).all(dim=0)
        largest = both[:, usable].abs().amax(dim=2, keepdim=True)
        one, other = both[:, usable] / largest
        cosines = torch.nn.functional.cosine_similarity(one, other, dim=1)
        return Gradients(
            zero=tuple(zero.tolist()),
            zero_entries=float((both == 0).double().mean()),
            cosines=tuple(cosines.tolist()),
            saturated=float(torch.cat(saturated).mean()),
        )


def _sweep(middle: int) -> tuple[int, ...]:
    """A quarter, a half, all and twice of a budget, each at least 1."""
    return tuple(sorted({max(1, middle // 4), max(1, middle // 2), middle, 2 * middle}))
