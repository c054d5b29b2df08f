"""Make the measurements of an audit: sweeps of one attack, its rivals, gradients, saturation and planted examples.

The figures are evaluated by ``auditing.checks``. Several ranks share the measurements between them. Each measurement
is a function of the images, its label and the seed, so the figures do not depend on the number of ranks.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import get_args

import torch
from pydantic import TypeAdapter
from torch import Tensor

from rushkit.attacks.best import BestByRule
from rushkit.attacks.losses import nll
from rushkit.attacks.victim import under_attack
from rushkit.auditing.attacks import Attacks, Outcome, score
from rushkit.auditing.kept import KeptOutcomes
from rushkit.auditing.plan import SCORE_DRAWS, Measurement, Place, Settings, plan
from rushkit.auditing.planted import Features
from rushkit.distributed import ranks
from rushkit.errors import NumericsError, UsageError
from rushkit.models.passes import MOST
from rushkit.setup.resumable import Work, unattended
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed


@dataclass(frozen=True)
class Point:
    """The accuracy after one attack, by votes of fresh noise.

    Attributes:
        label: Name of the attack.
        value: The value of the setting that its sweep varies.
        share: For each image, the share of votes that are right.
    """

    label: str
    value: float
    share: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The share of correct votes over all images."""
        return math.fsum(self.share) / len(self.share)

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether each image is classified correctly in most votes."""
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
    """All figures that the checks use; figures that could not be measured are None or empty.

    Attributes:
        settings: Norm, eps and budgets.
        images: Number of images.
        classes: K.
        clean: The accuracy before any attack, on all images.
        attacked: Indices of the images that are right before any attack; all points below refer to these.
        commonest: Share of them with the most common label, which is the accuracy of a constant answer.
        not_finite: Images for which some draw gives NaN or infinite logits.
        deterministic: Whether all draws of the noise are the same, so that checks of the noise are skipped.
        problem: Why the rest could not be measured, or "".
        no_gradient: Whether the reason is that the output is not a differentiable function of the input.
        gradients: Input gradients at the attacked images.
        points: The accuracies by place: a list for each sweep, in order, and for each rival of the base attack. The
            first entry of the losses is the base attack.
        best: The accuracy on the worst white-box version of each image, by votes that were not used to choose it.
        any_failure: Share of the attacked images that lose at least one of the final votes.
        curve: The base attack's mean loss at each step.
        excess: How far the farthest image lies outside its ball or the box, beyond what rounding its pixels to float32
            explains, pixel units; infinite for NaN pixels.
        planted: For each planted example, whether the attack found one; None where none could be planted.
    """

    settings: Settings
    images: int = 0
    classes: int = 0
    clean: Point | None = None
    attacked: tuple[int, ...] = ()
    commonest: float = 0.0
    not_finite: int = 0
    deterministic: bool = False
    problem: str = ""
    no_gradient: bool = False
    gradients: Gradients | None = None
    points: dict[Place, list[Point]] = field(default_factory=lambda: {place: [] for place in get_args(Place)})
    best: Point | None = None
    any_failure: float | None = None
    curve: tuple[float, ...] = ()
    excess: float = 0.0
    planted: list[bool] | None = None

    def rival(self, place: Place) -> Point | None:
        """Return a rival of the base attack; None if it was not measured."""
        return self.points[place][0] if self.points[place] else None

    def add(self, measurement: Measurement, outcome: Outcome) -> bool:
        """Add the outcome of a measurement, and return True; return False if the measurement failed."""
        self.excess = max(self.excess, outcome.excess)
        if outcome.problem:
            self.not_finite, self.problem = 1, outcome.problem
        elif measurement.place is None:
            self.planted = outcome.planted
        elif outcome.share is not None:
            share = tuple(outcome.share)
            self.points[measurement.place].append(Point(measurement.label, float(measurement.value), share))
            if measurement.base:
                self.curve = tuple(outcome.curve or ())
                self.points["radii"].append(Point("eps", self.settings.eps, share))
                self.points["losses"].append(Point("nll", 0.0, share))
        return not outcome.problem


# Both travel between ranks as JSON.
_MEASURED, _OUTCOMES = TypeAdapter(Measured), TypeAdapter(dict[int, Outcome])


def measure(
    g: SmoothedClassifier,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    features: Features | None = None,
    work: Work | None = None,
    kept: KeptOutcomes | None = None,
) -> Measured:
    """Make all measurements that the checks compare, with the same figures on every rank.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        settings: Norm, eps and budgets.
        features: (N, C, H, W) -> (N, F), the features in which examples are planted; None means the model's logits.
        work: Displays the progress, and stops between two measurements if asked to; None without a run.
        kept: Holds the outcomes of earlier sessions and stores new ones; None stores nothing.

    Raises:
        Interrupted: a signal asked to stop.
    """
    measured = _agreed(_before_attacks(g, x, y, settings) if ranks.rank() == 0 else None)
    if measured.problem:
        return measured
    x, y = x[list(measured.attacked)], y[list(measured.attacked)]
    planned = plan(settings, g.samples, measured.classes, x.shape)
    search = BestByRule(g, x, y, derived_seed(settings.seed, "audit best"))
    attacks = Attacks(g, x, y, settings, features or g.model)
    work = work or unattended()
    mine = _measure_share(attacks, planned, search, work, kept)
    work.stop_together()
    parts = ranks.gather({number: asdict(outcome) for number, outcome in mine.items()})
    outcomes = _OUTCOMES.validate_python({number: outcome for part in parts for number, outcome in part.items()})
    for number, measurement in enumerate(planned):
        # In order, up to the first that has a problem: no rank has gone beyond a problem of its own.
        if not measured.add(measurement, outcomes[number]):
            return measured
    measured.points["radii"].sort(key=lambda point: point.value)
    _judge_best(measured, attacks, _best_of_all(search))
    return measured


def _before_attacks(g: SmoothedClassifier, x: Tensor, y: Tensor, settings: Settings) -> Measured:
    """Measure the model without an attack, and its gradients; set ``problem`` if there is nothing to attack."""
    measured = Measured(settings, images=len(x), deterministic=g.deterministic)
    for image in x:
        try:
            measured.classes = g.tally(image[None], SCORE_DRAWS).votes.shape[1]
        except NumericsError as error:
            measured.not_finite += 1
            measured.problem = error.message
    if measured.not_finite:
        return measured
    try:
        measured.clean = Point("clean", 0.0, tuple(score(g, x, y, settings.seed, "clean")))
        measured.attacked = tuple(index for index, right in enumerate(measured.clean.right) if right)
        if not measured.attacked:
            measured.problem = "no image is classified rightly before any attack"
            return measured
        x, y = x[list(measured.attacked)], y[list(measured.attacked)]
        measured.commonest = int(y.cpu().bincount().max()) / len(y)
        measured.gradients = _gradients(g, x, y, settings)
    except NumericsError as error:
        measured.not_finite, measured.problem = 1, error.message
    except UsageError as error:
        measured.problem, measured.no_gradient = error.message, True
    return measured


def _agreed(measured: Measured | None) -> Measured:
    """Return rank 0's figures on every rank, since rounding must not make ranks attack different images."""
    return _MEASURED.validate_python(ranks.broadcast(None if measured is None else asdict(measured)))


def _measure_share(
    attacks: Attacks, planned: list[Measurement], search: BestByRule, work: Work, kept: KeptOutcomes | None
) -> dict[int, Outcome]:
    """Make this rank's measurements, and return their outcomes by number; offer white-box images to the search."""
    outcomes = {}
    mine = ranks.own_by_cost(list(enumerate(planned)), lambda item: item[1].passes)
    work.bar.total = sum(measurement.passes for _, measurement in mine)
    for number, measurement in mine:
        if work.stop_requested:
            break
        outcome, x_adv = _kept_or_measured(attacks, measurement, kept, number)
        if x_adv is not None:
            try:
                search.offer(number, torch.arange(len(x_adv), device=x_adv.device), x_adv)
            except NumericsError as error:
                outcome.problem = error.message
        outcomes[number] = outcome
        if outcome.problem:
            break
        work.bar.advance(measurement.passes)
        work.speaker.detail(f"measured: {measurement.label}")
    return outcomes


def _kept_or_measured(
    attacks: Attacks, measurement: Measurement, kept: KeptOutcomes | None, number: int
) -> tuple[Outcome, Tensor | None]:
    before = kept and kept.load(number)
    if before:
        outcome, x_adv = before
        return outcome, x_adv if x_adv is None else x_adv.to(attacks.device)
    outcome, x_adv = attacks.measure(measurement)
    # Figures that are not finite end the audit: there is nothing to go on with.
    if kept and not outcome.problem and math.isfinite(outcome.excess):
        kept.save(number, outcome, x_adv)
    return outcome, x_adv


def _best_of_all(search: BestByRule) -> Tensor:
    """Return the best version of each image over all ranks, (N, C, H, W); ties go to the first measurement."""
    leads = list(zip(search.best["majority"].scores[0].tolist(), search.chosen.tolist(), strict=True))
    by_image = zip(*ranks.gather(leads), strict=True)
    winners = [max(rivals, key=lambda rival: (rival[0], -rival[1]))[1] for rivals in by_image]
    mine = search.chosen == torch.tensor(winners, device=search.x_adv.device)
    # Contiguous, because ranks add up raw memory, whatever its layout.
    return ranks.total(torch.where(mine.view(-1, 1, 1, 1), search.x_adv, 0.0).contiguous())


def _judge_best(measured: Measured, attacks: Attacks, x_adv: Tensor) -> None:
    """Score the best white-box version of each image by fresh votes, which were not used to choose it."""
    outcome = Outcome(**ranks.broadcast(asdict(attacks.judge(x_adv)) if ranks.rank() == 0 else None))
    if outcome.problem:
        measured.not_finite, measured.problem = 1, outcome.problem
    elif outcome.share:
        measured.best = Point("best", 0.0, tuple(outcome.share))
        measured.any_failure = sum(share < 1 for share in outcome.share) / len(outcome.share)


def _gradients(g: SmoothedClassifier, images: Tensor, labels: Tensor, settings: Settings) -> Gradients:
    eot, seed = settings.eot, settings.seed
    pairs, saturated = [], []
    size = max(1, MOST[images.device.type] // eot)
    for start in range(0, len(images), size):
        x, y = images[start : start + size], labels[start : start + size]
        with under_attack(g, x, derived_seed(seed, "audit gradient", start), eot) as victim:
            pair = [victim.gradient(x, y, nll, draw=derived_seed(seed, "audit gradient", half)) for half in range(2)]
        pairs.append(torch.stack([slope.gradient.flatten(1) for slope in pair]))
        logits = torch.cat([slope.logits for slope in pair])
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
