"""The content of a report in all its forms: tables, charts and text, which templates render as HTML and Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.figures import Comparison, MeasuredAudit, MeasuredCertification, MeasuredProbe, Model, Report
from rushkit.report.paper import footnote
from rushkit.report.pictures.attacks import against_eps, against_passes
from rushkit.report.pictures.audits import audit
from rushkit.report.pictures.certificates import certified, probabilities
from rushkit.report.pictures.charts import Chart
from rushkit.report.pictures.classes import per_class
from rushkit.report.pictures.encoders import probe, training
from rushkit.report.pictures.ladder import Ladder, ladder_of
from rushkit.report.pictures.taken import taken_for
from rushkit.report.protocols import search_words
from rushkit.report.quoted import apart_words
from rushkit.report.summary import audited_images
from rushkit.report.table import Medium, Table
from rushkit.report.tables.accuracy import accuracy_by_rule, accuracy_table, confusion_table
from rushkit.report.tables.attacks import attacks_table, queries_table, targeted_table, transfer_table
from rushkit.report.tables.audits import checks_table, ratios_table
from rushkit.report.tables.certificates import certified_table, together_words
from rushkit.report.tables.comparison import is_no_bound, significance_table, tests_words, values_table
from rushkit.report.tables.distances import distances_table
from rushkit.report.tables.fallen import fallen_table, surrogates_table
from rushkit.report.tables.headlines import headline_table
from rushkit.report.tables.runs import runs_table
from rushkit.report.tables.table_1 import published_table, reported_words, table_1, table_1_heading
from rushkit.report.tables.taken import confused_table, matrices
from rushkit.report.tables.threats import kinds_table, means_table, rotations_table, shifts_table, unions_table
from rushkit.report.tables.worst import worst_table
from rushkit.report.threats import MeasuredCorruptions, MeasuredShifts
from rushkit.report.unfilled import Unfilled, unfilled
from rushkit.report.words import figure_words
from rushkit.results.words import PROTOCOL_SENTENCES, listed, low_words, noise_words
from rushkit.run.names import RECIPE_FILE

_SEVERITY = ("fail", "warn", "pass", "skipped")


@dataclass(frozen=True)
class Table1:
    """The paper's Table 1 with its footnotes.

    Attributes:
        heading: What stands above it.
        table: The figures.
        sentences: Sentences on the protocols and on the source of the reported figures.
        reported: A sentence on each published row that stands beside a model.
        published: All that the paper reports for the same data sets; None if that is nothing.
    """

    heading: str
    table: Table
    sentences: tuple[str, ...]
    reported: tuple[str, ...]
    published: Table | None

    def terms(self, medium: Medium) -> str:
        """Explain the paper's terms that a medium shows."""
        words = self.table.on(medium).words if medium == "page" else ""
        return footnote(" ".join((words, *self.sentences, *self.reported)))


@dataclass(frozen=True)
class Certified:
    """The part of a document on a certification: its figures, their method, and their assumptions."""

    norm: str
    noise: str
    data: str
    images: int
    method: str
    together: str
    covers: str
    assumptions: tuple[str, ...]
    table: Table


@dataclass(frozen=True)
class Audited:
    """The part of a document on an audit.

    Attributes:
        run: Name of its run.
        verdicts: How many checks failed, warned and passed.
        images: The number of images, in words.
        checks: The checks, in order of their codes.
        by_severity: The same checks, failed ones first.
    """

    run: str
    verdicts: str
    images: str
    data: str
    ball: str
    samples: int
    checks: Table
    by_severity: Table


@dataclass(frozen=True)
class Probed:
    """The part of a document on a probe."""

    run: str
    data: str
    images: int
    ball: str
    steps: int
    table: Table


@dataclass(frozen=True)
class Threat:
    """The part of a document on corruptions, or on rotations and translations.

    Attributes:
        run: Name of its run.
        tables: Its tables.
        sentences: What must be said with them.
    """

    run: str
    tables: tuple[Table, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Single figures of a stage that has no section of its own, as names and values in words."""

    stage: str
    figures: dict[str, str]


@dataclass(frozen=True)
class ModelPart:
    """The part of a document on one model.

    Attributes:
        name: Its name in the document.
        stage: The verb of its run.
        ladder: Its ladder.
        sentence: The sentence under it.
        about: A description in words.
        summary: Its results in sentences.
        notes: Notes that qualify all its figures, but for those on runs that another section lacks.
        attack_notes: Notes that qualify the figures of its attacks.
        in_table_1: Whether Table 1 has rows for it.
        reported: Whether published figures of its method on its data stand beside it.
        differences: Its differences from its method's setting.
        accuracy: Accuracy without an attack; None if it was not measured, like the tables below.
        threats: Its accuracy under corruptions, and under rotations and translations.
        attacks: Its attacks.
        targeted: Its attacks towards a class.
        unions: What its attacks in balls of different norms leave together.
        distances: The smallest distances that break images.
        queries: What attacks that count their queries leave after so many.
        worst: What its strict attacks on the same images leave together.
        fallen: Which image fell to which part of its attacks that fit a defence.
        surrogates: How the stand-ins that its attacks followed answer beside it.
        transfer: How other models classify the images of its attacks.
        confusion: Its confusion matrix.
        taken_for: What images are taken for under its lowest strict attack, in a sentence; empty without one.
        taken_matrices: The same as matrices of the images as they are and under attack; none where it was not kept.
        confused: The pairs of classes that are confused most under attack.
        commands: The commands that started its runs.
        versions: Versions of the packages that were used, by name.
    """

    name: str
    stage: str
    ladder: Ladder
    sentence: str
    about: dict[str, str]
    summary: Sequence[str]
    notes: Sequence[str]
    attack_notes: Sequence[str]
    in_table_1: bool
    reported: bool
    differences: Sequence[str]
    accuracy: Table | None
    threats: tuple[Threat, ...]
    attacks: Table | None
    targeted: Table | None
    unions: Table | None
    distances: Table | None
    queries: Table | None
    worst: Table | None
    fallen: Table | None
    surrogates: Table | None
    transfer: Table | None
    certified: tuple[Certified, ...]
    audits: tuple[Audited, ...]
    probes: tuple[Probed, ...]
    confusion: Table | None
    taken_for: str
    taken_matrices: tuple[Table, ...]
    confused: Table | None
    runs: Table
    commands: Sequence[str]
    versions: dict[str, str]
    recipe_text: str
    other: tuple[Other, ...]


@dataclass(frozen=True)
class Compared:
    """The comparison of several models.

    Attributes:
        recipes: The recipe keys in which they differ; None if they differ in none.
        significance: McNemar's tests; None if they share no measurement.
        tests: How many there are, of how many pairs of models, and how many of them tell the two apart, in words.
        needs_note: Whether a test is about a figure that is not the robustness.
        certificates: A sentence for each two models that were certified by different methods.
    """

    recipes: Table | None
    significance: Table | None
    tests: str
    needs_note: bool
    certificates: Sequence[str]


@dataclass(frozen=True)
class Charts:
    """The charts of all models, each with every model in it."""

    against_eps: Sequence[Chart]
    against_passes: Sequence[Chart]
    per_class: Sequence[Chart]
    taken_for: Sequence[Chart]
    certified: Sequence[Chart]
    probabilities: Sequence[Chart]
    audit: Sequence[Chart]
    probe: Sequence[Chart]
    training: Sequence[Chart]

    @property
    def all(self) -> list[Chart]:
        """All of them, in the order of the page."""
        return [chart for one in fields(self) for chart in getattr(self, one.name)]


@dataclass(frozen=True)
class Document:
    """Everything that a page or a Markdown file shows.

    Attributes:
        title: Names of the models.
        date: Day of the newest run; empty where that is not known.
        version: Version of rushkit.
        protocols: A sentence on each protocol, which must accompany figures under the protocol ``paper``.
        models: A part for each model.
        headlines: The figures that a reader sees first.
        apart: Why the models' first figures do not compare; empty where they do.
        unfilled: Section -> what would fill it, if it holds nothing.
        left_out: Section -> sentences on runs whose figures it lacks.
        all_notes: The notes of all models, without repeats.
        table_1: The paper's Table 1; None if there is nothing to show, like all fields below.
        comparison: Comparison of several models.
        accuracy: Accuracy without an attack of all models, the rules side by side.
        attacks: The attacks of all models.
        targeted: The attacks towards a class.
        unions: What attacks in balls of different norms leave together.
        distances: The smallest distances that break images.
        queries: What attacks that count their queries leave after so many.
        worst: What the strict attacks on the same model and images leave together.
        fallen: Which image fell to which part of attacks that fit a defence.
        surrogates: How the stand-ins that attacks followed answer beside the models.
        transfer: How other models classify the images of the attacks.
        probes: The probes of all models; models of one encoder share one.
        charts: Charts of all models.
    """

    title: str
    date: str
    version: str
    protocols: tuple[str, ...]
    models: tuple[ModelPart, ...]
    headlines: Table
    apart: str
    unfilled: dict[str, Unfilled]
    left_out: defaultdict[str, list[str]]
    all_notes: list[str]
    table_1: Table1 | None
    comparison: Compared | None
    accuracy: Table | None
    attacks: Table | None
    targeted: Table | None
    unions: Table | None
    distances: Table | None
    queries: Table | None
    worst: Table | None
    fallen: Table | None
    surrogates: Table | None
    transfer: Table | None
    probes: tuple[Probed, ...]
    charts: Charts

    @property
    def attacked(self) -> bool:
        """Whether any attack was run."""
        return any((self.attacks, self.targeted, self.distances))

    @property
    def several(self) -> bool:
        """Whether it is about more than one model."""
        return len(self.models) > 1


def build_document(report: Report, folder: Path | None = None) -> Document:
    """Return the document that shows these figures.

    Args:
        report: The figures.
        folder: Where the page will lie, from which it links the folders of the runs; None: without these links.
    """
    models = report.models
    named = [(model.name, model.attacks) for model in models]
    parts = tuple(_model(model, folder) for model in models)
    return Document(
        title=report.title,
        date=report.date,
        version=report.rushkit,
        protocols=PROTOCOL_SENTENCES,
        models=parts,
        headlines=headline_table(models),
        apart=apart_words([model.headline for model in models]),
        unfilled=unfilled(models),
        left_out=_left_out(models),
        all_notes=list(dict.fromkeys(note for model in models for note in model.notes)),
        table_1=_table_1(report),
        comparison=None if report.comparison is None else _comparison(report.comparison),
        accuracy=accuracy_by_rule(models),
        attacks=attacks_table(named) if any(model.attacks for model in models) else None,
        targeted=targeted_table([(model.name, model.targeted) for model in models]),
        unions=unions_table([(model.name, model.unions) for model in models]),
        distances=distances_table([(model.name, model.distances) for model in models]),
        queries=queries_table([(model.name, [*model.attacks, *model.targeted]) for model in models]),
        worst=worst_table([(model.name, model.worst) for model in models]),
        fallen=fallen_table(named),
        surrogates=surrogates_table(named),
        transfer=transfer_table(named),
        probes=tuple({probe.run: probe for part in parts for probe in part.probes}.values()),
        charts=Charts(
            against_eps=against_eps(models),
            against_passes=against_passes(models),
            per_class=per_class(models),
            taken_for=taken_for(models),
            certified=certified(models),
            probabilities=probabilities(models),
            audit=audit(models),
            probe=probe(models),
            training=training(models),
        ),
    )


def _left_out(models: Sequence[Model]) -> defaultdict[str, list[str]]:
    """Return section -> the sentences of all models on what it lacks, without repeats; none for any other section."""
    sentences: defaultdict[str, list[str]] = defaultdict(list)
    for model in models:
        for section, said in model.left_out.items():
            sentences[section] += [one for one in said if one not in sentences[section]]
    return sentences


def _table_1(report: Report) -> Table1 | None:
    heading = table_1_heading(report.models)
    table = table_1(report.models) if heading else None
    if table is None:
        return None
    said = *PROTOCOL_SENTENCES, f"reported: {report.paper}."
    return Table1(heading, table, said, tuple(reported_words(report.models)), published_table(report.models))


def _comparison(comparison: Comparison) -> Compared:
    tests = comparison.significance
    return Compared(
        recipes=values_table(comparison.names, comparison.recipes) if comparison.recipes else None,
        significance=significance_table(tests) if tests else None,
        tests=tests_words(tests) if tests else "",
        needs_note=any(is_no_bound(test.what) for test in tests),
        certificates=comparison.certificates,
    )


def _model(model: Model, folder: Path | None) -> ModelPart:
    named = [(model.name, model.attacks)]
    versions = next((run.versions for run in model.runs if run.run == model.run), {})
    return ModelPart(
        name=model.name,
        stage=model.stage,
        ladder=ladder_of(model.name, model.headline),
        sentence=model.headline.sentence,
        about=model.about,
        summary=model.summary,
        notes=[note for note in model.notes if not any(note in said for said in model.left_out.values())],
        attack_notes=model.attack_notes,
        in_table_1=bool(model.table_1),
        reported=any(row.reported for row in model.table_1),
        differences=model.differences,
        accuracy=accuracy_table(model.accuracy) if model.accuracy else None,
        threats=(*map(_corrupted, model.corruptions), *map(_moved, model.shifts)),
        attacks=attacks_table(named) if model.attacks else None,
        targeted=targeted_table([(model.name, model.targeted)]),
        unions=unions_table([(model.name, model.unions)]),
        distances=distances_table([(model.name, model.distances)]),
        queries=queries_table([(model.name, [*model.attacks, *model.targeted])]),
        worst=worst_table([(model.name, model.worst)]),
        fallen=fallen_table(named),
        surrogates=surrogates_table(named),
        transfer=transfer_table(named),
        certified=tuple(map(_certified, model.certified)),
        audits=tuple(map(_audited, model.audit)),
        probes=tuple(map(_probed, model.probe)),
        confusion=_confusion(model),
        taken_for=model.taken_for.statement if model.taken_for else "",
        taken_matrices=matrices(model.taken_for, model.name) if model.taken_for else (),
        confused=confused_table(model.taken_for) if model.taken_for else None,
        runs=runs_table(model.runs, folder),
        commands=_commands(model),
        versions=versions,
        recipe_text=model.recipe_text,
        other=tuple(
            Other(one.stage, {key: figure_words(value) for key, value in one.figures.items()}) for one in model.other
        ),
    )


def _certified(certified: MeasuredCertification) -> Certified:
    one = certified.record
    return Certified(
        norm=norm_words(one.norm),
        noise=listed(noise_words(certified.noise), low_words(one.precision)),
        data=one.data,
        images=one.images,
        method=one.method,
        together=together_words(one),
        covers=one.covers,
        assumptions=tuple(one.assumptions),
        table=certified_table(one),
    )


def _corrupted(measured: MeasuredCorruptions) -> Threat:
    return Threat(measured.run, (means_table(measured), kinds_table(measured)), tuple(measured.sentences()))


def _moved(measured: MeasuredShifts) -> Threat:
    return Threat(measured.run, (shifts_table(measured), rotations_table(measured)), tuple(measured.sentences()))


def _audited(audit: MeasuredAudit) -> Audited:
    one = audit.record
    statuses: list[str] = [check.status for check in one.checks]
    return Audited(
        run=audit.run,
        verdicts=", ".join(f"{statuses.count(status)} {status}" for status in _SEVERITY[:3]),
        images=audited_images(audit),
        data=one.data,
        ball=listed(ball_words(one.settings.norm, one.settings.eps), search_words(one)),
        samples=one.samples,
        checks=checks_table(one.checks),
        by_severity=checks_table(sorted(one.checks, key=lambda check: (_SEVERITY.index(check.status), check.code))),
    )


def _probed(probe: MeasuredProbe) -> Probed:
    one = probe.record
    ball = ball_words(one.norm, one.eps)
    return Probed(probe.run, one.data, one.images, ball, one.steps, ratios_table(one))


def _confusion(model: Model) -> Table | None:
    confusion = model.confusion
    if confusion is None:
        return None
    vote = f"vote of m = {confusion.samples}"
    how = listed(vote, noise_words(confusion.noise), low_words(confusion.precision))
    return confusion_table(confusion, f"{model.name}: {confusion.data} without attack, {how}")


def _commands(model: Model) -> list[str]:
    """Return the commands behind the runs, oldest first, without repeats; a comment where Python started the run."""
    lines = (
        run.command or f"# {run.stage} was called from Python; its recipe: {PurePath(run.run).name}/{RECIPE_FILE}"
        for run in model.runs
    )
    return list(dict.fromkeys(lines))
