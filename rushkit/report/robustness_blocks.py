"""The sections of the HTML report about robustness: attacked, proved, audited, probed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report import diagrams
from rushkit.report.elements import bullets, cell, fold, header, images_cell, note, share_cell, table, text
from rushkit.report.protocols import attack_pairs, pair_words, protocol_words, protocols_in, standing
from rushkit.report.summary import audited_images
from rushkit.report.tables import SETTINGS, noise_words
from rushkit.report.words import certainty, encoder_words, paragraphs, points_words, run_of_checkpoint
from rushkit.rounding import as_asked, percent

_STYLES = {"pass": "good", "warn": "warn", "fail": "bad"}
_ORDER = ("fail", "warn", "pass")


def attacks(document: Mapping[str, Any]) -> str:
    """Every attack with its protocols side by side, what transfers, and the curves against eps."""
    several = len(document["models"]) > 1
    noises = {noise_words(row["noise"]) for model in document["models"] for row in model["attacks"]}
    rows, remarks = [], []
    pairs = [(model, pair) for model in document["models"] for pair in attack_pairs(model["attacks"])]
    columns = protocols_in([pair for _, pair in pairs])
    changed = any(pair_words(pair) for _, pair in pairs)
    for model, pair in pairs:
        told = [cell(pair_words(pair), "text wide", SETTINGS)] if changed else []
        rows.append([*_whose(model, several), *_attack_cells(pair, columns, with_noise=len(noises) > 1), *told])
    for model in document["models"]:
        remarks += [f"{model['name']}: {line}" if several else line for line in model["attack_notes"]]
    if not rows:
        return ""
    names = ["attack", "m", "images", "clean", *columns, "right in every vote", "flips", "broken by"]
    names += [SETTINGS] if changed else []
    whose = ["model"] if several else []
    head = header(*whose, *names, words=["model", "attack", "broken by", SETTINGS], strict=["strict"])
    caption = (
        "Accuracy in %, majority vote of m noisy looks, with 95% Wilson intervals. Clean, right in every vote, flips "
        "and broken by are figures of strict where it was run. Broken by: how many images each attack was the first to "
        "break, and as clean those that were wrong before."
    )
    curves = diagrams.against_eps(document)
    return (
        note(paragraphs(document["protocol_note"]))
        + table([head], rows, caption, "stack")
        + (bullets(remarks, "remarks") if remarks else "")
        + _transfer(document)
        + (f'<div class="charts">{curves}</div>' if curves else "")
    )


def certified(document: Mapping[str, Any]) -> str:
    """Certified accuracy: curves, tables, and what is and is not covered."""
    parts = []
    for model in document["models"]:
        for one in model["certified"]:
            norm = norm_words(one["norm"])
            rows = [
                [
                    cell(as_asked(row["radius"])),
                    share_cell({**row, "accuracy": row["value"]}),
                    cell(row["count"]),
                    cell(row["total"]),
                ]
                for row in one["certified"]
            ]
            title = f"{model['name']}: {norm}, {noise_words(one['noise'])}, {one['data']}, n = {one['images']}"
            head = header(f"{norm} radius", "certified, %", "right", "images")
            parts.append(
                f"<h3>{text(title)}</h3><p>{text(certainty(one))}. {text(one['covers'])}</p>"
                + fold("Figures", table([head], rows))
                + fold("Assumptions", bullets(one["assumptions"]))
            )
    return f'<div class="charts">{diagrams.certified(document)}</div>{"".join(parts)}' if parts else ""


def audit(document: Mapping[str, Any]) -> str:
    """The verdicts of the newest audit of each model."""
    parts = []
    for model in document["models"]:
        for one in model["audit"]:
            rows = [
                [
                    f'<td class="text {_STYLES.get(check["status"], "soft")}"><b>{text(check["status"])}</b></td>',
                    f'<td class="text line">{text(check["code"])} <small>{text(check["name"])}</small></td>',
                    cell(check["says"], "text wide says"),
                ]
                for check in sorted(one["checks"], key=lambda check: (_place(check["status"]), check["code"]))
            ]
            head = header("verdict", "check", "what was seen", words=["verdict", "check", "what was seen"])
            said = ", ".join(
                f"{sum(check['status'] == status for check in one['checks'])} {status}" for status in _ORDER
            )
            settings = one["settings"]
            caption = (
                f"{model['name']}: {said}; {audited_images(one)}, {one['data']}, "
                f"{ball_words(settings['norm'], settings['eps'])}, m = {one['samples']} ({one['run']})"
            )
            parts.append(table([head], rows, caption, "stack"))
    if not parts:
        return ""
    return (
        "<p>A code names what is the case where its check fails. Where one fails, the attacks above are not to be "
        "trusted. A check passes where its images do not show the fault: on few images it shows large faults only. "
        f"Accuracies here are of the images that were right before.</p>{''.join(parts)}"
        f'<div class="charts">{diagrams.audit(document)}</div>'
    )


def probe(document: Mapping[str, Any]) -> str:
    """How far features move as the image moves, for each encoder."""
    found = {one["run"]: one for model in document["models"] for one in model["probe"]}
    parts = []
    for one in found.values():
        levels = list(one["rows"][0]["quantiles"])
        rows = [
            [
                cell(encoder_words(row["encoder"]), "text"),
                cell(points_words(row["points"]), "text"),
                f"<td><b>{row['mean']:.3f}</b><small>{row['low']:.3f} – {row['high']:.3f}</small></td>",
                *(cell(f"{row['quantiles'][level]:.3f}") for level in levels),
                cell(f"{row['largest']:.3f}"),
            ]
            for row in one["rows"]
        ]
        quantiles = [f"{100 * float(level):g} % quantile" for level in levels]
        head = header("encoder", "x'", "mean [95%]", *quantiles, "largest", words=["encoder", "x'"])
        caption = (
            f"{one['run']}: {one['data']}, n = {one['images']} images without noise, x' within "
            f"{ball_words(one['norm'], one['eps'])}, {one['steps']} steps of ascent; bootstrap intervals over images."
        )
        parts.append(table([head], rows, caption))
    if not parts:
        return ""
    return (
        "<p>The local Lipschitz ratio ‖f(x) − f(x')‖₂ / ‖x − x'‖₂ of the encoder f, with features of unit length. The "
        "ratio found by ascent is a lower bound of the constant, and a small one is no proof of robustness.</p>"
        f'<div class="charts">{diagrams.probe(document)}</div>{"".join(parts)}'
    )


def _attack_cells(pair: Mapping[str, Mapping[str, Any]], columns: Sequence[str], with_noise: bool) -> list[str]:
    last = standing(pair)
    figures = last["rules"]["majority"]
    noise = f", {noise_words(last['noise'])}" if with_noise else ""
    return [
        _attack_cell(last["attack"], last, noise),
        cell(last["samples"], label="m"),
        images_cell(last),
        cell(percent(figures["clean_accuracy"]), label="clean"),
        *(
            share_cell(
                pair[name]["rules"]["majority"] if name in pair else None, "strict" if name == "strict" else "dim", name
            )
            for name in columns
        ),
        cell(percent(figures["any_failure_accuracy"]), label="right in every vote"),
        cell(percent(figures["flip_rate"]), label="flips"),
        cell(_contributions(last), "text wide", "broken by"),
    ]


def _attack_cell(name: str, row: Mapping[str, Any], more: str = "") -> str:
    return f'<td class="text">{text(name)}<small>{text(ball_words(row["norm"], row["eps"]) + more)}</small></td>'


def _transfer(document: Mapping[str, Any]) -> str:
    """The adversarial images of one model, asked of another."""
    several = len(document["models"]) > 1
    rows = []
    for model in document["models"]:
        for row in model["attacks"]:
            if "transfer" not in row:
                continue
            there = row["transfer"]
            figures = there["rules"]["majority"]
            rows.append(
                [
                    *_whose(model, several),
                    _attack_cell(f"{row['attack']} {protocol_words(row)}", row),
                    cell(row["samples"], label="m"),
                    cell(there["images"], label="images"),
                    share_cell(row["rules"]["majority"], label="here, attacked"),
                    cell(f"{run_of_checkpoint(there['model'])}, {noise_words(there['noise'])}", "text wide", "asked"),
                    cell(percent(figures["clean_accuracy"]), label="there, clean"),
                    share_cell(figures, label="there, attacked"),
                ]
            )
    if not rows:
        return ""
    names = ("attack", "m", "images", "here, attacked", "asked", "there, clean", "there, attacked")
    head = header(*(["model"] if several else []), *names, words=["model", "attack", "asked"])
    caption = (
        "The same images asked of another model under its own noise. They were made against the attacked model only: "
        "what they leave there says nothing of the other model's robustness."
    )
    return "<h3>Transfer</h3>" + table([head], rows, caption, "stack")


def _whose(model: Mapping[str, Any], several: bool) -> list[str]:
    return [cell(model["name"], "text")] if several else []


def _contributions(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in row["contributions"].items() if count) or "none"


def _place(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)
