"""The figures of one run in a line or in a few, each with how many images it is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.protocols import settings_words, upper_bounds
from rushkit.report.tables import interval
from rushkit.report.words import certainty, encoder_words, points_words, run_of_checkpoint
from rushkit.robustness.failures import failed_words
from rushkit.rounding import as_asked, percent
from rushkit.run.folder import RESULTS_FILE

if TYPE_CHECKING:
    from rushkit.run.info import RunInfo

# What results of another version make of the code that reads them.
OTHER_FORMAT = (KeyError, IndexError, TypeError, ValueError, AttributeError)
_UNREADABLE = "results of another format"
_DAMAGED = "damaged results"


def figure_of(run: RunInfo) -> str:
    """``headline`` of a run, or that its results are damaged."""
    results = run.results()
    if results is not None:
        return headline(results)
    return _DAMAGED if (run.path / RESULTS_FILE).exists() else ""


def headline(results: Mapping[str, Any]) -> str:
    """The one figure of a run that a list has room for; empty where there is none."""
    try:
        return _headline(results)
    except OTHER_FORMAT:
        return _UNREADABLE


def figures(results: Mapping[str, Any]) -> list[str]:
    """Every figure of a run that its verb is about, with intervals."""
    read = _READ.get(str(results.get("stage")), _numbers)
    try:
        return read(results)
    except OTHER_FORMAT:
        return [_UNREADABLE]


def needs_protocol_note(results: Mapping[str, Any]) -> bool:
    """Whether ``figures`` shows a figure that is not the robustness, and needs the note on protocols beside it."""
    return any(isinstance(row, dict) and row.get("protocol") != "strict" for row in results.get("attacks") or [])


def is_no_robustness(shown: str) -> bool:
    """Whether a line of ``headline`` is a figure under the protocol paper, or weaker than strict."""
    return not {"paper,", "weaker,"}.isdisjoint(shown.split())


def _headline(results: Mapping[str, Any]) -> str:
    stage = results.get("stage")
    if stage == "evaluate":
        rows = [row for row in results["accuracy"] if row["rule"] == "majority"] or results["accuracy"]
        row = max(rows, key=lambda row: row["samples"])
        return f"{percent(row['accuracy'])} % at m = {row['samples']}, n = {row['images']}"
    if stage == "attack":
        rows = upper_bounds(results["attacks"]) or results["attacks"]
        row = min(rows, key=lambda row: row["rules"]["majority"]["accuracy"])
        settings = f"; {settings_words(row)}" if row["deviations"] else ""
        settings += f"; {len(results['failed'])} failed" if results["failed"] else ""
        return f"{percent(row['rules']['majority']['accuracy'])} % {_attack(row)}, n = {row['images']}{settings}"
    if stage == "certify":
        row = results["certified"][len(results["certified"]) // 2]
        ball = f"{norm_words(results['norm'])} {as_asked(row['radius'])}"
        return f"{percent(row['value'])} % certified at {ball}, n = {row['total']}, alpha {results['alpha']:g}"
    if stage == "audit":
        attacked = f"{len(results['attacked'])} of " if "attacked" in results else ""
        return f"{_verdicts(results)}, n = {attacked}{results['images']}"
    if stage == "probe":
        row = max(results["rows"], key=lambda row: (row["encoder"] == "pre-trained", row["points"] == "ascent"))
        return f"ratio {row['mean']:.3f} {points_words(row['points'])}, n = {row['images']}"
    if stage == "import":
        clean = results["clean"]
        return results["makes"] if clean is None else f"{percent(clean['accuracy'])} % clean, n = {clean['images']}"
    if "knn_accuracy" in results:
        return f"kNN {percent(results['knn_accuracy'])} %"
    return f"loss {results['loss']:.3f}" if "loss" in results else ""


def _numbers(results: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in results.items() if isinstance(value, int | float)}
    return [f"{key}: {value:.6g}" for key, value in plain.items()]


def _imported(results: Mapping[str, Any]) -> list[str]:
    clean = results["clean"]
    checked = (
        [] if clean is None else [f"{clean['data']}, clean, without noise: {interval(clean)} %, n = {clean['images']}"]
    )
    return [f"{results['makes']}, {results['parameters']} parameters", *checked]


def _evaluated(results: Mapping[str, Any]) -> list[str]:
    return [
        f"{results['data']}, m = {row['samples']}, {row['rule']}: {interval(row)} %, n = {row['images']}"
        for row in results["accuracy"]
    ]


def _attacked(results: Mapping[str, Any]) -> list[str]:
    said = []
    for row in results["attacks"]:
        vote = row["rules"]["majority"]
        clean = f"clean {percent(vote['clean_accuracy'])} %"
        said.append(f"{_attack(row)}: {interval(vote)} %, {clean}, n = {row['images']}")
        if row["deviations"]:
            said.append(f"  not the protocol's own settings: {settings_words(row)}")
        if "transfer" in row:
            there = row["transfer"]["rules"]["majority"]
            said.append(
                f"  the same images asked of {run_of_checkpoint(row['transfer']['model'])}: {interval(there)} %"
            )
    return [*said, *map(failed_words, results["failed"])]


def _certified(results: Mapping[str, Any]) -> list[str]:
    rows = [
        f"{norm_words(results['norm'])} {as_asked(row['radius'])}: {interval(row, 'value')} %, n = {row['total']}"
        for row in results["certified"]
    ]
    return [f"certified on {results['data']}, {certainty(results)}:", *rows]


def _audited(results: Mapping[str, Any]) -> list[str]:
    wrong = [check for check in results["checks"] if check["status"] != "pass"]
    shown = [*wrong, *(check for check in results["checks"] if check["code"] == "RK119" and check not in wrong)]
    said = [f"{check['status']} {check['code']} {check['name']}: {check['says']}" for check in shown]
    return [f"{_verdicts(results)} on {results['images']} images of {results['data']}, m = {results['samples']}", *said]


def _probed(results: Mapping[str, Any]) -> list[str]:
    return [
        f"{encoder_words(row['encoder'])}, x' {points_words(row['points'])}: {row['mean']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}], n = {row['images']}"
        for row in results["rows"]
    ]


_READ: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "evaluate": _evaluated,
    "attack": _attacked,
    "certify": _certified,
    "audit": _audited,
    "probe": _probed,
    "import": _imported,
}


def _attack(row: Mapping[str, Any]) -> str:
    return f"{row['attack']} {ball_words(row['norm'], row['eps'])} {row['protocol']}, m = {row['samples']}"


def _verdicts(results: Mapping[str, Any]) -> str:
    statuses = [check["status"] for check in results["checks"]]
    return ", ".join(f"{statuses.count(status)} {status}" for status in ("fail", "warn", "pass"))
