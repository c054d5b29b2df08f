"""Summarise a model's results in sentences, with notes that keep readers from being misled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from rushkit.errors import shell_line
from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report import measured
from rushkit.report.families import Family
from rushkit.report.figures import MeasuredAttack, MeasuredAudit, Model, Table1Row
from rushkit.report.hit_rate import hit_rate_words
from rushkit.report.left_out import left_out
from rushkit.report.own_noise import other_noise, under_its_noise
from rushkit.report.protocols import above_paper, attack_pairs, protocol_words, upper_bounds
from rushkit.report.quotable import asked_radius, lowest, most_images, on_test
from rushkit.report.quoted import failed_checks
from rushkit.report.rungs import clean_row, middle_radius
from rushkit.report.search import convergence_note, definition_note
from rushkit.report.threats import union_gaps
from rushkit.report.worst import Worst
from rushkit.results.attacks import Attacks
from rushkit.results.statements import (
    attack_statement,
    certificate_statement,
    clean_statement,
    images_of,
    weights_statement,
)
from rushkit.results.words import listed, low_words
from rushkit.rounding import counted, percent

# Norm and radius of a ball, and the share that is left in it.
_Left = tuple[str, float, float]


def summary(model: Model) -> list[str]:
    """Return the results in sentences that say what each figure means; never a figure of the protocol paper."""
    said = statements(model)
    if not model.classifies:
        return ["This is an encoder, not a classifier yet: rushkit finetune.", *said]
    return [*(said or ["Nothing was measured of this model yet."]), *_weights(model), *_not_measured(model)]


def beside_headline(model: Model) -> list[str]:
    """Return the sentences of the summary that say more than the headline's own, for where both are read together."""
    strict = model.headline.strict
    quoted = None if strict is None else (strict.norm, strict.radius, strict.accuracy)
    said = {sentence for left, sentence in _attacked(model) if left == quoted}
    return [line for line in model.summary if line not in said and line not in model.headline.sentence]


def statements(model: Model) -> list[str]:
    """Return what was measured in sentences, without what is still to be done."""
    return [*_clean(model), *_under_attack(model), *_proved(model), *_audited(model), *_probed(model)]


def notes(family: Family, model: Model) -> list[str]:
    """Return notes that qualify all figures: stopped runs, damaged results, several checkpoints, warnings."""
    noted = [sentence for sentences in left_out(family).values() for sentence in sentences]
    for run, results in family.results(Attacks):
        lines = [*(row.words() for row in results.failed), *union_gaps(results)]
        noted += [f"{run.path.name}: {line}" for line in lines]
    used = measured.checkpoints_used(family)
    if len(used) > 1:
        listed = "; ".join(f"{name} by {', '.join(runs)}" for name, runs in sorted(used.items()))
        noted.append(f"the figures are of several checkpoints of this run: {listed}")
    noted += [f"{one.run}: {warning}" for one in model.certified for warning in one.warnings]
    noted += [
        f"{run.path.name} ({run.verb}) was trained on clusters and not classes, by {PurePath(labels.run).name}"
        + (f"; {labels.outside}" if labels.outside else "")
        for run in family.runs
        if (labels := run.about.labels)
    ]
    sizes = [(one.run, one.record.size) for one in model.audit] + [(one.run, one.record.size) for one in model.probe]
    noted += [f"{run}: {size}" for run, size in sizes if size]
    noted += [f"CONTRADICTION: {text}" for one in model.certified for text in one.record.checks.messages]
    return list(dict.fromkeys(noted))


def attack_notes(model: Model) -> list[str]:
    """Return notes that qualify the figures of attacks; they may quote figures under the protocol paper."""
    noted = [note for row in model.table_1 for note in _weak_autoattack(row)]
    noted += [note for pair in attack_pairs(model.attacks) for note in above_paper(pair)]
    rows_of: dict[str, list[str]] = {}
    for attacked in (*model.attacks, *model.targeted):
        row = attacked.record
        about = f"{row.attack} {ball_words(row.norm, row.eps)} {protocol_words(row)} m = {row.samples}"
        for note in filter(None, (*attacked.notes, convergence_note(row), definition_note(row))):
            rows_of.setdefault(note, []).append(about)
    for found in model.distances:
        about = f"{found.record.attack} {norm_words(found.record.norm)} distances m = {found.record.samples}"
        for one in found.record.notes:
            rows_of.setdefault(one.text, []).append(about)
    return [*dict.fromkeys(noted), *(f"{note} ({'; '.join(rows)})" for note, rows in rows_of.items())]


def audited_images(audit: MeasuredAudit) -> str:
    """Return how many images an audit is about: "38 of 64 images attacked, the others wrong before"."""
    return f"{audit.attacked} of {counted(audit.record.images, 'image')} attacked, the others wrong before"


def _clean(model: Model) -> Iterator[str]:
    row = clean_row(model)
    if row is not None:
        conditions = listed(other_noise(row.noise, model.about), low_words(row.precision))
        yield clean_statement(row, images_of(row.images, row.data, row.chosen), row.samples, conditions)


def _under_attack(model: Model) -> Iterator[str]:
    found = list(_attacked(model))
    yield from (sentence for _, sentence in found)
    if model.attacks and not found:
        yield "No attack was as strong as the strict protocol: nothing here says how robust the model is."


def _attacked(model: Model) -> Iterator[tuple[_Left, str]]:
    """Yield what strict attacks leave, of each norm in one ball: the figure, and the sentence on it."""
    bounds = upper_bounds(model.attacks)
    bounds = under_its_noise([row for row in bounds if on_test(row.record.split)] or bounds, model.about)
    for norm in dict.fromkeys(row.record.norm for row in bounds):
        radii = [row.record.eps for row in bounds if row.record.norm == norm]
        eps = asked_radius(norm, radii)
        ball = [row for row in bounds if (row.record.norm, row.record.eps) == (norm, eps)]
        quoted = lowest(most_images(ball))
        settings, noise = protocol_words(quoted.record), other_noise(quoted.noise, model.about)
        for worst in (worst for worst in model.worst if _quotes(worst, quoted)):
            yield (norm, eps, worst.accuracy), worst.statement(noise)
        words = attack_statement(quoted.record, quoted.chosen, settings=settings, noise=noise)
        yield (norm, eps, quoted.majority.accuracy), words


def _quotes(worst: Worst, quoted: MeasuredAttack) -> bool:
    """Return whether an attack is one of those whose figure together is quoted before its own."""
    row = quoted.record
    ball = row.split, row.norm, row.eps, row.samples, quoted.noise
    alike = (worst.split, worst.norm, worst.eps, worst.samples, worst.noise) == ball
    return alike and quoted.run in [part.run for part in worst.parts]


def _proved(model: Model) -> Iterator[str]:
    largest = {}
    for certified in sorted(
        under_its_noise(model.certified, model.about), key=lambda certified: certified.record.images
    ):
        largest[certified.record.norm] = certified
    for _, certified in sorted(largest.items()):
        one = certified.record
        yield certificate_statement(
            one, certified.chosen, middle_radius(one), other_noise(certified.noise, model.about)
        )


def _audited(model: Model) -> Iterator[str]:
    for audit in model.audit:
        checks = audit.record.checks
        refuted = audit.record.refuted_claim
        failed = failed_checks(audit)
        skipped = sum(check.status == "skipped" for check in checks)
        panel = listed(f"m = {audit.record.samples}", other_noise(audit.noise, model.about))
        where = f"The audit ({panel}; {audited_images(audit)})"
        hit_rate = hit_rate_words(audit.record)
        if refuted:
            yield f"{where} refutes a claim ({refuted.code}): {refuted.says}."
        if failed:
            alarms = f" {hit_rate[0].upper()}{hit_rate[1:]}." if hit_rate else ""
            yield f"{where} gives reasons to doubt the figures under attack: {', '.join(failed)}.{alarms}"
            continue
        judged, other = (len(checks) - skipped - 1, " else") if refuted else (len(checks) - skipped, "")
        passed = hit_rate or f"found nothing{other} that fails among {counted(judged, 'check')}"
        yield f"{where} {passed}{f'; {skipped} more were skipped' if skipped else ''}.{_power(audit)}"


def _probed(model: Model) -> Iterator[str]:
    for probe in model.probe:
        one = probe.record
        row = next((row for row in one.rows if (row.encoder, row.points) == ("pre-trained", "ascent")), None)
        if row is not None:
            yield (
                f"Features of the encoder move {row.mean:.3f} [{row.low:.3f}, {row.high:.3f}] times as far as "
                f"the image towards the worst point that ascent finds within {ball_words(one.norm, one.eps)}, as "
                f"the mean of {counted(row.images, 'image')} of {one.data}. This is a lower bound of the "
                "local Lipschitz constant."
            )


def _weights(model: Model) -> Iterator[str]:
    if model.weights:
        yield weights_statement(model.weights)


def _not_measured(model: Model) -> Iterator[str]:
    """Name what is left to measure of a classifier, with the commands for it."""
    certifies = model.about.get("noise") != "none"
    parts: tuple[tuple[object, str, str], ...] = (
        (model.accuracy, "accuracy without an attack", "evaluate"),
        ([row for row in model.attacks if row.record.protocol == "strict"], "a strict attack", "attack"),
        (model.audit, "whether the attacks can be trusted", "audit"),
        # Without noise there is none to be had.
        (model.certified or not certifies, "a certificate", "certify"),
    )
    missing = [f"{what} ({shell_line('rushkit', verb, *model.named_by)})" for rows, what, verb in parts if not rows]
    if missing:
        yield f"Not measured: {'; '.join(missing)}."


def _power(audit: MeasuredAudit) -> str:
    """Return a sentence on the drops that so few images cannot show; empty if the audit does not state them."""
    drop = audit.smallest_drop
    return (
        "" if drop is None else f" Between two attacks it would not have noticed a drop below {percent(drop)} points."
    )


def _weak_autoattack(row: Table1Row) -> Iterator[str]:
    for protocol in measured.COLUMN_PROTOCOLS:
        pgd, autoattack = row.pgd[protocol], row.autoattack[protocol]
        if pgd and autoattack and autoattack.low > pgd.high:
            why = (
                "the paper's Table 1 shows the same, a sign that fixed noise misleads the attack"
                if protocol == "paper"
                else "it did not find what PGD found, and the lower figure is the one to quote"
            )
            yield (
                f"m = {row.samples}, {protocol}: AutoAttack, the stronger attack, leaves more than PGD "
                f"({percent(autoattack.accuracy)} % against {percent(pgd.accuracy)} %); {why}"
            )
