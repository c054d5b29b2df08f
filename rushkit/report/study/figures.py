"""The figures of a study's table as records: the contents of its JSON, from which tables and files are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rushkit.results.jsonable import Figures

SCHEMA = 1
# What an interval says how a figure would vary with: other images, other seeds, or both.
Over = Literal["images", "seeds", "seeds and images"]
Group = Literal["clean", "attacked", "certified"]


@dataclass(frozen=True)
class Interval(Figures):
    """A 95 % interval, and over what it is."""

    over: Over
    low: float
    high: float


@dataclass(frozen=True)
class Quantity(Figures):
    """What a column holds. Figures of one quantity were measured alike, but for the images and what cells say.

    Attributes:
        name: What it is called in the head of its column.
        what: In full: on what data, by which protocol, and how.
        group: Without an attack, under one, or certified.
        ball: Data, norm and radius of an attack; the norm of a certificate.
        attack: Registered name of the attack; empty without one, like the next.
        protocol: The protocol.
        radius: Of a certificate, pixel units.
    """

    name: str
    what: str
    group: Group
    ball: str = ""
    attack: str = ""
    protocol: str = ""
    radius: float = 0.0


@dataclass(frozen=True)
class SeedFigure(Figures):
    """A figure of one seed, or why there is none.

    Attributes:
        seed: The seed.
        stage: The label of the stage that measures it.
        job: The id of its job.
        state: ``"done"``, or how the job stands.
        run: Its run folder, or the file of its kept results; empty where there is none.
        value: The share, in [0, 1]; None while it is not done, like the next three.
        low: Lower end of its 95 % interval over the images.
        high: Upper end.
        images: Number of images.
        remarks: What qualifies the figure: precision, other settings, a search that has not converged.
    """

    seed: int
    stage: str
    job: str
    state: str
    run: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    images: int | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellFigure(Figures):
    """The figures of a row in one column, over its seeds.

    Attributes:
        seeds: Each seed.
        mean: The mean of those that are done; None if there are none, or they were not measured alike.
        spread: Their standard deviation (divisor: one less than their number); None for a single one.
        intervals: Around the mean, by what they are over.
        problem: Why figures that are there have no mean; empty if they have.
    """

    seeds: tuple[SeedFigure, ...]
    mean: float | None = None
    spread: float | None = None
    intervals: tuple[Interval, ...] = ()
    problem: str = ""

    @property
    def done(self) -> list[SeedFigure]:
        """The seeds with a figure."""
        return [figure for figure in self.seeds if figure.value is not None]

    @property
    def widest(self) -> Interval | None:
        """The interval over most: seeds and images, if there are several seeds."""
        return self.intervals[-1] if self.intervals else None


@dataclass(frozen=True)
class PublishedFigure(Figures):
    """What a published row has in the columns of a study.

    Attributes:
        key: Names the published row.
        data: The data set of the test.
        standard, pgd, autoattack, robust: Shares; None where its source has none.
        certified: Its certified accuracy by radius, in words.
        words: What the row really is, the data from outside first.
    """

    key: str
    data: str
    standard: float | None
    pgd: float | None
    autoattack: float | None
    robust: float | None
    certified: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Line(Figures):
    """A row of the study, at one number of draws.

    Attributes:
        row: The label of the row.
        samples: m, the number of draws in each vote; None where the model has no noise.
        published: The published rows that stand beside it.
        cells: One for each quantity; None where the row does not measure it.
    """

    row: str
    samples: int | None
    published: tuple[PublishedFigure, ...]
    cells: tuple[CellFigure | None, ...]


@dataclass(frozen=True)
class TrainingFigure(Figures):
    """A training of a row.

    Attributes:
        row: The label of the row.
        seed: The seed.
        stage: The label of the stage.
        state: ``"done"``, or how the job stands.
        epochs: Passes over the training images; None while it is not done.
        loss: Mean loss of the last epoch; None where that is not known.
        accuracy: Nearest-neighbour accuracy of a pre-training, accuracy on validation images of a fine-tuning.
        run: Its run folder, or the file of its kept results.
    """

    row: str
    seed: int
    stage: str
    state: str
    epochs: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    run: str = ""


@dataclass(frozen=True)
class Difference(Figures):
    """The first row minus another one, on the same images, over the seeds that both have.

    Attributes:
        row: The label of the other row.
        samples: m of each of the two; None without noise.
        quantity: The name of the quantity.
        seeds: The seeds.
        images: Number of images; None where the two cannot be compared, like all that follows.
        value: The difference of the shares that are right, mean of the seeds.
        intervals: Around it.
        only_first: For each seed, images that most votes of the first row have right, and of the other wrong.
        only_other: Those the other way round.
        p_values: McNemar's exact test, for each seed.
        corrected: The same after Holm's correction for all tests of this quantity.
        problem: Why there is no difference; empty if there is one.
    """

    row: str
    samples: tuple[int | None, int | None]
    quantity: str
    seeds: tuple[int, ...]
    images: int | None = None
    value: float | None = None
    intervals: tuple[Interval, ...] = ()
    only_first: tuple[int, ...] = ()
    only_other: tuple[int, ...] = ()
    p_values: tuple[float, ...] = ()
    corrected: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class StudyReport(Figures):
    """The table of a study.

    Attributes:
        schema: Version of this format.
        study: The name of the study.
        title: Its title.
        rushkit: Version of rushkit that wrote it.
        protocol_note: What figures under attack must be shown with.
        quantities: The columns.
        lines: The rows.
        differences: Of each row to the first one.
        trainings: The trainings.
        states: How many of the jobs are done, and how the others stand.
        notes: What qualifies the figures.
    """

    schema: int
    study: str
    title: str
    rushkit: str
    protocol_note: str
    quantities: tuple[Quantity, ...]
    lines: tuple[Line, ...]
    differences: Sequence[Difference]
    trainings: tuple[TrainingFigure, ...]
    states: dict[str, int]
    notes: tuple[str, ...]

    @property
    def shared_remarks(self) -> tuple[frozenset[str], ...]:
        """For each column the remarks that all its figures have, which are said once."""
        columns = (
            [figure for line in self.lines for cell in [line.cells[place]] if cell for figure in cell.done]
            for place in range(len(self.quantities))
        )
        return tuple(
            frozenset.intersection(*(frozenset(figure.remarks) for figure in figures))
            if len(figures) > 1
            else frozenset()
            for figures in columns
        )
