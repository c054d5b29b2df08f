"""What an audit measures: sweeps of one attack, its rivals, gradients, saturation and planted examples.

Nothing here judges; ``auditing.checks`` does, from these figures alone. Several ranks deal the measurements out
among themselves: each is a function of the images, its label and the seed, so that all of them come to what a single
process finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks.best import BestByRule
from rushkit.attacks.losses import nll
from rushkit.attacks.victim import under_attack
from rushkit.auditing.attacks import Attacks, Outcome, score
from rushkit.auditing.plan import SCORE_DRAWS, Measurement, Settings, plan
from rushkit.auditing.planted import Features
from rushkit.distributed import ranks
from rushkit.errors import NumericsError, UsageError
from rushkit.models.passes import MOST
from rushkit.run.partial import Partial
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed


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
        deterministic: Whether every draw of the noise is the same, and there is nothing to ask about it.
        problem: Why the rest could not be measured, or "".
        no_gradient: Whether that is because the output does not depend on the input differentiably.
        gradients: At the images.
        steps, draws, radii: The sweeps.
        losses: The base attack under other losses; the first is the base attack itself.
        fixed, single, noise, black_box: Rivals of the base attack; see ``audit_plan.plan``.
        best: The best of all white-box attacks for each image, judged anew.
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


@dataclass(frozen=True)
class Session:
    """What a run does around the measuring; by default nothing.

    Attributes:
        begin: Called with the number of passes that this rank is going to make, about.
        advance: Called with the label and the passes of each piece of work that is done.
        partial: From a measurement's number to where its outcome is kept; None where nothing is.
        stopped: Whether this rank was asked to stop. It does after the measurement that it is at.
        interrupt: Called on all ranks where one of them was; it raises.
    """

    begin: Callable[[int], None] = lambda passes: None
    advance: Callable[[str, int], None] = lambda label, passes: None
    partial: Callable[[int], Partial | None] = lambda number: None
    stopped: Callable[[], bool] = lambda: False
    interrupt: Callable[[], None] = lambda: None


_ALONE = Session()


def measure(
    g: SmoothedClassifier,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    features: Features | None = None,
    session: Session = _ALONE,
) -> Measured:
    """Attack images in every way that the checks compare; the same figures on every rank.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        settings: Norm, eps and budgets.
        features: (N, C, H, W) -> (N, F), where examples are planted; None: the model's logits.
        session: Hears of the progress, keeps what is done, and may stop it.
    """
    found = _agreed(_look(g, x, y, settings) if ranks.rank() == 0 else None, settings)
    if found.problem:
        return found
    x, y = x[list(found.attacked)], y[list(found.attacked)]
    planned = plan(settings, g.samples, found.classes, x.shape)
    search = BestByRule(g, x, y, derived_seed(settings.seed, "audit best"))
    attacks = Attacks(g, x, y, settings, features or g.model)
    outcomes = _measure_own(attacks, planned, search, session)
    if ranks.any_rank(session.stopped()):
        session.interrupt()
    everyone = {int(number): Outcome(**outcome) for part in ranks.gather(outcomes) for number, outcome in part.items()}
    for number, measurement in enumerate(planned):
        # In order, up to the first that has a problem: no rank has gone beyond a problem of its own.
        if not _book(found, measurement, everyone[number]):
            return found
    found.radii.sort(key=lambda point: point.value)
    _judge_best(found, attacks, _best_of_all(search))
    return found


def _look(g: SmoothedClassifier, x: Tensor, y: Tensor, settings: Settings) -> Measured:
    """The model without any attack, and its gradients; ``problem`` says why there is nothing to attack."""
    found = Measured(settings, images=len(x), deterministic=g.deterministic)
    for image in x:
        try:
            found.classes = g.tally(image[None], SCORE_DRAWS).votes.shape[1]
        except NumericsError as error:
            found.not_finite += 1
            found.problem = error.message
    if found.not_finite:
        return found
    try:
        found.clean = Point("clean", 0.0, tuple(score(g, x, y, settings.seed, "clean")))
        found.attacked = tuple(index for index, right in enumerate(found.clean.right) if right)
        if not found.attacked:
            found.problem = "no image is classified rightly before any attack"
            return found
        x, y = x[list(found.attacked)], y[list(found.attacked)]
        found.commonest = int(y.cpu().bincount().max()) / len(y)
        found.gradients = _gradients(g, x, y, settings)
    except NumericsError as error:
        found.not_finite, found.problem = 1, error.message
    except UsageError as error:
        found.problem, found.no_gradient = error.message, True
    return found


def _agreed(found: Measured | None, settings: Settings) -> Measured:
    """Rank 0's first look, on every rank: what is attacked must not depend on a rank's rounding."""
    told = ranks.broadcast(asdict(found) if found else None)
    clean, gradients = told["clean"], told["gradients"]
    return Measured(
        settings,
        images=told["images"],
        classes=told["classes"],
        clean=clean and Point(clean["label"], clean["value"], tuple(clean["share"])),
        attacked=tuple(told["attacked"]),
        commonest=told["commonest"],
        not_finite=told["not_finite"],
        deterministic=told["deterministic"],
        problem=told["problem"],
        no_gradient=told["no_gradient"],
        gradients=gradients
        and Gradients(
            tuple(gradients["zero"]), gradients["zero_entries"], tuple(gradients["cosines"]), gradients["saturated"]
        ),
    )


def _measure_own(
    attacks: Attacks, planned: list[Measurement], search: BestByRule, session: Session
) -> dict[int, dict[str, Any]]:
    """This rank's measurements: number -> outcome. The images of the white boxes go to the search."""
    outcomes = {}
    mine = ranks.own_by_cost(list(enumerate(planned)), lambda item: item[1].passes)
    session.begin(sum(measurement.passes for _, measurement in mine))
    for number, measurement in mine:
        if session.stopped():
            break
        outcome, x_adv = _kept_or_measured(attacks, measurement, session.partial(number), number)
        if x_adv is not None:
            try:
                search.offer(number, torch.arange(len(x_adv), device=x_adv.device), x_adv)
            except NumericsError as error:
                outcome.problem = error.message
        outcomes[number] = asdict(outcome)
        if outcome.problem:
            break
        session.advance(measurement.label, measurement.passes)
    return outcomes


def _kept_or_measured(
    attacks: Attacks, measurement: Measurement, partial: Partial | None, number: int
) -> tuple[Outcome, Tensor | None]:
    stored = partial and partial.load(number)
    if stored:
        x_adv = stored.tensors.get("x_adv")
        return Outcome(**stored.meta["outcome"]), x_adv if x_adv is None else x_adv.to(attacks.device)
    outcome, x_adv = attacks.measure(measurement)
    # What has no finite figures is not worth keeping.
    if partial and not outcome.problem and math.isfinite(outcome.excess):
        partial.save(number, {} if x_adv is None else {"x_adv": x_adv}, {"outcome": asdict(outcome)})
    return outcome, x_adv


def _book(found: Measured, measurement: Measurement, outcome: Outcome) -> bool:
    """Put an outcome into its place; False where it has a problem instead."""
    found.excess = max(found.excess, outcome.excess)
    if outcome.problem:
        found.not_finite, found.problem = 1, outcome.problem
    elif outcome.share is None:
        found.planted = outcome.planted
    else:
        point = Point(measurement.label, float(measurement.value), tuple(outcome.share))
        place = getattr(found, measurement.place)
        if isinstance(place, list):
            place.append(point)
        else:
            setattr(found, measurement.place, point)
        if measurement.base:
            found.curve = tuple(outcome.curve or ())
            found.radii.append(Point("eps", found.settings.eps, point.share))
            found.losses.append(Point("nll", 0.0, point.share))
    return not outcome.problem


def _best_of_all(search: BestByRule) -> Tensor:
    """(N, C, H, W) the best version of each image that any rank found; of equals, that of the first measurement."""
    own = list(zip(search.best["majority"].scores[0].tolist(), search.chosen.tolist(), strict=True))
    claims = zip(*ranks.gather(own), strict=True)
    winners = [max(rivals, key=lambda claim: (claim[0], -claim[1]))[1] for rivals in claims]
    mine = search.chosen == torch.tensor(winners, device=search.x_adv.device)
    # Contiguous: ranks add up memory, whatever its order.
    return ranks.total(torch.where(mine.view(-1, 1, 1, 1), search.x_adv, 0.0).contiguous())


def _judge_best(found: Measured, attacks: Attacks, x_adv: Tensor) -> None:
    """Votes that chose nothing, on the best white-box version of each image."""
    outcome = Outcome(**ranks.broadcast(asdict(attacks.judge(x_adv)) if ranks.rank() == 0 else None))
    if outcome.problem:
        found.not_finite, found.problem = 1, outcome.problem
    elif outcome.share:
        found.best = Point("best", 0.0, tuple(outcome.share))
        found.any_failure = sum(share < 1 for share in outcome.share) / len(outcome.share)


def _gradients(g: SmoothedClassifier, images: Tensor, labels: Tensor, settings: Settings) -> Gradients:
    eot, seed = settings.eot, settings.seed
    pairs, saturated = [], []
    size = max(1, MOST[images.device.type] // eot)
    for start in range(0, len(images), size):
        x, y = images[start : start + size], labels[start : start + size]
        with under_attack(g, x, derived_seed(seed, "audit gradient", start), eot) as victim:
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
