"""Records of McNemar's tests: which measurement two models share, and on how many images they differ."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.results.attacks import Deviation
from rushkit.results.jsonable import Figures


@dataclass(frozen=True)
class CleanMeasurement(Figures):
    """Accuracy without an attack that two models share."""

    data: str
    samples: int
    rule: str
    precision: str


@dataclass(frozen=True)
class AttackMeasurement(Figures):
    """An attack that two models share."""

    data: str
    samples: int
    attack: str
    norm: str
    eps: float
    protocol: str
    version: int
    effort: int
    deviations: list[Deviation]


@dataclass(frozen=True)
class Significance(Figures):
    """McNemar's exact test of two models on images that both were measured on.

    Attributes:
        what: The measurement.
        first, second: Names of the models.
        images: How many images they share.
        both, only_first, only_second: How many of these both have right, and one alone.
        p_value: Two-sided; not corrected for the number of tests.
        corrected: The same, corrected for the number of tests in the comparison (Holm).
    """

    what: CleanMeasurement | AttackMeasurement
    first: str
    second: str
    images: int
    both: int
    only_first: int
    only_second: int
    p_value: float
    corrected: float
