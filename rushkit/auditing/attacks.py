"""The measurements of an audit, each a function of the images, its label and the seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks.norms import length, project, random_start, rounding
from rushkit.attacks.pgd import PGD
from rushkit.attacks.scoring import count_right
from rushkit.attacks.square import square
from rushkit.auditing.plan import FINAL_VOTES, SCORE_DRAWS, Measurement, Settings
from rushkit.auditing.planted import Features, plant_and_seek
from rushkit.errors import NumericsError
from rushkit.models.passes import MOST
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed, generator


@dataclass
class Outcome:
    """The outcome of one measurement, in types that JSON supports.

    Attributes:
        share: For each image, the share of fresh votes that are right.
        curve: The attack's mean loss at each step.
        excess: How far the farthest image lies outside its ball or the box, beyond what rounding its pixels to float32
            explains, pixel units; infinite for NaN pixels.
        planted: For each planted example, whether the attack found one.
        problem: Why the measurement failed, or "".
    """

    share: list[float] | None = None
    curve: list[float] | None = None
    excess: float = 0.0
    planted: list[bool] | None = None
    problem: str = ""


class Attacks:
    """Everything that an audit does to images.

    Args:
        g: The model under its noise, with the m of the votes.
        x: (N, C, H, W) images in [0, 1] that are classified correctly before any attack.
        y: (N,) labels.
        settings: Norm, eps and budgets.
        features: (N, C, H, W) -> (N, F), the features in which examples are planted.

    Attributes:
        device: The device of the images.
    """

    def __init__(self, g: SmoothedClassifier, x: Tensor, y: Tensor, settings: Settings, features: Features) -> None:
        self._g, self._x, self._y = g, x, y
        self._settings, self._features = settings, features
        self.device = x.device

    def measure(self, measurement: Measurement) -> tuple[Outcome, Tensor | None]:
        """Return the outcome of a measurement, and its (N, C, H, W) images if it is a white-box attack within eps."""
        outcome = Outcome()
        try:
            if measurement.kind == "planted":
                outcome.planted = self._planted()
                return outcome, None
            make = {"climb": self._climb, "noise": self._noise, "square": self._square}[measurement.kind]
            # ``excess`` tells RK118 how far images lie outside the box; votes need images inside it.
            x_adv = make(measurement, outcome).nan_to_num(0.0).clamp(0, 1)
            outcome.share = score(self._g, x_adv, self._y, self._settings.seed, measurement.label)
        except NumericsError as error:
            outcome.problem = error.message
            return outcome, None
        within = measurement.options.get("eps", self._settings.eps) <= self._settings.eps
        return outcome, x_adv if measurement.kind == "climb" and within else None

    def judge(self, x_adv: Tensor) -> Outcome:
        """Score the chosen images by many votes of fresh noise."""
        seed = derived_seed(self._settings.seed, "audit final")
        try:
            right = count_right(self._g, x_adv, self._y, FINAL_VOTES, seed)["majority"]
        except NumericsError as error:
            return Outcome(problem=error.message)
        return Outcome(share=[count / FINAL_VOTES for count in right])

    def _climb(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack every image by one climb of PGD, and keep its last iterate, which the sweeps compare."""
        settings = self._settings
        options: dict[str, Any] = {"eps": settings.eps, "steps": settings.steps, "samples": settings.eot}
        options |= measurement.options
        results = []
        size = max(1, MOST[self._x.device.type] // options["samples"])
        for start in range(0, len(self._x), size):
            seed = derived_seed(settings.seed, f"audit {measurement.label}", start)
            attack = PGD(settings.norm, best="last", seed=seed, **options)
            results.append(attack.run(self._g, self._x[start : start + size], self._y[start : start + size]))
        weights = torch.tensor([len(result.x_adv) for result in results], dtype=torch.float64)
        curves = torch.stack([result.loss_curve for result in results])
        outcome.curve = ((curves * weights[:, None]).sum(0) / weights.sum()).tolist()
        x_adv = torch.cat([result.x_adv for result in results])
        outcome.excess = self._excess(x_adv, options["eps"])
        return x_adv

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

    def _square(self, measurement: Measurement, outcome: Outcome) -> Tensor:
        """Attack by Square, which uses scores and no gradients."""
        settings, seed = self._settings, derived_seed(self._settings.seed, "audit square")
        attack = square(settings.norm, settings.eps, settings.queries, samples=settings.eot, seed=seed)
        x_adv = attack.run(self._g, self._x, self._y).x_adv
        outcome.excess = self._excess(x_adv, settings.eps)
        return x_adv

    def _planted(self) -> list[bool] | None:
        settings = self._settings
        return plant_and_seek(
            self._g, self._features, self._x[: settings.planted], settings.norm, settings.eps, settings.steps,
            settings.eot, derived_seed(settings.seed, "audit planted"),
        )  # fmt: skip

    def _excess(self, x_adv: Tensor, eps: float) -> float:
        delta, norm = x_adv.double() - self._x.double(), self._settings.norm
        allowed = eps + rounding(norm, delta[0].numel())
        outside = [length(delta, norm).amax() - allowed, x_adv.amax() - 1, -x_adv.amin()]
        # Every comparison with NaN is false: such an image would pass for one within the ball.
        return float(torch.stack([distance.double() for distance in outside]).nan_to_num(math.inf, math.inf).amax())


def score(g: SmoothedClassifier, x: Tensor, y: Tensor, seed: int, label: str) -> list[float]:
    """Return each image's share of correct votes of fresh noise; the label seeds the draws."""
    votes = max(1, SCORE_DRAWS // g.samples)
    right = count_right(g, x, y, votes, derived_seed(seed, f"audit score {label}"))["majority"]
    return [count / votes for count in right]
