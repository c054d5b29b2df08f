"""What `rushkit publish` wrote. Importing this imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rushkit.results.jsonable import Figures


@dataclass(frozen=True)
class Published(Figures):
    """What was published.

    Attributes:
        folder: The folder.
        weights: Hash of the weights.
        measured: Names of the runs whose figures are in it.
        artifacts: Number of artifacts.
        certifications: Number of certifications with counts.
        left_out: A sentence on each run, or part of one, that is not in it.
    """

    folder: Path
    weights: str
    measured: list[str]
    artifacts: int
    certifications: int
    left_out: list[str]
