"""What was measured of a model, as sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rushkit.claims.words import CANNOT, CANNOT_CERTIFY
from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.distances import distances_of_run
from rushkit.report.figures import MeasuredAttack
from rushkit.report.hit_rate import hit_rate_words
from rushkit.report.measured import accuracy_of
from rushkit.report.protocols import above_paper, attack_pairs, attacks_of, protocol_words, search_words, targeted_of
from rushkit.report.search import convergence_note, definition_note
from rushkit.report.sheets.sheet import Part, Sheet, Titled, sheet_of
from rushkit.report.tables import accuracy, attacks, audits, certificates, distances, selftests, threats
from rushkit.report.tables.fallen import fallen_table, surrogates_table
from rushkit.report.threats import corruptions_of_run, shifts_of_run, union_gaps, unions_of_run
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.prediction import Prediction
from rushkit.results.selftest import SelfTest
from rushkit.results.verification import Verification
from rushkit.results.words import (
    PROTOCOL_NOTE,
    listed,
    low_words,
    noise_words,
    plain_noise,
    rate_words,
)
from rushkit.rounding import counted, floor_radius, percent

_STATUSES = ("pass", "warn", "fail", "skipped")
_CODES = "docs/audit.md says of each code what it means and what to do"
_CLAIMS = (
    "claimed is what the attack behind the claim leaves, left the least that any attack leaves, of the 64 audited "
    "images or of 128"
)
_INTERVALS = "a case is caught if a check fails that names its fault; intervals are 95% Wilson over the cases"
_RATIO = (
    "‖f(x) − f(x')‖₂ / ‖x − x'‖₂, features of unit length, {} images without noise; the "
    "interval is a bootstrap over images. Ascent gives a lower bound of the local Lipschitz constant."
)


@sheet_of.register
def _(results: Evaluation) -> Sheet:
    """Return accuracy under each m and rule: of the images as they are, and under corruptions and shifts."""
    title = listed(f"standard accuracy, {results.data}, noise {_noise(results)}", low_words(results.precision))
    parts: list[Part] = [Titled(accuracy.accuracy_table(accuracy_of("", results)), title)]
    for corrupted in corruptions_of_run("", results):
        parts += map(Titled, (threats.kinds_table(corrupted), threats.means_table(corrupted)))
        parts.append("\n".join(corrupted.sentences()))
    for moved in shifts_of_run("", results):
        parts += map(Titled, (threats.shifts_table(moved), threats.rotations_table(moved)))
        parts.append("\n".join(moved.sentences()))
    return tuple(parts)


@sheet_of.register
def _(results: Attacks) -> Sheet:
    """Return robust accuracy of each attack and m, the protocols side by side."""
    rows, towards = attacks_of("", results), targeted_of("", results)
    title = f"robust accuracy, {results.data}, noise {_noise(results)}, majority vote of m"
    parts: list[Part] = []
    if rows:
        parts.append(Titled(attacks.attacks_table([("", rows)]), title))
    if together := threats.unions_table([("", unions_of_run("", results))]):
        parts.append(Titled(together, left=True))
    if targets := attacks.targeted_table([("", towards)]):
        parts.append(Titled(targets, left=True))
    if nearest := distances.distances_table([("", distances_of_run("", results))]):
        parts.append(Titled(nearest, left=True))
    rows = [*rows, *towards]
    if rows:
        parts.append(Titled(attacks.contributions_table(rows), left=True))
    if fell := fallen_table([("", rows)], "which image fell to what first; results.json names all of them"):
        parts.append(Titled(fell, left=True))
    if stood_in := surrogates_table([("", rows)], "stand-ins beside the model, on clean images"):
        parts.append(Titled(stood_in, left=True))
    if asked_for := attacks.queries_table([("", rows)]):
        parts.append(Titled(asked_for, left=True))
    moved = attacks.transfer_table([("", rows)])
    if moved is not None:
        asked = next(row.record.transfer.model for row in rows if row.record.transfer)
        parts.append(Titled(moved, "the same images, asked of another model under its own noise", left=True))
        parts.append(f"the other model: {asked}")
    notes = [note for pair in attack_pairs(rows) for note in above_paper(pair)]
    notes += dict.fromkeys(note for row in rows for note in row.notes)
    notes += dict.fromkeys(note.text for row in results.smallest for note in row.notes)
    notes += [f"{_named(row.record)}: {note}" for row, note in _converged(rows)]
    notes += dict.fromkeys(filter(None, (definition_note(row.record) for row in rows)))
    notes += union_gaps(results)
    parts += [f"note: {note}" for note in notes]
    parts += [f"failed: {row.words()}" for row in results.failed]
    return (*parts, PROTOCOL_NOTE)


def _named(row: AttackRow) -> str:
    return f"{row.in_ball()}, {protocol_words(row)}, m = {row.samples}"


def _converged(rows: Sequence[MeasuredAttack]) -> list[tuple[MeasuredAttack, str]]:
    """Return the rows whose convergence is known, with a sentence on it."""
    return [(row, note) for row in rows if (note := convergence_note(row.record))]


@sheet_of.register
def _(results: Certification) -> Sheet:
    """Return certified accuracy at each radius, what surrounds it, and what it covers."""
    lines = [
        f"method: {results.method}",
        f"clean accuracy of the smoothed classifier: {rate_words(results.smoothed)} %",
        f"abstained: {rate_words(results.abstained)} %",
    ]
    if used := results.draws_used:
        lines.append(
            f"draws an image: {used.mean:.0f} on average, {used.most} at most; "
            f"{counted(results.undecided or 0, 'image')} undecided at some radius"
        )
    else:
        lines.append(f"average certified radius: {average_words(results.average_radius, results.average_radius_error)}")
    lines += [f"warning: {warning}" for warning in results.warnings]
    title = listed(f"certified accuracy, {results.data}, noise {_noise(results)}", low_words(results.precision))
    parts: list[Part] = [
        Titled(certificates.certified_table(results), title),
        certificates.together_words(results),
        "\n".join(lines),
    ]
    if results.empirical:
        parts.append(Titled(certificates.empirical_table(results.empirical)))
    if any(row.protocol != "strict" for row in results.empirical):
        parts.append(PROTOCOL_NOTE)
    parts += [f"CONTRADICTION: {message}" for message in results.checks.messages]
    parts += [results.covers, "\n".join(["Assumptions:", *(f"- {one}" for one in results.assumptions)])]
    return tuple(parts)


@sheet_of.register
def _(results: Prediction) -> Sheet:
    """Return a line for each image: class or abstention, the bounds on its probability, the radius."""
    return Titled(certificates.prediction_table(results)), results.explanation


@sheet_of.register
def _(results: Audit) -> Sheet:
    """Return every check with its verdict and the sentence behind it."""
    settings, attacked = results.settings, len(results.attacked)
    title = listed(
        f"audit, {results.data}, {attacked} of {counted(results.images, 'image')} attacked",
        f"{ball_words(settings.norm, settings.eps)}, m = {results.samples}, noise {_noise(results)}",
        search_words(results),
    )
    statuses: list[str] = [check.status for check in results.checks]
    lines = [", ".join(f"{statuses.count(status)} {status}" for status in _STATUSES)]
    lines += filter(None, [hit_rate_words(results, "this audit"), results.size])
    if square := results.attacks.square if results.attacks.best is None else None:
        lines.append(f"without a gradient Square is the attack: it leaves {percent(square.accuracy)} % of {attacked}")
    if strongest := results.attacks.strongest:
        share = strongest.accuracy * attacked / results.images
        lines.append(
            f"under the strongest of these attacks {percent(share)} % of {results.images} images stay right; this is a "
            f"check of the evaluation, `rushkit attack` measures"
        )
    return Titled(audits.checks_table(results.checks), title), "\n".join([*lines, _CODES])


@sheet_of.register
def _(results: SelfTest) -> Sheet:
    """Return what the audit says of every case, and how many of each group it flags."""
    sizes = f"{counted(len(results.checks), 'check')}, {counted(len(results.cases), 'case')}"
    title = f"self-test of the audit, {sizes}, seed {results.seed}"
    lines = [selftests.uncounted_words(row) for row in results.cases if not row.counts]
    lines += [*map(selftests.totals_words, results.totals), _CLAIMS, _INTERVALS, _CODES]
    return Titled(selftests.cases_table(results.cases), title), "\n".join(lines)


@sheet_of.register
def _(results: Probe) -> Sheet:
    """Return the local Lipschitz ratio of each encoder."""
    ball = ball_words(results.norm, results.eps)
    title = f"feature distance per image distance, {results.data}, x' in {ball}"
    lines = [_RATIO.format(results.images), *filter(None, [results.size])]
    return Titled(audits.ratios_table(results), title), "\n".join(lines)


@sheet_of.register
def _(results: Verification) -> Sheet:
    """Return each part's verdict in a sentence, its checks, what may be said of it, and what no check shows."""
    parts: list[Part] = []
    for attack in results.attacks:
        parts += [attack.sentence, Titled(audits.seen_table(attack.checks), attack.attack), *_said(attack.claim)]
    for proved in results.certificates:
        title = f"certificates, {proved.data}, {norm_words(proved.norm)}"
        parts += [proved.sentence, Titled(audits.seen_table(proved.checks), title), *_said(proved.claim)]
    return *parts, CANNOT if results.attacks else CANNOT_CERTIFY


def _said(claim: str) -> list[str]:
    return [claim] if claim else []


def _noise(results: Evaluation | Attacks | Certification | Audit) -> str:
    return noise_words(plain_noise(results.noise))


def average_words(radius: float, error: float | None) -> str:
    """Return ``0.000054 ± 0.000021 (standard error)``: to two digits of the error, or of the radius without one."""
    if error is None:
        return floor_radius(radius)
    decimals = max(0, 1 - math.floor(math.log10(error))) if error else 3
    return f"{floor_radius(radius, decimals)} ± {error:.{decimals}f} (standard error)"
