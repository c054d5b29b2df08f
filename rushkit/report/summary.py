"""A model's results in sentences, and what a reader could otherwise be misled by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rushkit.errors import shell_line
from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report import measured
from rushkit.report.collect import Family
from rushkit.report.paper import EPS, NORM
from rushkit.report.protocols import attack_pairs, protocol_words, upper_bounds
from rushkit.report.tables import above_paper, noise_words
from rushkit.report.words import certainty
from rushkit.robustness.failures import failed_words
from rushkit.rounding import as_asked, percent, percent_interval


def summary(entry: Mapping[str, Any]) -> list[str]:
    """The result in sentences, each saying what its figure is and is not; never a figure of the protocol paper.

    Args:
        entry: A model of the report's document.
    """
    said = [*_clean(entry), *_under_attack(entry), *_proved(entry), *_audited(entry), *_probed(entry)]
    if not entry["classifies"]:
        return ["This is an encoder, not a classifier yet: rushkit finetune.", *said]
    return [*(said or ["Nothing was measured of this model yet."]), *_not_measured(entry)]


def notes(family: Family, entry: Mapping[str, Any]) -> list[str]:
    """What qualifies all figures: stopped runs, damaged results, several checkpoints, warnings of certifications."""
    found = [
        f"{run.path.name} ({run.verb}) is {run.status}; what it measured is not complete"
        for run in family.runs
        if run.status != "finished"
    ]
    found += [f"{damage}; its figures are left out" for run in family.runs for damage in run.damage()]
    found += [
        f"{run.path.name}: {failed_words(row)}"
        for run, results in measured.results_of(family, "attack")
        for row in results["failed"]
    ]
    used = measured.checkpoints_used(family)
    if len(used) > 1:
        listed = "; ".join(f"{name} by {', '.join(runs)}" for name, runs in sorted(used.items()))
        found.append(f"the figures are of several checkpoints of this run: {listed}")
    found += [f"{one['run']}: {warning}" for one in entry["certified"] for warning in one.get("warnings", [])]
    found += [f"{one['run']}: {one['size']}" for one in (*entry["audit"], *entry["probe"]) if one.get("size")]
    found += [f"CONTRADICTION: {text}" for one in entry["certified"] for text in one["checks"]["messages"]]
    return list(dict.fromkeys(found))


def attack_notes(entry: Mapping[str, Any]) -> list[str]:
    """What a reader of the attacks' figures must know; it may quote figures of the protocol paper."""
    found = [note for row in entry["table_1"] for note in _weak_autoattack(row)]
    found += [note for pair in attack_pairs(entry["attacks"]) for note in above_paper(pair)]
    said: dict[str, list[str]] = {}
    for row in entry["attacks"]:
        for note in row["notes"]:
            ball = ball_words(row["norm"], row["eps"])
            said.setdefault(note, []).append(f"{row['attack']} {ball} {protocol_words(row)} m = {row['samples']}")
    return [*dict.fromkeys(found), *(f"{note} ({'; '.join(rows)})" for note, rows in said.items())]


def _clean(entry: Mapping[str, Any]) -> Iterator[str]:
    votes = [row for row in entry["accuracy"] if row["rule"] == "majority"]
    votes = _own([row for row in votes if measured.on_test(row)] or votes, entry)
    if votes:
        row = max(votes, key=lambda row: (row["samples"], row["images"]))
        yield (
            f"Without an attack, a vote of m = {row['samples']} is right on {_share(row)} of {row['images']} images of "
            f"{row['data']}{_other(row, entry)}."
        )


def _under_attack(entry: Mapping[str, Any]) -> Iterator[str]:
    strict = upper_bounds(entry["attacks"])
    strict = _own([row for row in strict if measured.on_test(row)] or strict, entry)
    for norm in dict.fromkeys(row["norm"] for row in strict):
        radii = [row["eps"] for row in strict if row["norm"] == norm]
        # The radius that the field asks about, where it was attacked.
        eps = next((eps for eps in radii if norm == NORM and abs(eps - EPS) < 1e-9), max(radii))
        ball = [row for row in strict if (row["norm"], row["eps"]) == (norm, eps)]
        row = min(ball, key=lambda row: row["rules"]["majority"]["accuracy"])
        figures = row["rules"]["majority"]
        yield (
            f"Under {row['attack']}, {ball_words(norm, eps)}, {protocol_words(row)}: {_share(figures)} of "
            f"{row['images']} images of {row['split']} (m = {row['samples']}{_other(row, entry)}), against "
            f"{percent(figures['clean_accuracy'])} % of the same images clean. This is an upper bound of the "
            "robustness."
        )
    if entry["attacks"] and not strict:
        yield "No attack was as strong as the strict protocol: nothing here says how robust the model is."


def _proved(entry: Mapping[str, Any]) -> Iterator[str]:
    largest = {}
    for one in sorted(_own(entry["certified"], entry), key=lambda one: one["images"]):
        largest[one["norm"]] = one
    for norm, one in sorted(largest.items()):
        shown = [row for row in one["certified"] if row["radius"] > 0 and row["count"]]
        proved = f"Proved ({certainty(one)}{_other(one, entry)})"
        if shown:
            row = shown[len(shown) // 2]
            yield (
                f"{proved}: {_share(row, 'value')} of {row['total']} images of "
                f"{one['data']} keep their right class under every {norm_words(norm)} perturbation up to "
                f"{as_asked(row['radius'])}."
            )
        else:
            yield (
                f"{proved}: none of {one['images']} images of {one['data']} keeps its right class "
                f"at any {norm_words(norm)} radius above 0 that was asked for."
            )


def _audited(entry: Mapping[str, Any]) -> Iterator[str]:
    for one in entry["audit"]:
        failed = [f"{check['code']} {check['name']}" for check in one["checks"] if check["status"] == "fail"]
        skipped = sum(check["status"] == "skipped" for check in one["checks"])
        where = f"The audit (m = {one['samples']}{_other(one, entry)}; {audited_images(one)})"
        if failed:
            yield f"{where} does not trust these attacks: {', '.join(failed)}."
            continue
        yield (
            f"{where} found nothing that fails among {len(one['checks']) - skipped} checks"
            f"{f'; {skipped} more were skipped' if skipped else ''}.{_power(one)}"
        )


def _probed(entry: Mapping[str, Any]) -> Iterator[str]:
    for one in entry["probe"]:
        row = next((row for row in one["rows"] if (row["encoder"], row["points"]) == ("pre-trained", "ascent")), None)
        if row is not None:
            yield (
                f"Features of the encoder move {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}] times as far as "
                f"the image towards the worst point that ascent finds within {ball_words(one['norm'], one['eps'])}, as "
                f"the mean of {row['images']} images of {one['data']}. This is a lower bound of the local Lipschitz "
                "constant."
            )


def _not_measured(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is left to measure of a classifier, each with its command."""
    name = PurePath(entry["run"]).name
    certifies = entry["about"].get("noise") != "none"
    parts = (
        (entry["accuracy"], "accuracy without an attack", "evaluate"),
        ([row for row in entry["attacks"] if row["protocol"] == "strict"], "a strict attack", "attack"),
        (entry["audit"], "whether the attacks can be trusted", "audit"),
        # Without noise there is none to be had.
        (entry["certified"] or not certifies, "a certificate", "certify"),
    )
    missing = [f"{what} ({shell_line('rushkit', verb, '--from', name)})" for found, what, verb in parts if not found]
    if missing:
        yield f"Not measured: {'; '.join(missing)}."


def audited_images(audit: Mapping[str, Any]) -> str:
    """On how many images an audit is: "38 of 64 images attacked, the others wrong before"."""
    attacked = audit["attacked"]
    if attacked is None:
        return f"{audit['images']} images"
    return f"{attacked} of {audit['images']} images attacked, the others wrong before"


def _power(audit: Mapping[str, Any]) -> str:
    """What so few images could not have shown; empty for an audit that does not say it."""
    drop = audit["smallest_drop"]
    return (
        "" if drop is None else f" Between two attacks it would not have noticed a drop below {percent(drop)} points."
    )


def _weak_autoattack(row: Mapping[str, Any]) -> Iterator[str]:
    for protocol in measured.COLUMN_PROTOCOLS:
        pgd, autoattack = row["pgd"][protocol], row["autoattack"][protocol]
        if pgd and autoattack and autoattack["low"] > pgd["high"]:
            why = (
                "the paper's Table 1 shows the same, a sign that fixed noise misleads the attack"
                if protocol == "paper"
                else "it did not find what PGD found, and the lower figure is the one to quote"
            )
            yield (
                f"m = {row['samples']}, {protocol}: AutoAttack, the stronger attack, leaves more than PGD "
                f"({percent(autoattack['accuracy'])} % against {percent(pgd['accuracy'])} %); {why}"
            )


def _own(rows: list[Any], entry: Mapping[str, Any]) -> list[Any]:
    """The rows under the noise that the model is for; all, where there are none."""
    return [row for row in rows if not _other(row, entry)] or rows


def _other(row: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The noise of a figure where it is not the one that the model is for: ", noise none"."""
    words = noise_words(row["noise"])
    return "" if words == entry["about"].get("noise", words) else f", noise {words}"


def _share(row: Mapping[str, Any], key: str = "accuracy") -> str:
    return f"{percent(row[key])} % [{percent_interval(row['low'], row['high'])}]"


def smallest_drop(checks: Sequence[Mapping[str, Any]]) -> float | None:
    """The smallest drop between two attacks that an audit warns of, as its RK119 says; None where it does not."""
    figures: Mapping[str, float] = next((check["figures"] for check in checks if check["code"] == "RK119"), {})
    return figures.get("smallest drop that warns")
