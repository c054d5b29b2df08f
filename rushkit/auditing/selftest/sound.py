"""Sound models, on which every alarm of the audit is a false one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from rushkit.attacks import Norm
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.ground import (
    CLASSES,
    LEARNED,
    SIDE,
    Ground,
    convolutional,
    in_noise,
    pgd_trained,
    trades_trained,
)
from rushkit.errors import NumericsError
from rushkit.noises.additive import AdditiveNoise
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.laplace import Laplace
from rushkit.noises.uniform import Uniform
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

# m of the smoothed models.
_DRAWS = 16


def clean_accuracy(ground: Ground, planted: Planted) -> float:
    """Return the share of the test images on which the model's vote is right."""
    x, y = ground.test
    seed = derived_seed(ground.seed, "self-test clean")
    g = SmoothedClassifier(planted.model, planted.noise, planted.samples, seed=seed)
    return float((g.predict(x) == y).double().mean())


def learned(build: Callable[[Ground], Planted], ground: Ground) -> Planted:
    """Build a model, and check that it has learned the digits.

    Raises:
        NumericsError: its clean accuracy is .8 or less, so that it does not count as sound.
    """
    planted = build(ground)
    accuracy = clean_accuracy(ground, planted)
    if not accuracy > LEARNED:
        raise NumericsError(
            f"a model of the self-test has a clean accuracy of {accuracy:.3f}, and counts as sound above {LEARNED}",
            "take another seed",
        )
    return planted


def _linear_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES))


def _smooth_network() -> nn.Module:
    """Return the base network, untrained, with GELU in place of ReLU."""
    return nn.Sequential(*(nn.GELU() if isinstance(layer, nn.ReLU) else layer for layer in convolutional()))


def _linear(ground: Ground) -> Planted:
    return Planted(ground.trained(_linear_network, "linear"))


def _base(ground: Ground) -> Planted:
    return Planted(ground.base)


def _pgd_trained(ground: Ground) -> Planted:
    return Planted(ground.robust)


def _pgd_trained_l2(ground: Ground) -> Planted:
    return Planted(pgd_trained(ground, "l2", 2.0))


def _trades_trained(ground: Ground) -> Planted:
    return Planted(trades_trained(ground))


def _smooth(ground: Ground) -> Planted:
    return Planted(ground.trained(_smooth_network, "gelu"))


def _smoothed(noise: AdditiveNoise, ground: Ground) -> Planted:
    """Train the base network in a noise, and smooth it by the same."""
    network = ground.trained(convolutional, f"in {noise.name} noise", moved=in_noise(noise))
    return Planted(network, noise, _DRAWS)


def _sound(name: str, norm: Norm, eps: float, build: Callable[[Ground], Planted]) -> Case:
    return Case(name, "sound", norm, eps, partial(learned, build))


CASES = (
    _sound("linear, l-inf", "linf", 0.03, _linear),
    _sound("linear, l2", "l2", 0.5, _linear),
    _sound("PGD-trained, l-inf", "linf", 0.1, _pgd_trained),
    _sound("PGD-trained, l2", "l2", 1.5, _pgd_trained_l2),
    _sound("TRADES", "linf", 0.1, _trades_trained),
    _sound("base net, l-inf", "linf", 0.05, _base),
    _sound("base net, l2", "l2", 1.0, _base),
    _sound("PGD-trained, l1", "l1", 15.0, _pgd_trained),
    _sound("uniform noise", "linf", 0.1, partial(_smoothed, Uniform(scale=0.6))),
    _sound("Gaussian noise", "linf", 0.1, partial(_smoothed, Gaussian(std=0.35))),
    _sound("Laplace noise", "linf", 0.1, partial(_smoothed, Laplace(scale=0.25))),
    _sound("GELU network", "linf", 0.05, _smooth),
)
