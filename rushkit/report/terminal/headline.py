"""The figures of one run in a line or in a few, each with how many images it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report._record import record_of
from rushkit.report.measured import attacks_of
from rushkit.report.protocols import settings_words, upper_bounds
from rushkit.report.words import accuracy_words, certainty, encoder_words, points_words, rate_words, run_of_checkpoint
from rushkit.results.records import RESULTS_FILE
from rushkit.robustness.failures import failed_words
from rushkit.rounding import as_asked, percent

if TYPE_CHECKING:
    from rushkit.run.info import RunInfo

_UNREADABLE = "results of another format"
_DAMAGED = "damaged results"
OTHER_FORMAT = (KeyError, IndexError, TypeError, ValueError, AttributeError)


def figure_of(run: RunInfo) -> str:
    """``headline`` of a run, or that its results are damaged."""
    results = run.results()
    if results is not None:
        return headline(results)
    return _DAMAGED if (run.path / RESULTS_FILE).exists() else ""


def headline(results: Any) -> str:
    """The one figure of a run that a list has room for; empty where there is none."""
    try:
        return _headline(record_of(results))
    except OTHER_FORMAT:
        return _UNREADABLE


def figures(results: Any) -> list[str]:
    """Every figure of a run that its verb is about, with intervals."""
    results = record_of(results)
    read = _READ.get(str(results.stage), _numbers)
    try:
        return read(results)
    except OTHER_FORMAT:
        return [_UNREADABLE]


def needs_protocol_note(results: Any) -> bool:
    """Whether ``figures`` shows a figure that is not the robustness, and needs the note on protocols beside it."""
    return any(row.protocol != "strict" for row in record_of(results).attacks or [])


def is_no_robustness(shown: str) -> bool:
    """Whether a line of ``headline`` is a figure under the protocol paper, or weaker than strict."""
    return not {"paper,", "weaker,"}.isdisjoint(shown.split())


def _headline(results: Any) -> str:
    summarise = _HEADLINES.get(str(results.stage))
    return summarise(results) if summarise else ""


def _evaluated_line(results: Any) -> str:
    rows = [row for row in results.accuracy if row.rule == "majority"] or results.accuracy
    row = max(rows, key=lambda row: row.samples)
    return f"{percent(row.accuracy)} % at m = {row.samples}, n = {row.images}"


def _attacked_line(results: Any) -> str:
    rows = attacks_of("", results)
    lowest = min(upper_bounds(rows) or rows, key=lambda row: row.majority.accuracy)
    row = lowest.record
    settings = f"; {settings_words(row)}" if row.deviations else ""
    settings += f"; {len(results.failed)} failed" if results.failed else ""
    return f"{percent(lowest.majority.accuracy)} % {_attack(row)}, n = {row.images}{settings}"


def _certified_line(results: Any) -> str:
    row = results.certified[len(results.certified) // 2]
    ball = f"{norm_words(results.norm)} {as_asked(row.radius)}"
    return f"{percent(row.value)} % certified at {ball}, n = {row.total}, alpha {results.alpha:g}"


def _audited_line(results: Any) -> str:
    return f"{_verdicts(results)}, n = {len(results.attacked)} of {results.images}"


def _probed_line(results: Any) -> str:
    row = max(results.rows, key=lambda row: (row.encoder == "pre-trained", row.points == "ascent"))
    return f"ratio {row.mean:.3f} {points_words(row.points)}, n = {row.images}"


def _imported_line(results: Any) -> str:
    clean = results.clean
    return results.makes if clean is None else f"{percent(clean.accuracy)} % clean, n = {clean.images}"


def _pretrained_line(results: Any) -> str:
    accuracy = results.knn_accuracy
    return _finetuned_line(results) if accuracy is None else f"kNN {percent(accuracy)} %"


def _finetuned_line(results: Any) -> str:
    return "" if results.loss is None else f"loss {results.loss:.3f}"


_HEADLINES: dict[str, Callable[[Any], str]] = {
    "evaluate": _evaluated_line,
    "attack": _attacked_line,
    "certify": _certified_line,
    "audit": _audited_line,
    "probe": _probed_line,
    "import": _imported_line,
    "pretrain": _pretrained_line,
    "finetune": _finetuned_line,
}


def _numbers(results: Any) -> list[str]:
    numbers = {key: value for key, value in results.model_dump().items() if isinstance(value, int | float)}
    return [f"{key}: {value:.6g}" for key, value in numbers.items()]


def _imported(results: Any) -> list[str]:
    clean, made = results.clean, f"{results.makes}, {results.parameters} parameters"
    if clean is None:
        return [made]
    return [made, f"{clean.data}, clean, without noise: {accuracy_words(clean)} %, n = {clean.images}"]


def _evaluated(results: Any) -> list[str]:
    return [
        f"{results.data}, m = {row.samples}, {row.rule}: {accuracy_words(row)} %, n = {row.images}"
        for row in results.accuracy
    ]


def _attacked(results: Any) -> list[str]:
    lines = []
    for row in results.attacks:
        vote = row.rules["majority"]
        clean = f"clean {percent(vote.clean_accuracy)} %"
        lines.append(f"{_attack(row)}: {accuracy_words(vote)} %, {clean}, n = {row.images}")
        if row.deviations:
            lines.append(f"  not the protocol's own settings: {settings_words(row)}")
        if row.transfer is not None:
            asked, there = run_of_checkpoint(row.transfer.model), row.transfer.rules["majority"]
            lines.append(f"  the same images asked of {asked}: {accuracy_words(there)} %")
    return [*lines, *(failed_words(row.model_dump()) for row in results.failed)]


def _certified(results: Any) -> list[str]:
    rows = [
        f"{norm_words(results.norm)} {as_asked(row.radius)}: {rate_words(row)} %, n = {row.total}"
        for row in results.certified
    ]
    sure = certainty(results.alpha, results.bound, results.samples)
    return [f"certified on {results.data}, {sure}:", *rows]


def _audited(results: Any) -> list[str]:
    wrong = [check for check in results.checks if check.status != "pass"]
    shown = [*wrong, *(check for check in results.checks if check.code == "RK119" and check not in wrong)]
    lines = [f"{check.status} {check.code} {check.name}: {check.says}" for check in shown]
    return [f"{_verdicts(results)} on {results.images} images of {results.data}, m = {results.samples}", *lines]


def _probed(results: Any) -> list[str]:
    return [
        f"{encoder_words(row.encoder)}, x' {points_words(row.points)}: {row.mean:.3f} "
        f"[{row.low:.3f}, {row.high:.3f}], n = {row.images}"
        for row in results.rows
    ]


_READ: dict[str, Callable[[Any], list[str]]] = {
    "evaluate": _evaluated,
    "attack": _attacked,
    "certify": _certified,
    "audit": _audited,
    "probe": _probed,
    "import": _imported,
}


def _attack(row: Any) -> str:
    return f"{row.attack} {ball_words(row.norm, row.eps)} {row.protocol}, m = {row.samples}"


def _verdicts(results: Any) -> str:
    statuses = [check.status for check in results.checks]
    return ", ".join(f"{statuses.count(status)} {status}" for status in ("fail", "warn", "pass"))
