"""What was measured of a machine's speed: each part of the work beside the same passes bare."""

from __future__ import annotations

from dataclasses import dataclass, field

from rushkit.results.base import Precision
from rushkit.results.jsonable import NO_KEY, Figures, in_json
from rushkit.results.rows import Row as TableRow
from rushkit.results.rows import Tabular, no_images, rows_of


@dataclass(frozen=True)
class Cost:
    """The cost of one call.

    Attributes:
        wall: Wall-clock seconds.
        work: Seconds for comparisons. On a CPU they are the processor time of this process, which a busy machine
            affects less; elsewhere they equal ``wall``.
    """

    wall: float = float("inf")
    work: float = float("inf")

    def least(self, other: Cost) -> Cost:
        """Return the smaller of both costs, separately for wall and work."""
        return Cost(min(self.wall, other.wall), min(self.work, other.work))

    def a_step(self, three: Cost) -> Cost:
        """Return the cost of one attack step, from this cost of a one-step attack and the cost of ``three`` steps.

        One-off costs of an attack cancel.
        """
        return Cost((three.wall - self.wall) / 2, (three.work - self.work) / 2)


@dataclass(frozen=True)
class Row(Figures):
    """One part of the work, compared with the same passes bare.

    Attributes:
        part: Name of the part.
        unit: Unit of its speed, such as ``"steps/s"``.
        count: Number of units in one call of rushkit's code.
        precision: That of the passes in it.
        batch: Images, noisy copies included, that it works on at a time.
        ours: Cost of that call.
        bare: Cost of its passes in float32.
        alike: Cost of its passes in its own precision; None where that is float32, or where it makes none.
        per_bare: Number of units in a call of the bare passes; 0 means ``count``.
    """

    part: str
    unit: str
    count: int = field(metadata=NO_KEY)
    precision: Precision
    batch: int
    ours: Cost = field(metadata=NO_KEY)
    bare: Cost = field(metadata=NO_KEY)
    alike: Cost | None = field(default=None, metadata=NO_KEY)
    per_bare: int = field(default=0, metadata=NO_KEY)

    @property
    @in_json
    def per_second(self) -> float:
        """Our speed, in units a second by the clock."""
        return self.count / self.ours.wall

    @property
    @in_json
    def bare_per_second(self) -> float:
        """The speed of the bare passes in float32, in units a second by the clock."""
        return (self.per_bare or self.count) / self.bare.wall

    @property
    @in_json
    def fraction(self) -> float:
        """Our speed as a fraction of that of the bare passes in float32."""
        return self.count / self.ours.work * self.bare.work / (self.per_bare or self.count)

    @property
    @in_json
    def fraction_alike(self) -> float | None:
        """Our speed as a fraction of that of the bare passes in our precision; None where that is float32."""
        return None if self.alike is None else self.alike.work / self.ours.work


@dataclass(frozen=True)
class Estimate:
    """The estimated duration of pre-training on this machine.

    Attributes:
        epochs: Epochs of the recipe.
        seconds_an_epoch: Seconds of training in an epoch, without nearest neighbours.
        seconds: Seconds of all epochs.
    """

    epochs: int
    seconds_an_epoch: float
    seconds: float


@dataclass(frozen=True, repr=False)
class Benchmark(Tabular, Figures):
    """The results of ``bench``.

    Attributes:
        recipe: The recipe's name.
        machine: Device, precision and threads, in words.
        batch: Images in a training step; see ``bench``.
        recipe_batch: Images in a training step of the recipe.
        rows: Views, training, attack and votes.
        memory_bytes: Peak memory.
        estimate: Estimated duration of the pre-training; None if the data set is not available to be counted.
    """

    recipe: str
    machine: str
    batch: int
    recipe_batch: int
    rows: tuple[Row, ...]
    memory_bytes: int
    estimate: Estimate | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.recipe!r}, {len(self.rows)} parts, batch {self.batch}, {self.machine})"


@rows_of.register
def _(record: Benchmark, per_image: bool) -> list[TableRow]:
    if per_image:
        raise no_images(record)
    about: TableRow = {"recipe": record.recipe, "machine": record.machine}
    rows: list[TableRow] = []
    for row in record.rows:
        part: TableRow = {**about, "part": row.part, "precision": row.precision, "batch": row.batch}
        speeds = {"speed": row.per_second, "bare_speed": row.bare_per_second}
        rows += [{**part, "unit": row.unit, **_figure(name, value)} for name, value in speeds.items()]
        # Making views is no pass of the model, so it is no share of one.
        shares = (
            {"share_of_bare": row.fraction, "share_of_bare_alike": row.fraction_alike} if row.part != "views" else {}
        )
        rows += [{**part, **_figure(name, share)} for name, share in shares.items() if share is not None]
    rows.append({**about, "unit": "bytes", **_figure("peak_memory", float(record.memory_bytes))})
    if record.estimate is not None:
        rows.append({**about, "unit": "s", **_figure("pretraining_seconds", record.estimate.seconds)})
    return rows


def _figure(name: str, value: float) -> TableRow:
    return {"figure": name, "value": value, "low": None, "high": None}
