"""Choose the procedure for a recipe: a fixed number of draws, sequential tests, or a count over all splits."""

from __future__ import annotations

from dataclasses import replace

from rushkit.certificates import threshold_probability
from rushkit.certification.all_splits import AllSplits
from rushkit.certification.claim import Bound, Claim, check_decides, check_theorem, in_own_norm, norm_of
from rushkit.certification.fixed_samples import FixedSamples
from rushkit.certification.procedure import Procedure
from rushkit.certification.sequential import Sequential
from rushkit.errors import UsageError
from rushkit.noises import FiniteNoise, Noise
from rushkit.recipe.radius import check_eps
from rushkit.recipe.schema import Certify
from rushkit.results.certification import Mode

PROCEDURES: dict[Mode, type[Procedure]] = {kind.mode: kind for kind in (FixedSamples, Sequential, AllSplits)}
_COUNT_BOUNDS: tuple[Bound, ...] = ("clopper-pearson", "randomized", "betting")
_MEAN_BOUNDS: tuple[Bound, ...] = ("empirical-bernstein", "hoeffding")


def choose_procedure(settings: Certify, noise: Noise, dim: int, mode: Mode | None = None) -> Procedure:
    """Choose and check the procedure of a recipe's [certify] section, before any draws are made.

    Args:
        settings: The section.
        noise: The smoothing distribution.
        dim: C * H * W.
        mode: The procedure that existing counts were made with; None chooses the one that fits the settings.

    Raises:
        NoCertificate: the noise has no theorem for the norm, or none for two classes.
        UsageError: settings are incompatible, there are too few draws to certify at this alpha, or a radius is larger
            than any distance between two images.
    """
    settings = in_own_norm(settings, noise, dim)
    norm = norm_of(settings)
    for radius in settings.radii:
        check_eps(norm, radius, dim, "radius")
    counted = mode is not None
    if mode is None and settings.radii and not _counts_all(settings, noise):
        mode = "sequential"
    if mode != "sequential":
        return choose_image_procedure(settings, noise, dim, mode)
    check_theorem(settings, noise, dim)
    bars = [threshold_probability(noise, radius, norm, dim) for radius in settings.radii]
    claim = _claim(settings, noise, dim, _sequential_bound(settings, counted=counted), settings.alpha)
    # A radius that no probability reaches is refuted without a draw.
    claim = replace(claim, p0=min((bar for bar in bars if bar < 1.0), default=0.5))
    check_decides(claim)
    return Sequential(claim, settings.selection, tuple(settings.radii))


def choose_image_procedure(
    settings: Certify, noise: Noise, dim: int, mode: Mode | None = None, predicts: bool = False
) -> FixedSamples | AllSplits:
    """Choose a procedure that gives each image its largest radius, ignoring the radii to test in the settings.

    Args:
        settings: As for ``choose_procedure``.
        noise: The smoothing distribution.
        dim: C * H * W.
        mode: As for ``choose_procedure``.
        predicts: Whether a class is predicted as well as the radius.

    Raises:
        NoCertificate, UsageError: as for ``choose_procedure``.
    """
    settings = in_own_norm(settings, noise, dim)
    check_theorem(settings, noise, dim)
    if mode != "fixed" and isinstance(noise, FiniteNoise) and _counts_all(settings, noise):
        claim = _claim(settings, noise, dim, "exhaustive", 0.0, predicts)
        return AllSplits(replace(claim, samples=noise.num_splits), 0, noise)
    if mode == "splits":
        raise UsageError("these counts are of all splits, for the majority vote", "leave certify.rule at its default")
    claim = _claim(settings, noise, dim, _fixed_bound(settings), settings.alpha, predicts)
    check_decides(claim)
    return FixedSamples(claim, settings.selection)


def _counts_all(settings: Certify, noise: Noise) -> bool:
    return isinstance(noise, FiniteNoise) and settings.rule == "majority"


def _claim(settings: Certify, noise: Noise, dim: int, bound: Bound, alpha: float, predicts: bool = False) -> Claim:
    return Claim(
        noise=noise,
        norm=norm_of(settings),
        dim=dim,
        alpha=alpha,
        bound=bound,
        rule=settings.rule,
        two_class=settings.two_class,
        samples=settings.samples,
        predicts=predicts,
    )


def _fixed_bound(settings: Certify) -> Bound:
    if settings.two_class and settings.rule == "mean":
        raise UsageError("two_class counts votes, and rule is mean", "set one of certify.two_class and certify.rule")
    known = _COUNT_BOUNDS if settings.rule == "majority" else _MEAN_BOUNDS
    for bound in known:
        if settings.bound in (bound, "auto"):
            return bound
    raise UsageError(f"bound {settings.bound!r} does not go with the {settings.rule} rule", f"use {' or '.join(known)}")


def _sequential_bound(settings: Certify, counted: bool) -> Bound:
    if settings.rule == "mean" or settings.two_class or settings.bound not in ("auto", "betting"):
        if counted:
            raise UsageError(
                "these counts are of sequential tests, which stopped when the votes of one class decided: only the "
                "bound of these tests holds for them",
                "leave certify.rule, certify.two_class and certify.bound at their defaults, or certify anew",
            )
        raise UsageError(
            "--radius tests the majority vote of one class with the betting bound",
            "leave certify.rule, certify.two_class and certify.bound at their defaults, or leave --radius out",
        )
    return "one-sided-betting"
