"""What a certificate claims: whether it can be had at all, how far it reaches, what it covers, and what it assumes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from rushkit.errors import NoCertificate, UsageError
from rushkit.noises import FiniteNoise, GridNoise, Noise, Norm, TwoClassNoise, name_of
from rushkit.recipe.radius import check_eps, norm_words
from rushkit.recipe.schema import Certify, Recipe
from rushkit.setup.components import IN_CHANNELS, build_noise, build_objective
from rushkit.statistics import (
    betting_lower,
    binomial_test,
    clopper_pearson_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
)

Mode = Literal["fixed", "sequential", "splits"]

# What the papers of this field attack with, and what a reader will ask about.
ASKED_LINF = 8 / 255
_COUNT_BOUNDS, _MEAN_BOUNDS = ("clopper-pearson", "betting"), ("empirical-bernstein", "hoeffding")


@dataclass(frozen=True)
class Claim:
    """What the certificates of one run say.

    Attributes:
        noise: The smoothing distribution.
        norm: Of the ball.
        dim: C * H * W.
        alpha: Probability, for each image, that its certificate is false; 0 where nothing is left to chance.
        bound: How the probability of the class is bounded.
        rule: Majority vote or mean confidence.
        two_class: Whether the runner-up is bounded too.
        samples: Draws that bound it, at most.
        mode: A fixed number of draws, a test for each radius, or a count over all splits.
        predicts: Whether a class is returned as well, by a two-sided test of the votes that may abstain.
    """

    noise: Noise
    norm: Norm
    dim: int
    alpha: float
    bound: str
    rule: Literal["majority", "mean"]
    two_class: bool
    samples: int
    mode: Mode
    predicts: bool = False

    def decides(self, samples: int) -> bool:
        """Whether so many draws that all agree have anything to say: a radius, and a class where one is asked for."""
        if self.best_p(samples) <= 0.5:
            return False
        tested = self.predicts and self.rule == "majority" and self.mode != "splits"
        return not tested or float(binomial_test(samples, samples)) <= self.alpha

    def best_p(self, samples: int) -> float:
        """The bound on p where every one of ``samples`` draws agrees."""
        if self.mode == "splits":
            return 1.0
        if self.bound == "clopper-pearson":
            return float(clopper_pearson_lower(samples, samples, self.alpha))
        if self.bound == "betting":
            return float(betting_lower(samples, samples, self.alpha))
        if self.bound == "hoeffding":
            return float(hoeffding_lower(1.0, samples, self.alpha))
        return float(empirical_bernstein_lower(1.0, 0.0, samples, self.alpha)) if samples > 1 else 0.0

    def radius_at(self, p: float, norm: Norm) -> float:
        """What the noise certifies in a norm where the class has probability p."""
        return float(self.noise.certified_radius(p, norm, self.dim))

    @property
    def reach(self) -> float:
        """The largest radius that these draws can show."""
        return self.radius_at(self.best_p(self.samples), self.norm)

    @property
    def limit(self) -> float | None:
        """The radius that no number of draws exceeds; None where it grows without end as p nears 1."""
        nearly, limit = (self.radius_at(p, self.norm) for p in (1.0 - 1e-9, 1.0))
        return limit if limit <= 1.001 * nearly else None


def make_claim(settings: Certify, noise: Noise, dim: int, mode: Mode, predicts: bool = False) -> Claim:
    """The claim of a recipe's [certify] section, checked before anything is drawn; ``predicts`` as in ``Claim``.

    Raises:
        NoCertificate: no theorem for the norm, or none for two classes.
        UsageError: settings that do not go together, or too few draws to ever certify at this alpha.
    """
    name = name_of(noise)
    if settings.norm not in (known := norms_of(noise, dim)):
        if not known:
            # The noise itself knows best why.
            noise.certified_radius(0.75, settings.norm, dim)
        has = ", ".join(norm_words(norm) for norm in known)
        raise NoCertificate(
            f"noise {name!r} has no theorem for {norm_words(settings.norm)}; it has: {has}",
            f"choose another one with --norm {known[0]}",
        )
    for radius in settings.radii:
        check_eps(settings.norm, radius, dim, "radius")
    bound = _bound(settings, mode)
    if settings.two_class and not isinstance(noise, TwoClassNoise):
        raise NoCertificate(f"noise {name!r} has no theorem for two classes", "leave certify.two_class out")
    claim = Claim(
        noise=noise,
        norm=settings.norm,
        dim=dim,
        alpha=0.0 if mode == "splits" else settings.alpha,
        bound=bound,
        rule=settings.rule,
        two_class=settings.two_class,
        samples=getattr(noise, "num_splits", settings.samples) if mode == "splits" else settings.samples,
        mode=mode,
        predicts=predicts,
    )
    if not claim.decides(claim.samples):
        bounded = claim.best_p(claim.samples) > 0.5
        short = "test of the class abstains" if bounded else f"bound on p ({bound}) does not exceed 1/2"
        raise UsageError(
            f"{claim.samples} draws can never {'decide' if predicts else 'certify'} at alpha {settings.alpha:g}: even "
            f"if all agree, the {short}",
            f"the smallest number that can is --samples {smallest_samples(claim)}",
        )
    return claim


def mode_of(settings: Certify, noise: Noise) -> Mode:
    """Which procedure the settings ask for under this noise."""
    if isinstance(noise, FiniteNoise) and settings.rule == "majority":
        return "splits"
    return "sequential" if settings.radii else "fixed"


def norms_of(noise: Noise, dim: int) -> list[Norm]:
    """The norms that the noise has a theorem for."""
    known: list[Norm] = []
    for norm in get_args(Norm):
        try:
            noise.certified_radius(0.75, norm, dim)
        except NoCertificate:
            continue
        known.append(norm)
    return known


def smallest_samples(claim: Claim) -> int:
    """Fewest draws that decide if all of them agree."""
    high = 1
    while not claim.decides(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if claim.decides(middle) else (middle, high)
    return high


def _bound(settings: Certify, mode: Mode) -> str:
    bound = settings.bound
    if mode == "splits":
        return "exhaustive"
    if settings.two_class and settings.rule == "mean":
        raise UsageError("two_class counts votes, and rule is mean", "set one of certify.two_class and certify.rule")
    if mode == "sequential":
        if settings.rule == "mean" or settings.two_class or bound not in ("auto", "betting"):
            raise UsageError(
                "--radius tests the majority vote of one class with the betting bound",
                "leave certify.rule, certify.two_class and certify.bound at their defaults, or leave --radius out",
            )
        return "betting"
    known = _COUNT_BOUNDS if settings.rule == "majority" else _MEAN_BOUNDS
    if bound != "auto" and bound not in known:
        raise UsageError(f"bound {bound!r} does not go with the {settings.rule} rule", f"use {' or '.join(known)}")
    return known[0] if bound == "auto" else bound


def coverage(claim: Claim) -> str:
    """What the certificates cover and what they do not, in plain words."""
    name, dim = name_of(claim.noise), claim.dim
    norm, limit = norm_words(claim.norm), claim.limit
    first = f"Covered: {norm} perturbations of a test image, of any kind, up to the image's radius. "
    if limit is not None:
        first += f"This noise certifies {norm} {_figure(limit)} at most. "
    if claim.mode != "splits":
        shown = _figure(claim.reach)
        first += f"{claim.samples} draws that all agree show {norm} {shown} at alpha {claim.alpha:g}, and no more. "
    if "linf" not in norms_of(claim.noise, dim):
        return first + f"Not covered: l-inf perturbations, for which noise {name} has no theorem. " + _elsewhere()
    best = claim.radius_at(1.0 if claim.mode == "splits" else claim.best_p(claim.samples), "linf")
    sizes = f"l1 norm up to {ASKED_LINF * dim:.4g} and l2 norm up to {ASKED_LINF * math.sqrt(dim):.3g}"
    if best < ASKED_LINF:
        return (
            f"{first}Not covered: l-inf 8/255, the usual threat. On {dim} pixel values it has {sizes}; the largest "
            f"l-inf radius within reach here is {_figure(best)}, which is {best * 255:.2g}/255. {_elsewhere()}"
        )
    return (
        f"{first}An l-inf perturbation of 8/255 has {sizes}; it is within reach here under --norm linf. {_elsewhere()}"
    )


def _elsewhere() -> str:
    return (
        "Nor are larger perturbations, other changes such as blur or rotation, and images from elsewhere; nor the "
        "network without its noise."
    )


def _figure(value: float) -> str:
    return f"{value:.4g}"


def assumptions(claim: Claim, precision: str, warnings: list[str]) -> list[str]:
    """What the certificates rest on, beside the theorem."""
    stated = []
    if claim.mode == "splits":
        stated.append(
            "The image in the middle of the ball is 8-bit; the count over all splits leaves no chance. A perturbed "
            "image may lie between the grey levels: there the smoothed classifier dithers."
        )
    elif isinstance(claim.noise, GridNoise):
        stated.append(
            "Floating point: the noisy image lies on the grid of 8-bit images and is the same float however it was "
            "reached, so rounding does not break the proof. A perturbed image may lie anywhere in the ball: between "
            "the grey levels the smoothed classifier rounds the sum of image and noise, not the image."
        )
    else:
        stated.append(
            "Floating point: the theorem is about real numbers. float32 noise added to an 8-bit image depends on the "
            "image in its last bit, which a network could exploit (Voráček & Hein 2023); the noises without this gap "
            "are discrete-gaussian and, for l1, split."
        )
    if claim.mode != "splits":
        stated += [
            "Random numbers: the draws are those of a pseudo-random generator, taken for independent and exact draws "
            "of the noise; the images were chosen without knowledge of the seed.",
            f"Each certificate is false with probability at most {claim.alpha:g}; that is for each image, not for all "
            "of them together.",
            "The settings were chosen before looking at the counts.",
        ]
    stated += [
        f"The network is one function: in {precision}, whose rounding may differ with the batch that an image is in.",
        "The images are a sample of what the accuracy is claimed for: the intervals are about that, not about attacks.",
    ]
    trained = "The model was trained under the noise that it is certified with."
    stated.append(trained if not warnings else "Not needed for validity, but for accuracy: " + " ".join(warnings))
    return stated


def training_warnings(trained: Recipe, recipe: Recipe, image_size: int, imported: bool = False) -> list[str]:
    """Whether the model was fine-tuned without noise, or under another noise than the recipe certifies with.

    Of an imported model nobody here has seen the training.
    """
    certified = noise_words(recipe)
    if imported:
        said = (
            "imported for this noise"
            if trained.noise == recipe.noise
            else f"imported with noise {noise_words(trained)}"
        )
        return [f"the model was {said}, which nothing here can confirm, and is certified under {certified}"]
    if not _trains_under_noise(trained, image_size):
        objective = trained.finetune.objective
        return [f"the model was fine-tuned without noise (objective {objective}), and is certified under {certified}"]
    if trained.noise != recipe.noise:
        return [f"the model was trained under {noise_words(trained)}, and is certified under {certified}"]
    return []


def noise_words(recipe: Recipe) -> str:
    """``uniform scale 0.3``."""
    return " ".join([recipe.noise.name, *(f"{key} {value}" for key, value in recipe.noise.options.items())])


def _trains_under_noise(recipe: Recipe, image_size: int) -> bool:
    """Whether the fine-tuning objective asks the noise for draws: tried on two black images."""
    spy = _Spy(build_noise(recipe))
    objective = build_objective(recipe, recipe.finetune)
    black = torch.zeros(2, IN_CHANNELS, image_size, image_size, dtype=torch.uint8)
    objective.inputs(black, lambda images, _: images.float() / 255, spy, torch.Generator())
    return spy.asked and float(spy.noise.std) > 0.0


class _Spy:
    """A noise that remembers whether it was drawn from."""

    def __init__(self, noise: Any) -> None:
        self.noise, self.asked = noise, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.noise, name)

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """As the noise's."""
        self.asked = True
        return self.noise.sample(x, generator)


def radius_grid(limit: float) -> list[float]:
    """About ten round radii from 0 to ``limit``, for the table of certified accuracies."""
    if limit <= 0.0:
        return [0.0]
    magnitude = 10.0 ** math.floor(math.log10(limit / 10))
    step = next(factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude * 10 >= limit) * magnitude
    # Rounded so that 0.3 is written 0.3.
    return [float(f"{radius:.6g}") for radius in np.arange(0.0, limit * (1 + 1e-9), step)]
