"""The measurements of an audit, each a function of the images, its label and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks import create
from rushkit.attacks.abilities import Reports
from rushkit.attacks.fab import FAB
from rushkit.attacks.losses import classes_needed, dlr, margin, nll
from rushkit.attacks.norms import length, project, random_start, rim_start, rounding, settle
from rushkit.attacks.restarts import likeliest_others, start_source
from rushkit.attacks.result import AttackResult, no_finite_gradient
from rushkit.attacks.square import Square
from rushkit.attacks.steps.auto import AutoSteps
from rushkit.attacks.steps.sparse import SparseSteps
from rushkit.attacks.victim import derive, under_attack
from rushkit.auditing.given import ALONE, Given
from rushkit.auditing.plan import FAB_TARGETS, Measurement, Settings
from rushkit.auditing.planted import CountedFeatures, plant_and_seek
from rushkit.auditing.rejections import answers
from rushkit.auditing.scoring import FINAL_VOTES, score, score_votes
from rushkit.errors import NumericsError
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed, generator


@dataclass
class Outcome:
    """The outcome of one measurement, in types that JSON supports.

    Attributes:
        share: For each image, the share of fresh votes that are right.
        draws: For each image, the share of the draws of these votes that give the label.
        least_right: For each image, the smallest share of a gradient's draws that gave the label, over the iterates of
            the base attack within the ball; None if it does not report it.
        lead: For each image, the lead of the best other class in these votes; see ``Scores``.
        curve: The attack's mean loss at each step.
        excess: How far the farthest image lies outside its ball or the box, beyond what rounding its pixels to float32
            explains, pixel units; infinite for NaN pixels.
        planted: For each planted example, whether the attack found one.
        answers: Of a model that may reject, the shares of the final votes that are right, that reject, and that accept
            with a wrong class.
        passes: Passes of single images that it made, forward and backward.
        problem: Why the measurement failed, or "".
    """

    share: list[float] | None = None
    draws: list[float] | None = None
    least_right: list[float] | None = None
    lead: list[float] | None = None
    curve: list[float] | None = None
    excess: float = 0.0
    planted: list[bool] | None = None
    answers: tuple[float, float, float] | None = None
    passes: int = 0
    problem: str = ""


class Attacks:
    """Everything that an audit does to images.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1] that are classified correctly before any attack.
        y: (N,) labels.
        settings: Norm, eps and budgets.
        given: What else is known of the subject, such as the attack under doubt.
        rows: (N,) int64, the images' numbers among all audited ones, which seed their votes: those on an image do not
            depend on which others are attacked. None: 0 to N - 1.

    Attributes:
        device: The device of the images.
    """

    def __init__(
        self,
        g: SmoothedClassifier,
        x: Tensor,
        y: Tensor,
        settings: Settings,
        given: Given = ALONE,
        rows: Tensor | None = None,
    ) -> None:
        self._g, self._x, self._y = g, x, y
        self._settings, self._given = settings, given
        self._rows = torch.arange(len(x)) if rows is None else rows
        self.device = x.device

    def measure(self, measurement: Measurement) -> tuple[Outcome, Tensor | None]:
        """Return the outcome of a measurement, and its (N, C, H, W) images if it is an attack within eps."""
        outcome = Outcome()
        x_adv = None
        before = self._g.image_forwards
        try:
            if measurement.kind == "planted":
                outcome.planted = self._planted(outcome)
            elif measurement.kind == "training":
                outcome.share = self._training(measurement, outcome)
            else:
                x_adv = self._attacked(measurement, outcome)
        except NumericsError as error:
            outcome.problem = error.message
        outcome.passes += self._g.image_forwards - before
        return outcome, x_adv

    def judge(self, x_adv: Tensor, places: Tensor) -> Outcome:
        """Score the chosen versions (n, C, H, W) of the images at ``places`` (n,) by many votes of fresh noise."""
        return self._judged(x_adv, places, FINAL_VOTES, "final")

    def opinion(self, x_adv: Tensor) -> Outcome:
        """Score versions (N, C, H, W) of all images as each attack is, by votes of fresh noise."""
        votes = score_votes(self._g.samples, self._g.deterministic)
        return self._judged(x_adv, torch.arange(len(x_adv)), votes, "opinion")

    def vote(self, x_adv: Tensor) -> Outcome:
        """Let one vote of fresh draws decide on the version (N, C, H, W) of each image, whatever the others' draws.

        What a model draws by itself may be the same for all images of a pass, so that each of them has its own passes.
        """
        places = torch.arange(len(x_adv))
        if not self._g.own_draws:
            return self._judged(x_adv, places, 1, "claim")
        votes = [self._judged(x_adv[place], place, 1, f"claim, image {int(place)}") for place in places.split(1)]
        return Outcome(
            share=[share for vote in votes for share in vote.share or ()],
            passes=sum(vote.passes for vote in votes),
            problem=next((vote.problem for vote in votes if vote.problem), ""),
        )

    def _judged(self, x_adv: Tensor, places: Tensor, votes: int, label: str) -> Outcome:
        before = self._g.image_forwards
        outcome = Outcome()
        try:
            y, seed = self._y[places.to(self.device)], self._settings.seed
            outcome.share = score(self._g, x_adv, y, votes, seed, label, self._rows[places]).share
        except NumericsError as error:
            outcome.problem = error.message
        outcome.passes = self._g.image_forwards - before
        return outcome

    def answer(self, x_adv: Tensor) -> Outcome:
        """Let a model that may reject answer the versions (N, C, H, W) in the votes of ``judge``."""
        before = self._g.image_forwards
        outcome = Outcome()
        try:
            found = answers(self._g, x_adv, self._y, FINAL_VOTES, self._settings.seed, "final", self._rows)
            outcome.answers = (found.right, found.rejected, found.wrong)
        except NumericsError as error:
            outcome.problem = error.message
        outcome.passes = self._g.image_forwards - before
        return outcome

    def _attacked(self, measurement: Measurement, outcome: Outcome) -> Tensor | None:
        """Attack, score the images, and return them if they are candidates for the worst versions."""
        make = {
            "climb": self._climb,
            "adaptive": self._adaptive,
            "noise": self._noise,
            "square": self._square,
            "fab": self._fab,
            "plugin": self._plugin,
        }[measurement.kind]
        # ``excess`` tells RK118 how far images lie outside the box; votes need images inside it.
        x_adv = make(measurement, outcome).nan_to_num(0.0).clamp(0, 1)
        votes = score_votes(self._g.samples, self._g.deterministic)
        scores = score(self._g, x_adv, self._y, votes, self._settings.seed, measurement.label, self._rows)
        outcome.share, outcome.lead, outcome.draws = scores.share, scores.lead, scores.draws
        within = measurement.options.get("eps", self._settings.eps) <= self._settings.eps
        return x_adv if within else None

    def _climb(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack every image by one climb of PGD, and keep its last iterate, which the sweeps compare."""
        result = self._climbed(measurement, outcome, self._x, self._y)
        outcome.curve = result.loss_curve.tolist()
        if measurement.base and result.least_right is not None:
            outcome.least_right = result.least_right.tolist()
        return result.x_adv

    def _climbed(self, measurement: Measurement, outcome: Outcome, x: Tensor, y: Tensor) -> AttackResult:
        """Run the attack under doubt with the options of a measurement on images (n, C, H, W) with labels (n,)."""
        settings = self._settings
        options: dict[str, Any] = {"eps": settings.eps, "steps": settings.steps, "samples": settings.eot}
        options |= measurement.options
        seed = derived_seed(settings.seed, f"audit {measurement.label}")
        # One draw of the attack's own verdict is enough: the votes of ``score`` decide.
        attack = self._given.attack(settings.norm, best="last", selection_samples=1, seed=seed, **options)
        result = attack.run(self._g, x, y)
        outcome.passes += result.image_backwards
        outcome.excess = self._excess(result.x_adv, options["eps"], x)
        return result

    def _training(self, measurement: Measurement, outcome: Outcome) -> list[float]:
        """Attack the training images that are right, and return the share of right votes on each of them."""
        assert self._given.training is not None
        x, y = self._given.training
        votes, seed = score_votes(self._g.samples, self._g.deterministic), self._settings.seed
        clean = score(self._g, x, y, votes, seed, f"clean {measurement.label}")
        right = torch.tensor(clean.share, device=x.device) > 0.5
        x, y = x[right], y[right]
        if not len(x):
            return []
        x_adv = self._climbed(measurement, outcome, x, y).x_adv.nan_to_num(0.0).clamp(0, 1)
        return score(self._g, x_adv, y, votes, seed, measurement.label, right.nonzero().squeeze(1).cpu()).share

    def _run(self, attack: Reports, outcome: Outcome, eps: float) -> AttackResult:
        """Run an attack, count its backward passes, and note how far outside the ball it went."""
        result = attack.run(self._g, self._x, self._y)
        outcome.passes += result.image_backwards
        outcome.excess = self._excess(result.x_adv, eps)
        return result

    def _noise(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Add random noise of the largest size in the ball: corners in l-inf, otherwise random directions."""
        x, settings = self._x, self._settings
        source = generator(settings.seed, "audit noise", device=x.device)
        delta = random_start(torch.full_like(x, 0.5), settings.norm, min(settings.eps, 0.5), source) - 0.5
        if settings.norm == "linf":
            delta = settings.eps * delta.sign()
        else:
            size = length(delta, settings.norm).clamp(min=1e-12).view(-1, 1, 1, 1)
            delta = settings.eps * delta / size
        return project(x, x + delta, settings.norm, settings.eps)

    def _adaptive(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Climb by the steps of APGD, and keep the point of largest loss, as it does.

        The loss is the base attack's, or as in APGD-T the difference of logits ratio towards a likely other class; with
        fewer than four classes, where that is not defined, the margin.
        """
        x, y, settings, rank = self._x, self._y, self._settings, measurement.options.get("rank")
        seed, steps = derived_seed(settings.seed, f"audit {measurement.label}"), measurement.options["steps"]
        rule = partial(SparseSteps, noisy=not self._g.deterministic) if settings.norm == "l1" else AutoSteps
        radius = settings.eps * (SparseSteps if settings.norm == "l1" else AutoSteps).first_radius
        start = rim_start(x, settings.norm, radius, start_source(seed, 0, x.device))
        climb, usable = rule(x, start, settings.norm, settings.eps, steps), torch.zeros_like(y, dtype=torch.bool)
        with under_attack(self._g, x, seed, settings.eot) as victim:
            loss, target = nll, None
            if rank is not None:
                # All ranks from one panel, so that no two climbs have the same target.
                target = likeliest_others(victim, x, y, derived_seed(settings.seed, "audit targets"))[:, rank]
                loss = dlr if victim.num_classes >= classes_needed("dlr", targeted=True) else margin
            for step in range(steps):
                slope = victim.gradient(climb.x_adv, y, loss, target, draw=derive(seed, "step", 0, step))
                usable |= slope.usable
                climb.tell(slope.loss, slope.gradient)
        if not usable.any():
            raise no_finite_gradient()
        outcome.passes += victim.image_backwards
        x_adv = settle(x, climb.x_max, settings.norm, settings.eps)
        outcome.excess = self._excess(x_adv, settings.eps)
        return x_adv

    def _square(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack by Square, which uses scores and no gradients; every image gets all queries."""
        settings, seed = self._settings, derived_seed(self._settings.seed, "audit square")
        attack = Square(
            settings.norm, settings.eps, settings.queries, samples=settings.eot, stop_early=False, seed=seed
        )
        return self._run(attack, outcome, settings.eps).x_adv

    def _fab(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack by FAB, which looks for the smallest perturbation rather than for the largest loss."""
        settings, seed = self._settings, derived_seed(self._settings.seed, "audit fab")
        attack = FAB(
            settings.norm,
            settings.eps,
            settings.steps,
            n_targets=FAB_TARGETS,
            samples=settings.eot,
            stop_early=False,
            seed=seed,
        )
        return self._run(attack, outcome, settings.eps).x_adv

    def _plugin(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack by a minimum-norm attack of a plugin, whose name is that of the measurement."""
        settings, seed = self._settings, derived_seed(self._settings.seed, f"audit {measurement.label}")
        attack = create(
            measurement.label,
            norm=settings.norm,
            eps=settings.eps,
            samples=settings.eot,
            panels=1,
            seed=seed,
            **measurement.options,
        )
        return self._run(attack, outcome, settings.eps).x_adv

    def _planted(self, outcome: Outcome) -> list[bool] | None:
        settings, features = self._settings, CountedFeatures(self._given.features or self._g.model)
        planted = plant_and_seek(
            self._g, features, self._x[: settings.planted], (settings.norm, settings.eps), settings.steps,
            settings.eot, derived_seed(settings.seed, "audit planted"), self._given.attack,
        )  # fmt: skip
        outcome.passes += features.passes
        return planted

    def _excess(self, x_adv: Tensor, eps: float, x: Tensor | None = None) -> float:
        delta, norm = x_adv.double() - (self._x if x is None else x).double(), self._settings.norm
        allowed = eps + rounding(norm, delta[0].numel())
        outside = [length(delta, norm).amax() - allowed, x_adv.amax() - 1, -x_adv.amin()]
        # Every comparison with NaN is false: such an image would pass for one within the ball.
        return float(torch.stack([distance.double() for distance in outside]).nan_to_num(math.inf, math.inf).amax())
