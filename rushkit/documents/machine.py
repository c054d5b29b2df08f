"""What ``rushkit doctor`` and ``rushkit bench`` print under ``--json``."""

from __future__ import annotations

from dataclasses import dataclass, field

from rushkit.doctor import Examination
from rushkit.report.jsonable import Figures, spread
from rushkit.speed.figures import Benchmark, Estimate, Row
from rushkit.system import Precision


@dataclass(frozen=True)
class Diagnosis(Figures):
    """The findings of the doctor.

    Attributes:
        facts: What there is.
        advice: Sentences on what would be slow or fail, each with what to do about it.
    """

    facts: Examination = field(metadata=spread())
    advice: list[str]


@dataclass(frozen=True)
class PartSpeed(Figures):
    """The speed of one part of the work.

    Attributes:
        part: Name of the part.
        unit: Unit of its speed, such as ``steps/s``.
        per_second: Its speed by the clock.
        precision: Precision of the passes in it.
        batch: Images, noisy copies included, that it works on at a time.
        bare_per_second: The speed of its bare passes in float32.
        fraction: The speed as a fraction of that of the bare passes in float32.
        fraction_alike: The same for bare passes in its own precision; null where that is float32.
    """

    part: str
    unit: str
    per_second: float
    precision: Precision
    batch: int
    bare_per_second: float
    fraction: float
    fraction_alike: float | None

    @classmethod
    def of(cls, row: Row) -> PartSpeed:
        """Return what is printed of a part."""
        speeds = row.per_second, row.precision, row.batch, row.bare_per_second
        return cls(row.part, row.unit, *speeds, row.fraction, row.fraction_alike)


@dataclass(frozen=True)
class Speed(Figures):
    """How fast this machine does the work of a recipe.

    Attributes:
        recipe: The recipe's name.
        machine: Device, precision and threads, in words.
        batch: Images in a training step.
        recipe_batch: Images in a training step of the recipe.
        rows: Views, training, attack and votes.
        memory_bytes: Peak memory.
        estimate: Estimated duration of the pre-training; null if the data set is not here to be counted.
    """

    recipe: str
    machine: str
    batch: int
    recipe_batch: int
    rows: list[PartSpeed]
    memory_bytes: int
    estimate: Estimate | None

    @classmethod
    def of(cls, measured: Benchmark) -> Speed:
        """Return what is printed of a benchmark."""
        sizes = measured.batch, measured.recipe_batch
        rows = list(map(PartSpeed.of, measured.rows))
        return cls(measured.recipe, measured.machine, *sizes, rows, measured.memory_bytes, measured.estimate)
