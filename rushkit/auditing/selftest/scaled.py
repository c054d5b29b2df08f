"""Planted defences whose slope is true, but whose logits are so large that the loss has none in float32.

Defensive distillation: Papernot et al. 2016; broken by Carlini and Wagner 2016, "Defensive distillation is not robust
to adversarial examples", who divide the logits by the temperature.
"""

from __future__ import annotations

from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SATURATION
from rushkit.auditing.selftest.ground import Ground, convolutional
from rushkit.auditing.selftest.stand_ins import Scaled

EPS = 0.15
_GAIN = 1e4
_TEMPERATURE = 40.0


def saturated(ground: Ground) -> Planted:
    """Build the base network with its logits times 10,000."""
    return Planted(Scaled(ground.base, _GAIN).eval(), stand_in=ground.base)


def distilled(ground: Ground) -> Planted:
    """Build a student of a teacher, both trained at a temperature of 40; the student is used at 1."""
    x, _ = ground.train
    teacher = ground.trained(convolutional, "teacher", loss=_cooled)
    taught = (x, (teacher(x) / _TEMPERATURE).softmax(1))
    student = ground.trained(convolutional, "student", loss=_cooled, data=taught)
    return Planted(student, stand_in=Scaled(student, 1 / _TEMPERATURE).eval())


def _cooled(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits / _TEMPERATURE, targets)


CASES: tuple[Case, ...] = (
    Case("saturated", "broken", "linf", EPS, saturated, SATURATION),
    Case("distilled", "broken", "linf", EPS, distilled, SATURATION),
)
