"""The figures of one run in a line or in a few, each with how many images it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rushkit.recipe.radius import ball_words
from rushkit.report.hit_rate import hit_rate_words
from rushkit.report.protocols import attacks_of, search_words, settings_words, upper_bounds
from rushkit.report.quotable import quoted
from rushkit.report.tables.selftests import totals_words
from rushkit.report.threats import threat_figures, unions_of_run
from rushkit.report.words import run_of_checkpoint
from rushkit.results import Results
from rushkit.results.attacks import Attacks
from rushkit.results.auditing import POWER_CHECK, Audit
from rushkit.results.certification import Certification, CertifiedRate
from rushkit.results.clustering import Clustering
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.imported import Imported
from rushkit.results.records import RESULTS_FILE
from rushkit.results.selftest import SelfTest
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.verification import Verification
from rushkit.results.words import (
    accuracy_words,
    cluster_words,
    encoder_words,
    listed,
    low_words,
    points_words,
    proved_words,
    rate_words,
)
from rushkit.robustness.deviations import settings_line
from rushkit.rounding import counted, percent

if TYPE_CHECKING:
    from rushkit.run.info import RunInfo

_DAMAGED = "damaged results"


@dataclass(frozen=True)
class Headline:
    """The one figure of a run that a list has room for.

    Attributes:
        words: The figure; empty if there is none.
        needs_note: Whether it needs the note on protocols: it is under the protocol paper, or weaker than strict.
    """

    words: str = ""
    needs_note: bool = False


def figure_of(run: RunInfo, results: Results | None) -> Headline:
    """Return the headline of a run with these results, or that they are damaged."""
    if results is not None:
        return headline(results)
    return Headline(_DAMAGED if (run.path / RESULTS_FILE).exists() else "")


def headline(results: Results) -> Headline:
    """Return the headline of results."""
    if isinstance(results, Attacks):
        return _attacked_line(results)
    return Headline(_line(results))


def _line(
    results: Clustering
    | Evaluation
    | Certification
    | Audit
    | SelfTest
    | Probe
    | Imported
    | Verification
    | Pretraining
    | Finetuning,
) -> str:
    match results:
        case Evaluation():
            return _evaluated_line(results)
        case Certification():
            return _certified_line(results)
        case Audit():
            return f"{_verdicts(results)}, n = {len(results.attacked)} of {results.images}"
        case SelfTest():
            return _self_tested_line(results)
        case Probe():
            return _probed_line(results)
        case Imported():
            return _imported_line(results)
        case Verification():
            return results.verdict
        case Clustering():
            kinds = ", ".join(str(column.clusters) for column in results.columns)
            return f"{kinds} clusters, n = {results.images}"
        case Pretraining() if results.knn_accuracy is not None:
            return f"kNN {percent(results.knn_accuracy)} %"
        case _:
            return "" if results.loss is None else f"loss {results.loss:.3f}"


def methods_of(runs: Sequence[RunInfo]) -> dict[str, list[str | None]]:
    """Return for each run how it was certified, and what holds for all of its images together, beside its headline.

    None for a run that certified nothing; empty if none did.
    """
    records = [run.record() for run in runs]
    certified = [record if isinstance(record, Certification) else None for record in records]
    if not any(certified):
        return {}
    return {
        "certified by": [one.method if one else None for one in certified],
        "together": [f"at least {proved_words(_middle(one))} %" if one else None for one in certified],
    }


def figures(results: Results) -> list[str]:
    """Return the main figures of a run's verb, with intervals."""
    match results:
        case Evaluation():
            return _evaluated(results)
        case Attacks():
            return _attacked(results)
        case Certification():
            return _certified(results)
        case Audit():
            return _audited(results)
        case SelfTest():
            return [totals_words(totals) for totals in results.totals]
        case Probe():
            return _probed(results)
        case Imported():
            return _imported(results)
        case Clustering():
            return _clustered(results)
        case Verification():
            return [*(one.sentence for one in results.attacks), *(one.sentence for one in results.certificates)]
        case _:
            return _numbers(results)


def needs_protocol_note(results: Results) -> bool:
    """Return whether ``figures`` shows a figure that may not stand without the note on protocols."""
    return isinstance(results, Attacks) and any(row.protocol != "strict" for row in results.attacks)


def _evaluated_line(results: Evaluation) -> str:
    rows = [row for row in results.accuracy if row.rule == "majority"] or results.accuracy
    row = max(rows, key=lambda row: row.samples)
    return listed(f"{percent(row.accuracy)} % at m = {row.samples}, n = {row.images}", low_words(results.precision))


def _attacked_line(results: Attacks) -> Headline:
    rows = attacks_of("", results)
    measured = quoted(upper_bounds(rows) or rows)
    if measured is None:
        return Headline()
    row = measured.record
    settings = f"; {settings_words(row)}" if row.deviations else ""
    settings += f"; {len(results.failed)} failed" if results.failed else ""
    words = f"{percent(measured.majority.accuracy)} % {row.words()}, n = {row.images}{settings}"
    return Headline(words, needs_note=row.protocol != "strict")


def _certified_line(results: Certification) -> str:
    row = _middle(results)
    ball = ball_words(results.norm, row.radius)
    certified = f"{percent(row.value)} % certified at {ball}, n = {row.total}, alpha {results.alpha:g}"
    return listed(certified, low_words(results.precision))


def _middle(results: Certification) -> CertifiedRate:
    """Return the one radius of a certification that a line has room for."""
    return results.certified[len(results.certified) // 2]


def _probed_line(results: Probe) -> str:
    row = max(results.rows, key=lambda row: (row.encoder in ("pre-trained", "given"), row.points == "ascent"))
    return f"ratio {row.mean:.3f} {points_words(row.points)}, n = {row.images}"


def _self_tested_line(results: SelfTest) -> str:
    """Return how many faults were found, and on how many sound models a check failed."""
    caught = [totals.caught for totals in results.totals if totals.caught]
    alarms = [totals.failed for totals in results.totals if not totals.caught]
    found = f"{sum(rate.count for rate in caught)} of {counted(sum(rate.total for rate in caught), 'fault')} caught"
    false = f"{sum(rate.count for rate in alarms)} of {sum(rate.total for rate in alarms)} false alarms"
    return ", ".join([*([found] if caught else []), *([false] if alarms else [])])


def _imported_line(results: Imported) -> str:
    clean = results.clean
    return results.makes if clean is None else f"{percent(clean.accuracy)} % clean, n = {clean.images}"


def _numbers(results: Pretraining | Finetuning) -> list[str]:
    numbers = {key: value for key, value in results.to_table().items() if isinstance(value, int | float)}
    teacher = results.teacher if isinstance(results, Pretraining) else None
    taught = [f"teacher: {teacher.in_words()}"] if teacher else []
    started = results.started if isinstance(results, Pretraining) else None
    begun = [f"started from: {started.in_words()}"] if started else []
    accuracy = results.accuracy if isinstance(results, Finetuning) else None
    right = [accuracy.in_words()] if accuracy else []
    notes = [f"note: {note.text}" for note in results.notes]
    return [*(f"{key}: {value:.6g}" for key, value in numbers.items()), *right, *begun, *taught, *notes]


def _imported(results: Imported) -> list[str]:
    clean, made = results.clean, f"{results.makes}, {counted(results.parameters, 'parameter')}"
    if clean is None:
        return [made]
    return [made, f"{clean.data}, clean, without noise: {accuracy_words(clean)} %, n = {clean.images}"]


def _clustered(results: Clustering) -> list[str]:
    features = f"{results.features} features of {results.source}, of unit length"
    lines = [f"{results.data}, n = {results.images}, by {features}", *filter(None, [results.outside])]
    return [*lines, *(cluster_words(column) for column in results.columns)]


def _evaluated(results: Evaluation) -> list[str]:
    lines = [
        listed(
            f"{results.data}, m = {row.samples}, {row.rule}: {accuracy_words(row)} %, n = {row.images}",
            low_words(results.precision),
        )
        for row in results.accuracy
    ]
    return [*lines, *threat_figures(results)]


def _attacked(results: Attacks) -> list[str]:
    lines = []
    for row in results.attacks:
        vote = row.rules["majority"]
        clean = f"clean {percent(vote.clean_accuracy)} %"
        lines.append(listed(f"{row.words()}: {accuracy_words(vote)} %, {clean}, n = {row.images}", search_words(row)))
        if row.deviations:
            lines.append(f"  {settings_line(row.protocol, row.deviations)}")
        lines += [f"  {words}" for words in row.rescored_words()]
        if row.transfer is not None:
            asked, there = run_of_checkpoint(row.transfer.model), row.transfer.rules["majority"]
            lines.append(f"  the same images asked of {asked}: {accuracy_words(there)} %")
    lines += [f"{union.words()}, n = {union.record.images}" for union in unions_of_run("", results)]
    for row in results.targeted:
        vote = row.rules["majority"]
        taken = f"{percent(1 - vote.accuracy)} % taken for it, clean {percent(1 - vote.clean_accuracy)} %"
        lines.append(f"{row.words()}: {taken}, n = {row.images}")
    for found in results.smallest:
        median = found.quantiles[1].distance
        words = f"more than {found.eps:.4g}" if median is None else f"{median:.4g}"
        lines.append(f"{found.attack} {found.protocol}, m = {found.samples}: median {found.norm} distance {words}")
    return [*lines, *(row.words() for row in results.failed)]


def _certified(results: Certification) -> list[str]:
    rows = [
        f"{ball_words(results.norm, row.radius)}: {rate_words(row)} %, together at least {proved_words(row)} %, "
        f"n = {row.total}"
        for row in results.certified
    ]
    method = listed(results.method, low_words(results.precision))
    return [f"certified on {results.data}, {method}:", *rows]


def _audited(results: Audit) -> list[str]:
    wrong = [check for check in results.checks if check.status != "pass"]
    shown = [*wrong, *(check for check in results.checks if check.code == POWER_CHECK and check not in wrong)]
    lines = [f"{check.status} {check.code} {check.name}: {check.says}" for check in shown]
    verdicts = f"{_verdicts(results)} on {counted(results.images, 'image')} of {results.data}, m = {results.samples}"
    verdicts = listed(verdicts, search_words(results))
    return [verdicts, *filter(None, [hit_rate_words(results, "this audit")]), *lines]


def _probed(results: Probe) -> list[str]:
    return [
        f"{encoder_words(row.encoder)}, x' {points_words(row.points)}: {row.mean:.3f} "
        f"[{row.low:.3f}, {row.high:.3f}], n = {row.images}"
        for row in results.rows
    ]


def _verdicts(results: Audit) -> str:
    statuses: list[str] = [check.status for check in results.checks]
    return ", ".join(f"{statuses.count(status)} {status}" for status in ("fail", "warn", "pass"))
