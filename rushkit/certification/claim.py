"""The claim of a run's certificates: the norm, the confidence, the bound, and the largest radius in reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rushkit.certificates import CountBound, MeanBound
from rushkit.errors import NoCertificate, PluginError, UsageError
from rushkit.noises import Noise, Norm, TwoClassNoise, name_of, norms_of, own_norm_of, theorem_of
from rushkit.recipe.radius import norm_words
from rushkit.recipe.schema import Certify, Rule
from rushkit.statistics import (
    betting_lower,
    betting_lower_above,
    binomial_test,
    clopper_pearson_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    randomized_lower,
)

# A bound from draws, that of sequential tests, or the probability itself, from a count over all splits.
Bound = CountBound | MeanBound | Literal["one-sided-betting", "exhaustive"]


@dataclass(frozen=True)
class Claim:
    """The claim that the certificates of one run make.

    Attributes:
        noise: The smoothing distribution.
        norm: Norm of the ball.
        dim: C * H * W.
        alpha: Probability, for each image, that its certificate is false; 0 if the certificates are certain.
        bound: The bound on the probability of the class.
        rule: Majority vote or mean softmax.
        two_class: Whether the runner-up is bounded too.
        samples: Largest number of draws that bound the probability.
        predicts: Whether a class is predicted as well, by a two-sided test of the votes that may abstain.
        p0: The probability that a class must exceed for any certificate: 1/2, or what the smallest radius of
            sequential tests needs, where their mixture is cut.
    """

    noise: Noise
    norm: Norm
    dim: int
    alpha: float
    bound: Bound
    rule: Rule
    two_class: bool
    samples: int
    predicts: bool = False
    p0: float = 0.5

    @property
    def certain(self) -> bool:
        """Whether the certificates are certain, rather than true with probability 1 − alpha."""
        return self.bound == "exhaustive"

    def decides(self, samples: int) -> bool:
        """Return whether ``samples`` draws that all agree can give a certificate and, if one is wanted, a class."""
        if self.best_p(samples) <= self.p0:
            return False
        tested = self.predicts and self.rule == "majority" and not self.certain
        return not tested or float(binomial_test(samples, samples)) <= self.alpha

    def best_p(self, samples: int) -> float:
        """Return the lower bound on p if all ``samples`` draws agree; a randomized one at its luckiest uniform draw."""
        match self.bound:
            case "exhaustive":
                return 1.0
            case "clopper-pearson":
                return float(clopper_pearson_lower(samples, samples, self.alpha))
            case "randomized":
                # A uniform draw of alpha or less gives the largest bound.
                return float(randomized_lower(samples, samples, self.alpha, self.alpha))
            case "betting":
                return float(betting_lower(samples, samples, self.alpha))
            case "one-sided-betting":
                return float(betting_lower_above(samples, samples, self.alpha, self.p0))
            case "hoeffding":
                return float(hoeffding_lower(1.0, samples, self.alpha))
            case "empirical-bernstein":
                return float(empirical_bernstein_lower(1.0, 0.0, samples, self.alpha)) if samples > 1 else 0.0

    def radius_at(self, p: float, norm: Norm) -> float:
        """Return the radius that the noise certifies in a norm for a class of probability p."""
        return float(self.noise.certified_radius(p, norm, self.dim))

    @property
    def reach(self) -> float:
        """The largest radius that these draws can certify."""
        return self.radius_at(self.best_p(self.samples), self.norm)

    @property
    def limit(self) -> float | None:
        """The radius that no number of draws can exceed; None if the radius is unbounded as p approaches 1."""
        nearly, limit = (self.radius_at(p, self.norm) for p in (1.0 - 1e-9, 1.0))
        return limit if limit <= 1.001 * nearly else None


def in_own_norm(settings: Certify, noise: Noise, dim: int) -> Certify:
    """Return settings whose norm is one of l1, l2 and l-inf: that of the noise in place of ``auto``."""
    if settings.norm != "auto":
        return settings
    return settings.model_copy(update={"norm": own_norm_of(noise, dim)})


def norm_of(settings: Certify) -> Norm:
    """Return the norm of settings that ``in_own_norm`` made."""
    assert settings.norm != "auto"
    return settings.norm


def check_theorem(settings: Certify, noise: Noise, dim: int) -> None:
    """Raise NoCertificate if the noise has no theorem for the norm or, with ``two_class``, none for two classes.

    Raises PluginError if it names its theorem by something other than words.
    """
    name, norm = name_of(noise), norm_of(settings)
    if norm not in (known := norms_of(noise, dim)):
        if not known:
            # The noise itself knows best why.
            noise.certified_radius(0.75, norm, dim)
        has = ", ".join(map(norm_words, known))
        raise NoCertificate(
            f"noise {name!r} has no theorem for {norm_words(norm)}; it has: {has}",
            f"choose another one with --norm {known[0]}",
        )
    if settings.two_class and not isinstance(noise, TwoClassNoise):
        raise NoCertificate(f"noise {name!r} has no theorem for two classes", "leave certify.two_class out")
    phrase: object = theorem_of(noise, norm)
    if not isinstance(phrase, str):
        raise PluginError(
            f"noise {name!r} names its theorem by {type(phrase).__name__}, and not in words",
            'repair its theorem: it returns a phrase such as "Neyman-Pearson, tight"',
        )


def check_decides(claim: Claim) -> None:
    """Raise UsageError if the draws of a claim are too few to certify or to predict a class at its alpha."""
    if claim.decides(claim.samples):
        return
    bounded = claim.best_p(claim.samples) > claim.p0
    needed = "1/2" if claim.p0 == 0.5 else f"{claim.p0:.6g}, which the smallest radius needs"
    short = "test of the class abstains" if bounded else f"bound on p ({claim.bound}) does not exceed {needed}"
    raise UsageError(
        f"{claim.samples} draws can never {'decide' if claim.predicts else 'certify'} at alpha {claim.alpha:g}: even "
        f"if all agree, the {short}",
        f"the smallest number that can is --samples {smallest_samples(claim)}",
    )


def smallest_samples(claim: Claim) -> int:
    """Return the smallest number of draws that suffices if all of them agree."""
    high = 1
    while not claim.decides(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if claim.decides(middle) else (middle, high)
    return high
