"""The figures of a report as records: the contents of report.json, from which tables and charts are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rushkit.recipe.toml import Toml
from rushkit.report.bounds import Curve, TopProbability
from rushkit.report.breakdown import PassesSeries, PerClass
from rushkit.report.distances import MeasuredDistances
from rushkit.report.fallen import fell_to
from rushkit.report.headlines import NOTHING, Headline
from rushkit.report.significance import Significance
from rushkit.report.taken import TakenUnderAttack
from rushkit.report.threats import MeasuredCorruptions, MeasuredShifts, MeasuredUnion
from rushkit.report.worst import Worst
from rushkit.results.attacks import AttackRow, RuleFigures
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Probe, RatioRow
from rushkit.results.jsonable import LEFT_OUT, NO_KEY, Figures, in_json, spread
from rushkit.results.run_file import GitState

SCHEMA = 1


@dataclass(frozen=True)
class AccuracyRow(Figures):
    """Accuracy without an attack, of one run, m and rule; ``chosen`` says how the images were chosen."""

    run: str
    data: str
    noise: dict[str, object]
    samples: int
    rule: str
    correct: int
    images: int
    accuracy: float
    low: float
    high: float
    precision: str = "float32"
    chosen: str = ""


@dataclass(frozen=True)
class MeasuredAttack(Figures):
    """A row of an attack, and where it is from.

    Attributes:
        run: Name of its run.
        data: The data set.
        noise: The model's noise.
        record: The row of results.json.
        chosen_from: How many runs attacked these images.
        chosen: How the images were chosen, in words.
    """

    run: str
    data: str
    noise: dict[str, object]
    record: AttackRow = field(
        metadata=spread(
            without={
                **{"outcomes": True, "transfer": {"outcomes"}, "rescored": {"__all__": {"outcomes"}}},
                **{"notes": True, "candidates": True},
            }
        )
    )
    chosen_from: int = 1
    chosen: str = ""

    @property
    def majority(self) -> RuleFigures:
        """Its figures under the majority vote."""
        return self.record.rules["majority"]

    @property
    @in_json
    def notes(self) -> list[str]:
        """The sentences of its notes, and those on votes of other numbers of draws."""
        return [*(note.text for note in self.record.notes), *self.record.rescored_words()]

    @property
    @in_json
    def candidates(self) -> list[str]:
        """The names of its candidates."""
        return [candidate.label for candidate in self.record.candidates]

    @property
    @in_json
    def fell_to(self) -> dict[str, list[int]]:
        """What was the first to break images -> their indices, of an attack that fits a defence; else empty."""
        return fell_to(self.record)


@dataclass(frozen=True)
class MeasuredShare(Figures):
    """A figure of Table 1: accuracy with its interval.

    Attributes:
        settings: What is not as usual, in words: a low precision, and of an attack what is not the protocol's own.
    """

    accuracy: float
    low: float
    high: float
    images: int
    run: str
    settings: str = ""


@dataclass(frozen=True)
class AttackedShare(MeasuredShare):
    """A figure of Table 1 under attack; ``chosen_from`` says how many runs attacked these images."""

    chosen_from: int = 1


@dataclass(frozen=True)
class ReportedRow(Figures):
    """The published row beside which a model's figures stand, as in ``PublishedRow``, and whether Table 1 has it."""

    method: str
    finetuning: str
    in_table_1: bool
    standard: float | None
    pgd: float | None
    autoattack: float | None
    network: str
    protocol: str
    extra_data: str
    what: str
    source: str


@dataclass(frozen=True)
class Table1Row(Figures):
    """A row of the paper's Table 1.

    Attributes:
        data: The data set.
        noise: The noise of the measurements.
        samples: m of attack and vote.
        strategy: What the paper calls a vote of this m.
        reported: The published figures of the same method and data, where there are any.
        extra_data: What the model was trained on beside the data set, in words; empty if nothing.
        standard: Accuracy without an attack, where it was measured.
        pgd: Protocol -> what PGD leaves within l-inf 8/255, or None.
        autoattack: The same of AutoAttack.
    """

    data: str
    noise: dict[str, object]
    samples: int
    strategy: str | None
    reported: ReportedRow | None
    extra_data: str
    standard: MeasuredShare | None
    pgd: dict[str, AttackedShare | None]
    autoattack: dict[str, AttackedShare | None]


@dataclass(frozen=True)
class EpsPoint(Figures):
    """Robust accuracy at one eps; at eps 0 that of the images as they are."""

    eps: float
    accuracy: float
    low: float
    high: float
    images: int
    run: str
    chosen_from: int
    settings: str


@dataclass(frozen=True)
class EpsSeries(Figures):
    """Robust accuracy as a function of eps.

    Attributes:
        settings: Those that are not the protocol's own, in words.
        points: In the order of eps; the first is at eps 0.
    """

    data: str
    split: str
    noise: dict[str, object]
    attack: str
    norm: str
    protocol: str
    version: int
    effort: int
    samples: int
    settings: str
    points: tuple[EpsPoint, ...]


# The keys of a certification that report.json keeps: all but what each image did.
_CERTIFIED = (
    *("data", "precision", "mode", "norm", "rule", "bound", "theorem", "two_class", "alpha", "samples", "images"),
    *("smoothed", "abstained", "average_radius", "certified", "together", "reach", "covers", "assumptions", "checks"),
)


@dataclass(frozen=True)
class MeasuredCertification(Figures):
    """A certification, its run, noise and curve; ``record`` is its results.json.

    ``chosen`` says how the images were chosen, in words.
    """

    run: str
    noise: dict[str, object]
    record: Certification = field(metadata=spread(*_CERTIFIED))
    curve: Curve
    chosen: str = ""
    probability: TopProbability | None = None

    @property
    @in_json
    def warnings(self) -> list[str]:
        """The sentences of its warnings."""
        return self.record.warnings


@dataclass(frozen=True)
class SweepPoint(Figures):
    """A point of an audit's sweep, with the 95% Wilson interval of its accuracy."""

    label: str
    value: float
    accuracy: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class MeasuredAudit(Figures):
    """An audit with its run.

    Attributes:
        run: Name of its run.
        noise: The model's noise.
        record: Its results.json.
        attacked: How many images were attacked.
        smallest_drop: The smallest drop in accuracy between two attacks that it would have warned of, where it says.
        sweeps: Name of a sweep -> its points.
    """

    run: str
    noise: dict[str, object]
    record: Audit = field(
        metadata=spread("data", "search_precision", "samples", "settings", "size", "images", "checks", "loss_curve")
    )
    attacked: int
    smallest_drop: float | None
    sweeps: dict[str, tuple[SweepPoint, ...]]


@dataclass(frozen=True)
class RatioFigures(Figures):
    """A row of a probe, and the distribution of its ratio: ``curve`` has points (ratio, share of images)."""

    record: RatioRow = field(metadata=spread())
    curve: list[tuple[float, float]]


@dataclass(frozen=True)
class MeasuredProbe(Figures):
    """A probe: ``record`` is its results.json, ``curves`` has the distribution of the ratio for each of its rows."""

    run: str
    record: Probe = field(metadata=spread("data", "images", "norm", "eps", "steps", "size"))
    curves: tuple[list[tuple[float, float]], ...] = field(metadata=NO_KEY)

    @property
    @in_json
    def rows(self) -> list[RatioFigures]:
        """A row for each encoder and way to find the second image."""
        return [RatioFigures(row, curve) for row, curve in zip(self.record.rows, self.curves, strict=True)]


@dataclass(frozen=True)
class TrainingCurves(Figures):
    """The curves of a training run: figure -> (epoch, value)."""

    run: str
    stage: str
    curves: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Confusion(Figures):
    """How often images of one class (rows) were taken for another (columns), under the vote of ``samples`` draws."""

    run: str
    data: str
    noise: dict[str, object]
    samples: int
    classes: list[str]
    counts: list[list[int]]
    precision: str = "float32"


@dataclass(frozen=True)
class OtherResults(Figures):
    """Single figures of a stage that has no section of its own."""

    run: str
    stage: str
    figures: dict[str, bool | int | float | str]


@dataclass(frozen=True)
class RunFacts(Figures):
    """The facts about a run in run.json.

    Attributes:
        run: Its folder.
        seconds: How long its sessions took together; None while one is open.
        command: As it was typed; None if a Python program started the run.
    """

    run: str
    stage: str
    status: str
    started: str
    seconds: float | None
    machine: str | None
    versions: dict[str, str]
    git: GitState | None
    seed: int | None
    parent: str | None
    owners: dict[str, str]
    command: str | None


@dataclass(frozen=True)
class Model(Figures):
    """All figures of a report on one model.

    Attributes:
        name: Its name in the report.
        run: The folder of the run that made it.
        stage: The verb of that run.
        classifies: Whether it is a classifier, and not an encoder alone.
        recipe, about: Name of its recipe, and a description in words.
        named_by: The words of a command line that name it.
        differences: Its differences from its method's setting.
        summary: Its results in sentences.
        attacks, targeted: Its attacks, and those towards a class.
        distances: The smallest distances at which attacks broke images.
        taken_for: What images are taken for under its lowest strict attack; None without one.
        headline: The figures that a reader sees first, and the sentence on them.
        left_out: Section of the page -> the notes on runs whose figures it lacks; they are among ``notes`` too.
        notes, attack_notes: Notes that qualify all figures, and those of its attacks.
        weights: Hash of the weights that were measured; empty where the runs name none or several, or they are gone.
    """

    name: str
    run: str
    stage: str
    classifies: bool
    recipe: str
    about: dict[str, str]
    table_1: list[Table1Row]
    differences: list[str]
    accuracy: list[AccuracyRow]
    corruptions: list[MeasuredCorruptions]
    shifts: list[MeasuredShifts]
    attacks: list[MeasuredAttack]
    targeted: list[MeasuredAttack]
    unions: list[MeasuredUnion]
    distances: list[MeasuredDistances]
    worst: list[Worst]
    against_eps: list[EpsSeries]
    against_passes: list[PassesSeries]
    per_class: list[PerClass]
    taken_for: TakenUnderAttack | None
    certified: list[MeasuredCertification]
    audit: list[MeasuredAudit]
    probe: list[MeasuredProbe]
    training: list[TrainingCurves]
    confusion: Confusion | None
    other: list[OtherResults]
    runs: list[RunFacts]
    recipe_text: str
    named_by: list[str]
    headline: Headline = NOTHING
    left_out: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    attack_notes: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    weights: str = ""


@dataclass(frozen=True)
class Comparison(Figures):
    """Several models side by side.

    Attributes:
        names: Of the models.
        recipes: The value of each model, for every key in which they differ.
        significance: Image by image.
        certificates: A sentence for each two models that were certified by different methods.
    """

    names: list[str]
    recipes: dict[str, list[Toml]]
    significance: list[Significance]
    certificates: list[str]


@dataclass(frozen=True)
class Report(Figures):
    """All figures of a report.

    Attributes:
        schema: The version of this format.
        title: Names of the models.
        rushkit: The version that wrote it.
        protocol_note: The note that must accompany figures under the protocol ``paper``.
        paper: The source of the reported figures.
        date: Day of the newest run, in UTC and ISO form; empty where no run says when it was started.
    """

    schema: int
    title: str
    date: str
    rushkit: str
    protocol_note: str
    paper: str
    models: Sequence[Model]
    comparison: Comparison | None = field(default=None, metadata=LEFT_OUT)
