"""Make the measurements of an audit: sweeps of one attack, its rivals, gradients, saturation and planted examples.

The figures are evaluated by ``auditing.checks``. Several ranks share the measurements between them. Each measurement
is a function of the images, its label and the seed, so the figures do not depend on the number of ranks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import get_args

import torch
from pydantic import TypeAdapter
from torch import Tensor

from rushkit.attacks.checks import check_labels
from rushkit.auditing.attacks import Attacks, Outcome
from rushkit.auditing.given import ALONE, Given
from rushkit.auditing.gradients import Gradients, input_gradients
from rushkit.auditing.kept import KeptOutcomes
from rushkit.auditing.landscapes import shares_reached
from rushkit.auditing.plan import Measurement, Passes, Place, Settings, plan
from rushkit.auditing.probes import Probes, probe
from rushkit.auditing.rejections import Answers, answers, of_real_classes
from rushkit.auditing.scoring import WorstVersions, score, score_votes
from rushkit.auditing.versions import Versions, judged, worst_of_all
from rushkit.distributed import ranks
from rushkit.errors import NumericsError, UsageError
from rushkit.files import JSON
from rushkit.models.repeats import RANDOM_FROM
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


@dataclass
class Measured:
    """All figures that the checks use; figures that could not be measured are None or empty.

    Attributes:
        settings: Norm, eps and budgets.
        images: Number of images.
        classes: K, of the model's outputs those that attacks look at.
        data_classes: The number of classes of the data; 0 if it is not known.
        outputs: The number of the model's outputs; those beyond the classes of the data reject an image.
        answers: What a model with such outputs answers to all images before any attack; None for any other model.
        worst_answers: What it answers to the worst version of each attacked image.
        clean: The accuracy before any attack, on all images.
        attacked: Indices of the images that are right before any attack; all points below refer to these.
        commonest: Share of them with the most common label, which is the accuracy of a constant answer.
        not_finite: Images for which some draw gives NaN or infinite logits.
        own_randomness: By how much a second pass of the model over the same images changes its logits, as a share of
            the largest; see ``models.repeats``.
        deterministic: Whether all draws of noise and model are the same, so that checks of the draws are skipped.
        problem: Why the rest could not be measured, or "".
        no_gradient: Whether the reason is that the output is not a differentiable function of the input; the attacks
            without gradients are measured then.
        probes: What the probes of the model found, before any attack.
        gradients: Input gradients at the attacked images.
        points: The accuracies by place: a list for each sweep, in order, and for each rival of the base attack. The
            first entry of the losses is the base attack.
        best: The accuracy on the worst white-box version of each image, by votes that were not used to choose it.
        strongest: The same on the worst version of all attacks within eps, those without gradients included.
        least_right: For each image, the smallest share of a gradient's draws that gave the label, over the iterates of
            the base attack within the ball; empty if it does not report it.
        last_right: For each image, the share of the scoring draws that give the label at its last iterate.
        why_no_training: Why there are no training images at hand, or "".
        claim: The share of all images that is said to stay right under attack; None if nothing is claimed.
        second_opinion: The accuracy on the worst of what APGD and APGD-T make of each image, by votes that did not
            choose it.
        landscapes: The least share of the possible rise that the attack under doubt reaches on each landscape whose
            optimum is known; empty if it was not tried.
        claim_votes: For each image, whether one vote is right on its worst version of all, or on the image itself if it
            is wrong before any attack; the vote chose nothing, and no other image shares its draws. Empty without a
            claim.
        any_failure: Share of the attacked images that lose at least one of the final votes.
        curve: The base attack's mean loss at each step.
        excess: How far the farthest image lies outside its ball or the box, beyond what rounding its pixels to float32
            explains, pixel units; infinite for NaN pixels.
        planted: For each planted example, whether the attack found one; None where none could be planted.
        passes: Passes of single images through the model, forward and backward; each draw counts.
        announced: The passes that were announced before the first attack.
    """

    settings: Settings
    images: int = 0
    classes: int = 0
    data_classes: int = 0
    outputs: int = 0
    answers: Answers | None = None
    worst_answers: Answers | None = None
    clean: Point | None = None
    attacked: tuple[int, ...] = ()
    commonest: float = 0.0
    not_finite: int = 0
    own_randomness: float | None = None
    deterministic: bool = False
    problem: str = ""
    no_gradient: bool = False
    probes: Probes | None = None
    gradients: Gradients | None = None
    points: dict[Place, list[Point]] = field(default_factory=lambda: {place: [] for place in get_args(Place)})
    best: Point | None = None
    strongest: Point | None = None
    least_right: tuple[float, ...] = ()
    last_right: tuple[float, ...] = ()
    why_no_training: str = ""
    claim: float | None = None
    second_opinion: Point | None = None
    landscapes: dict[str, float] = field(default_factory=dict)
    claim_votes: tuple[bool, ...] = ()
    any_failure: float | None = None
    curve: tuple[float, ...] = ()
    excess: float = 0.0
    planted: list[bool] | None = None
    passes: int = 0
    announced: int = 0

    @property
    def rejects(self) -> bool:
        """Whether the model has more outputs than the data has classes."""
        return 0 < self.data_classes < self.outputs

    def rival(self, place: Place) -> Point | None:
        """Return a rival of the base attack; None if it was not measured."""
        return self.points[place][0] if self.points[place] else None

    @property
    def unattacked(self) -> Point:
        """The accuracy on the attacked images before any attack."""
        assert self.clean is not None
        return Point(self.clean.label, 0.0, tuple(self.clean.share[index] for index in self.attacked))

    @property
    def random_by_itself(self) -> bool:
        """Whether the model itself is random, beside any noise that rushkit adds."""
        return self.own_randomness is not None and self.own_randomness > RANDOM_FROM

    def add(self, measurement: Measurement, outcome: Outcome) -> bool:
        """Add the outcome of a measurement, and return True; return False if the measurement failed."""
        self.excess = max(self.excess, outcome.excess)
        self.passes += outcome.passes
        if outcome.problem:
            self.not_finite, self.problem = 1, outcome.problem
        elif measurement.place is None:
            self.planted = outcome.planted
        elif outcome.share is not None:
            share = tuple(outcome.share)
            self.points[measurement.place].append(Point(measurement.label, float(measurement.value), share))
            if measurement.base:
                self.curve = tuple(outcome.curve or ())
                self.least_right, self.last_right = tuple(outcome.least_right or ()), tuple(outcome.draws or ())
                self.points["radii"].append(Point("eps", self.settings.eps, share))
                self.points["losses"].append(Point("nll", 0.0, share))
        return not outcome.problem


@dataclass(frozen=True)
class Pace:
    """How long passes take, from those before the first attack.

    Attributes:
        forward: Seconds of the forward pass of one image.
        backward: Seconds of its backward pass.
    """

    forward: float = 0.0
    backward: float = 0.0

    @property
    def mean(self) -> float:
        """Mean seconds of a pass of an attack, which makes as many forward passes as backward ones."""
        return (self.forward + self.backward) / 2


# Measured and outcomes travel between ranks as JSON.
_BEFORE, _OUTCOMES = TypeAdapter(tuple[Measured, Pace]), TypeAdapter(dict[int, Outcome])


def measure(
    g: SmoothedClassifier,
    x: Tensor,
    y: Tensor,
    settings: Settings,
    given: Given = ALONE,
    work: Work | None = None,
    kept: KeptOutcomes | None = None,
    announce: Callable[[int, float], None] = lambda passes, seconds: None,
) -> Measured:
    """Make all measurements that the checks compare, with the same figures on every rank.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1].
        y: (N,) labels.
        settings: Norm, eps and budgets.
        given: What else is known of the subject.
        work: Displays the progress, and stops between two measurements if asked to; None without a run.
        kept: Holds the outcomes of earlier sessions and stores new ones; None stores nothing.
        announce: Called before the first attack with the passes of the whole audit and the seconds they may take.

    Raises:
        Interrupted: a signal asked to stop.
        UsageError: the images are none, a label is no class of the model, or the model returns anything but logits of
            two classes or more.
    """
    measured, pace = _agreed(_before_attacks(g, x, y, settings, given.classes) if ranks.rank() == 0 else None)
    g = g.with_own_draws() if measured.random_by_itself else g
    g = of_real_classes(g, measured.classes) if measured.rejects else g
    given = given.limited(len(x))
    measured.announced, measured.claim = measured.passes, given.claim
    measured.why_no_training = "" if given.training else given.why_no_training
    # The votes on a claim, which is about all images.
    votes = 0 if g.deterministic or given.claim is None else len(x) * g.samples
    everything, worst = Attacks(g, x, y, settings), x.clone()
    if measured.problem and not (measured.no_gradient and measured.attacked):
        if not measured.not_finite:
            measured.announced += votes
            _vote_on_claim(measured, everything, worst)
        return measured
    x, y = x[list(measured.attacked)], y[list(measured.attacked)]
    training = len(given.training[0]) if given.training else 0
    planned = plan(settings, g.samples, measured.classes, x.shape, g.deterministic, training)
    if measured.no_gradient:
        planned = [measurement for measurement in planned if not measurement.uses_gradients]
    # The worst white-box versions, those of all attacks where they differ, and the second opinion.
    passes = Passes(len(x), g.samples, g.deterministic)
    looks = (1 if measured.no_gradient else 2) + measured.rejects
    final = looks * passes.final + (0 if measured.no_gradient else passes.score) + votes
    measured.announced += sum(measurement.passes for measurement in planned) + final
    announce(measured.announced, measured.announced * pace.mean / ranks.world())
    versions = Versions.of(x)
    attacks = Attacks(g, x, y, settings, given, torch.tensor(measured.attacked))
    work = work or unattended()
    mine = _measure_share(attacks, planned, versions, work, kept and kept.depending_on(_found_before(measured)))
    work.stop_together()
    parts = ranks.gather({number: asdict(outcome) for number, outcome in mine.items()})
    outcomes = _OUTCOMES.validate_python({number: outcome for part in parts for number, outcome in part.items()})
    for number, measurement in enumerate(planned):
        # In order, up to the first that has a problem: no rank has gone beyond a problem of its own.
        if not measured.add(measurement, outcomes[number]):
            return measured
    measured.points["radii"].sort(key=lambda point: point.value)
    measured.landscapes = _landscapes(settings, given, x.device)
    if not measured.no_gradient:
        _judge_opinion(measured, attacks, versions.opinion)
    if not measured.problem or measured.no_gradient:
        white_box = None if measured.no_gradient else versions.white_box
        worst[list(measured.attacked)] = _judge_worst(measured, attacks, white_box, versions.strongest)
    if measured.strongest is not None:
        _vote_on_claim(measured, everything, worst)
    return measured


def _found_before(measured: Measured) -> dict[str, JSON]:
    """Return what outcomes depend on that a second session may find otherwise, as with a model that draws anew."""
    return {
        "attacked": list(measured.attacked),
        "classes": measured.classes,
        "random by itself": measured.random_by_itself,
    }


def _before_attacks(
    g: SmoothedClassifier, x: Tensor, y: Tensor, settings: Settings, data_classes: int
) -> tuple[Measured, Pace]:
    """Measure the model without an attack, and its gradients; set ``problem`` if there is nothing to attack."""
    measured, pace = Measured(settings, images=len(x), data_classes=data_classes), Pace()
    g = _told_if_random(g, x, measured)
    images, votes = x, score_votes(g.samples, g.deterministic)
    before, started = g.image_forwards, time.perf_counter()
    try:
        measured.outputs = g.tally(x[:1], 1).votes.shape[1]
        measured.classes = data_classes if measured.rejects else measured.outputs
        check_labels(y, measured.classes)
        g = of_real_classes(g, measured.classes) if measured.rejects else g
        measured.clean = Point("clean", 0.0, tuple(score(g, x, y, votes, settings.seed, "clean").share))
        forward = (time.perf_counter() - started) / (g.image_forwards - before)
        if measured.rejects:
            measured.answers = answers(g, x, y, votes, settings.seed, "clean")
        measured.attacked = tuple(index for index, right in enumerate(measured.clean.right) if right)
        if not measured.attacked:
            measured.problem = "no image is classified rightly before any attack"
        else:
            measured.probes = probe(g, x, y, list(measured.attacked), settings.seed)
            measured.passes += measured.probes.backwards
            x, y = x[list(measured.attacked)], y[list(measured.attacked)]
            measured.commonest = int(y.cpu().bincount().max()) / len(y)
            # Without a gradient there are forward passes alone.
            pace, started = Pace(forward, forward), time.perf_counter()
            measured.gradients, backwards = input_gradients(g, x, y, settings.eot, settings.seed)
            measured.passes += backwards
            pace = Pace(forward, max(0.0, (time.perf_counter() - started) / backwards - forward))
    except NumericsError as error:
        measured.problem = error.message
        # After the probes it is the gradients that are NaN or infinite, at all images.
        least = 1 if measured.probes is None else len(measured.attacked)
        measured.not_finite = max(_count_not_finite(g, images, votes, settings.seed), least)
    except UsageError as error:
        # Any other error, such as that of a model of one class, is for the user.
        if measured.probes is None or not measured.probes.slopes.cut:
            raise
        measured.problem, measured.no_gradient = error.message, True
    measured.passes += g.image_forwards - before
    return measured, pace


def _told_if_random(g: SmoothedClassifier, x: Tensor, measured: Measured) -> SmoothedClassifier:
    """Return the classifier with draws of the model's own if it is random by itself, and note how random it is."""
    before = g.image_forwards
    # If a model returns no logits, the votes that come next say so.
    with suppress(UsageError):
        seed = derived_seed(measured.settings.seed, "audit own randomness")
        measured.own_randomness = g.own_randomness(x, seed, measured.data_classes).change
    measured.passes += g.image_forwards - before
    g = g.with_own_draws() if measured.random_by_itself else g
    measured.deterministic = g.deterministic
    return g


def _count_not_finite(g: SmoothedClassifier, x: Tensor, votes: int, seed: int) -> int:
    """Return how many images have NaN or infinite logits under some draw."""
    count = 0
    for index in range(len(x)):
        try:
            with g.fresh_noise(derived_seed(seed, "audit not finite", index)):
                for _ in range(votes):
                    g.tally(x[index : index + 1])
        except NumericsError:
            count += 1
    return count


def _agreed(before: tuple[Measured, Pace] | None) -> tuple[Measured, Pace]:
    """Return rank 0's figures on every rank, since rounding must not make ranks attack different images."""
    plain = None if before is None else [asdict(part) for part in before]
    return _BEFORE.validate_python(ranks.broadcast(plain))


def _landscapes(settings: Settings, given: Given, device: torch.device) -> dict[str, float]:
    """Return the share of each known optimum that the attack under doubt reaches, rank 0's on every rank."""
    if ranks.rank() != 0:
        shares = None
    else:
        shares = shares_reached(given.attack, settings.norm, settings.steps, settings.seed, device)
    return dict(ranks.broadcast(shares))


def _measure_share(
    attacks: Attacks,
    planned: list[Measurement],
    versions: Versions,
    work: Work,
    kept: KeptOutcomes | None,
) -> dict[int, Outcome]:
    """Make this rank's measurements, and return their outcomes by number; offer their images to the worst versions."""
    outcomes = {}
    mine = ranks.own_by_cost(list(enumerate(planned)), lambda item: item[1].passes)
    work.bar.total = sum(measurement.passes for _, measurement in mine)
    for number, measurement in mine:
        if work.stop_requested:
            break
        outcome, x_adv = _kept_or_measured(attacks, measurement, kept, number)
        if x_adv is not None and outcome.lead is not None:
            versions.offer(measurement, number, x_adv, outcome.lead)
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


def _judge_worst(
    measured: Measured, attacks: Attacks, white_box: WorstVersions | None, strongest: WorstVersions
) -> Tensor:
    """Score the worst versions of each image by fresh votes, which were not used to choose them; return those of all.

    The white-box versions are judged first; those of all attacks only where they differ.
    """
    versions = [worst_of_all(worst) for worst in (white_box, strongest) if worst is not None]
    parts = ranks.broadcast([asdict(part) for part in judged(attacks, versions)] if ranks.rank() == 0 else None)
    first, *second = [Outcome(**part) for part in parts]
    measured.passes += sum(outcome.passes for outcome in (first, *second))
    problems = [outcome.problem for outcome in (first, *second) if outcome.problem]
    if problems:
        measured.not_finite, measured.problem = 1, problems[0]
        return versions[-1]
    assert first.share is not None
    if white_box is not None:
        measured.best = Point("best", 0.0, tuple(first.share))
        measured.any_failure = sum(share < 1 for share in first.share) / len(first.share)
    last = second[-1] if second else first
    measured.strongest = Point("strongest", 0.0, tuple(last.share or ()))
    if measured.rejects:
        _answer_worst(measured, attacks, versions[-1])
    return versions[-1]


def _answer_worst(measured: Measured, attacks: Attacks, x_adv: Tensor) -> None:
    """Let a model that may reject answer the worst versions with all of its outputs."""
    outcome = Outcome(**ranks.broadcast(asdict(attacks.answer(x_adv)) if ranks.rank() == 0 else None))
    measured.passes += outcome.passes
    if outcome.problem:
        measured.not_finite, measured.problem = 1, outcome.problem
    elif outcome.answers:
        measured.worst_answers = Answers(*outcome.answers)


def _vote_on_claim(measured: Measured, everything: Attacks, x_adv: Tensor) -> None:
    """Let one fresh vote decide on the version (N, C, H, W) of each image, if there is a claim about such votes."""
    if measured.claim is None:
        return
    if measured.deterministic:
        # Every vote is the same.
        right = dict(zip(measured.attacked, measured.strongest.right if measured.strongest else (), strict=True))
        measured.claim_votes = tuple(right.get(index, False) for index in range(measured.images))
        return
    outcome = Outcome(**ranks.broadcast(asdict(everything.vote(x_adv)) if ranks.rank() == 0 else None))
    measured.passes += outcome.passes
    if outcome.problem:
        measured.not_finite, measured.problem = 1, outcome.problem
    measured.claim_votes = tuple(share == 1 for share in outcome.share or ())


def _judge_opinion(measured: Measured, attacks: Attacks, versions: WorstVersions) -> None:
    """Score the second opinion by fresh votes, which were not used to choose its versions."""
    x_adv = worst_of_all(versions)
    outcome = Outcome(**ranks.broadcast(asdict(attacks.opinion(x_adv)) if ranks.rank() == 0 else None))
    measured.passes += outcome.passes
    if outcome.problem:
        measured.not_finite, measured.problem = 1, outcome.problem
    elif outcome.share is not None:
        measured.second_opinion = Point("apgd and apgd-t", 0.0, tuple(outcome.share))
