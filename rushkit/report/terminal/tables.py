"""The results of a stage as tables for the terminal, with the sentences that belong to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.exchange.exported import Exported
from rushkit.recipe.radius import ball_words
from rushkit.report.distances import distances_of_run
from rushkit.report.figures import MeasuredAttack, Report
from rushkit.report.hit_rate import hit_rate_words
from rushkit.report.measured import accuracy_of
from rushkit.report.protocols import above_paper, attack_pairs, attacks_of, protocol_words, search_words, targeted_of
from rushkit.report.search import convergence_note, definition_note
from rushkit.report.tables import accuracy, attacks, audits, certificates, distances, selftests, table_1, threats
from rushkit.report.tables.fallen import fallen_table
from rushkit.report.terminal.render import render_table
from rushkit.report.threats import corruptions_of_run, shifts_of_run, union_gaps, unions_of_run
from rushkit.results.attacks import Attacks
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.clustering import Clustering
from rushkit.results.evaluation import Evaluation, Probe
from rushkit.results.imported import Imported
from rushkit.results.prediction import Prediction
from rushkit.results.selftest import SelfTest
from rushkit.results.words import (
    PROTOCOL_NOTE,
    accuracy_words,
    listed,
    low_words,
    noise_words,
    plain_noise,
    rate_words,
)
from rushkit.rounding import floor_radius, percent

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


def table_1_table(report: Report) -> RenderableType | None:
    """Return the paper's Table 1, published figures beside measured ones, with what each published row is."""
    table = table_1.in_lines(report.models)
    if table is None:
        return None
    sentences = [f"reported: {words}" for words in table_1.reported_words(report.models)]
    if any(model.attacks for model in report.models):
        sentences.append(report.protocol_note)
    title = "the paper's Table 1, reported and measured; attacks within l-inf 8/255"
    return Group(render_table(table, title, left=True), Text("\n".join(sentences)))


def evaluation_table(results: Evaluation) -> RenderableType:
    """Return accuracy under each m and rule: of the images as they are, and under corruptions and shifts."""
    title = listed(f"standard accuracy, {results.data}, noise {_noise(results)}", low_words(results.precision))
    parts: list[RenderableType] = [render_table(accuracy.accuracy_table(accuracy_of("", results)), title)]
    for corrupted in corruptions_of_run("", results):
        parts += map(render_table, (threats.kinds_table(corrupted), threats.means_table(corrupted)))
        parts.append(Text("\n".join(corrupted.sentences())))
    for moved in shifts_of_run("", results):
        parts += map(render_table, (threats.shifts_table(moved), threats.rotations_table(moved)))
        parts.append(Text("\n".join(moved.sentences())))
    return Group(*parts)


def attack_table(results: Attacks) -> RenderableType:
    """Return robust accuracy of each attack and m, the protocols side by side."""
    rows, towards = attacks_of("", results), targeted_of("", results)
    title = f"robust accuracy, {results.data}, noise {_noise(results)}, majority vote of m"
    parts: list[RenderableType] = []
    if rows:
        parts.append(render_table(attacks.attacks_table([("", rows)]), title))
    if together := threats.unions_table([("", unions_of_run("", results))]):
        parts.append(render_table(together, left=True))
    if targets := attacks.targeted_table([("", towards)]):
        parts.append(render_table(targets, left=True))
    if nearest := distances.distances_table([("", distances_of_run("", results))]):
        parts.append(render_table(nearest, left=True))
    rows = [*rows, *towards]
    if rows:
        parts.append(render_table(attacks.contributions_table(rows), left=True))
    if fell := fallen_table(rows):
        parts.append(render_table(fell, left=True))
    if asked_for := attacks.queries_table([("", rows)]):
        parts.append(render_table(asked_for, left=True))
    moved = attacks.transfer_table([("", rows)])
    if moved is not None:
        asked = next(row.record.transfer.model for row in rows if row.record.transfer)
        parts.append(render_table(moved, "the same images, asked of another model under its own noise", left=True))
        parts.append(Text(f"the other model: {asked}"))
    notes = [note for pair in attack_pairs(rows) for note in above_paper(pair)]
    notes += dict.fromkeys(note for row in rows for note in row.notes)
    notes += dict.fromkeys(note.text for row in results.smallest for note in row.notes)
    notes += [f"{protocol_words(row.record)}, m = {row.record.samples}: {note}" for row, note in _converged(rows)]
    notes += dict.fromkeys(filter(None, (definition_note(row.record) for row in rows)))
    notes += union_gaps(results)
    parts += [Text(f"note: {note}") for note in notes]
    parts += [Text(f"failed: {row.words()}") for row in results.failed]
    return Group(*parts, Text(PROTOCOL_NOTE))


def _converged(rows: Sequence[MeasuredAttack]) -> list[tuple[MeasuredAttack, str]]:
    """Return the rows whose convergence is known, with a sentence on it."""
    return [(row, note) for row in rows if (note := convergence_note(row.record))]


def certified_table(results: Certification) -> RenderableType:
    """Return certified accuracy at each radius, what surrounds it, and what it covers."""
    lines = [
        f"method: {results.method}",
        f"clean accuracy of the smoothed classifier: {rate_words(results.smoothed)} %",
        f"abstained: {rate_words(results.abstained)} %",
    ]
    if used := results.draws_used:
        lines.append(
            f"draws an image: {used.mean:.0f} on average, {used.most} at most; "
            f"{results.undecided} images undecided at some radius"
        )
    else:
        lines.append(f"average certified radius: {_average(results.average_radius, results.average_radius_error)}")
    lines += [f"warning: {warning}" for warning in results.warnings]
    title = listed(f"certified accuracy, {results.data}, noise {_noise(results)}", low_words(results.precision))
    parts: list[RenderableType] = [
        render_table(certificates.certified_table(results), title),
        Text(certificates.together_words(results)),
        Text("\n".join(lines)),
    ]
    if results.empirical:
        parts.append(render_table(certificates.empirical_table(results.empirical)))
    parts += [Text(f"CONTRADICTION: {message}") for message in results.checks.messages]
    parts += [Text(results.covers), Text("\n".join(["Assumptions:", *(f"- {one}" for one in results.assumptions)]))]
    return Group(*parts)


def prediction_table(results: Prediction) -> RenderableType:
    """Return a line for each image: class or abstention, the bounds on its probability, the radius."""
    return Group(render_table(certificates.prediction_table(results)), Text(results.explanation))


def audit_table(results: Audit) -> RenderableType:
    """Return every check with its verdict and the sentence behind it."""
    settings, attacked = results.settings, len(results.attacked)
    title = listed(
        f"audit, {results.data}, {attacked} of {results.images} images attacked",
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
    return Group(render_table(audits.checks_table(results.checks), title), Text("\n".join([*lines, _CODES])))


def self_test_table(results: SelfTest) -> RenderableType:
    """Return what the audit says of every case, and how many of each group it flags."""
    title = f"self-test of the audit, {len(results.checks)} checks, {len(results.cases)} cases, seed {results.seed}"
    lines = [selftests.uncounted_words(row) for row in results.cases if not row.counts]
    lines += [*map(selftests.totals_words, results.totals), _CLAIMS, _INTERVALS, _CODES]
    return Group(render_table(selftests.cases_table(results.cases), title), Text("\n".join(lines)))


def probe_table(results: Probe) -> RenderableType:
    """Return the local Lipschitz ratio of each encoder."""
    ball = ball_words(results.norm, results.eps)
    title = f"feature distance per image distance, {results.data}, x' in {ball}"
    lines = [_RATIO.format(results.images), *filter(None, [results.size])]
    return Group(render_table(audits.ratios_table(results), title), Text("\n".join(lines)))


def clusters_table(results: Clustering) -> RenderableType:
    """Return how large and how tight the clusters of each column are."""
    title = f"{results.images} images of {results.data} in clusters"
    table = Table("clusters", "smallest", "median", "largest", "inertia", "iterations", title=title)
    shown = [column for column in results.columns if column.matched is not None]
    if shown:
        table.add_column("matches classes %")
    for column in results.columns:
        sizes = sorted(column.sizes)
        end = "" if column.settled else ", not settled"
        row = [column.clusters, sizes[0], sizes[len(sizes) // 2], sizes[-1], f"{column.inertia:.6g}"]
        cells = [*map(str, row), f"{column.iterations}{end}"]
        matched = "" if column.matched is None else percent(column.matched)
        table.add_row(*cells, *([matched] if shown else []))
    lines = [f"by {results.features} features of {results.source}, of unit length"]
    lines += [results.outside] if results.outside else []
    lines += (
        ["clusters matched to classes as well as can be: for this look only, nothing is chosen by it"] if shown else []
    )
    return Group(table, Text("\n".join(lines)))


def import_table(results: Imported) -> RenderableType:
    """Return the model, where it is from, and how it does on clean images."""
    origin, backbone, clean = results.imported, results.backbone, results.clean
    height, width = _sides(results.image_size)
    rows = {
        "from": origin.file or f"pretrained {origin.pretrained} ({origin.tag})",
        "sha256": origin.sha256,
        "branch": origin.branch,
        "backbone": backbone.name,
        "normalisation": f"(x - {backbone.mean}) / {backbone.std}" if backbone.mean else "none: x in [0, 1]",
        "input": f"{results.channels}x{height}x{width}, pixels in [0, 1]",
        "parameters": f"{results.parameters:,}",
        "classes": results.classes,
        "noise": _noise(results),
        "left out": ", ".join(origin.ignored),
    }
    if clean is not None:
        rows["clean accuracy %"] = (
            f"{accuracy_words(clean)} on {clean.images} images of {clean.data}, without noise; "
            f"always saying the commonest class has {percent(clean.chance)}"
        )
    if origin.claim is not None:
        rows["the file's own claim %"] = f"{percent(origin.claim.accuracy)} ({origin.claim.key})"
    return _facts(f"imported {results.makes} {results.recipe}", rows)


def export_table(results: Exported) -> RenderableType:
    """Return the file, what goes in and comes out, how far its outputs are from the run's, and how it is loaded."""
    (height, width), classes = _sides(results.image_size), results.classes
    outside = results.mean and results.format == "timm"
    rows = {
        "from": results.source,
        "to": f"{results.file}, {results.bytes / 2**20:.1f} MiB",
        "input": f"(N, {results.channels}, {height}, {width}) float32, "
        + (f"(x - {results.mean}) / {results.std} of pixels x in [0, 1]" if outside else "pixels in [0, 1]"),
        "output": f"logits of {len(classes)} classes, without noise" if classes else "features",
        "checked": f"outputs differ by {results.difference:.2g} at most; the largest is {results.largest:.3g}",
        "smoothing": f"yours to do, under noise {noise_words(results.noise.model_dump())}: docs/import-export.md"
        if classes and results.noise.name != "none"
        else "",
    }
    table = _facts(f"exported {results.part}, {results.format}", rows)
    return Group(table, "to load it:", *results.load) if results.load else table


def _sides(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _facts(title: str, rows: Mapping[str, object]) -> Table:
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    return table


def _noise(results: Evaluation | Attacks | Certification | Audit | Imported) -> str:
    return noise_words(plain_noise(results.noise))


def _average(radius: float, error: float | None) -> str:
    """``0.000054 ± 0.000021 (standard error)``: to two digits of the error, or of the radius where it has none."""
    if error is None:
        return floor_radius(radius)
    decimals = max(0, 1 - math.floor(math.log10(error))) if error else 3
    return f"{floor_radius(radius, decimals)} ± {error:.{decimals}f} (standard error)"
