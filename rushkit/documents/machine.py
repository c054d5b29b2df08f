"""What ``rushkit doctor`` prints under ``--json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from rushkit.doctor.examination import Examination
from rushkit.results.jsonable import Figures, spread


@dataclass(frozen=True)
class Diagnosis(Figures):
    """The findings of the doctor.

    Attributes:
        facts: What there is.
        advice: Sentences on what would be slow or fail, each with what to do about it.
    """

    facts: Examination = field(metadata=spread())
    advice: list[str]
