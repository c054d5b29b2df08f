"""The sections of the HTML report, from its document; a section about nothing is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushkit.report import diagrams
from rushkit.report.certified import norm_words
from rushkit.report.elements import cell, facts, fold, header, note, share_cell, table, text
from rushkit.report.measured import PROTOCOLS
from rushkit.report.tables import eps_words, noise_words, percent
from rushkit.report.words import (
    attack_pairs,
    command_lines,
    images_words,
    measurement,
    p_value,
    paragraphs,
    reported_cells,
    value_words,
)

# Up to so many classes a confusion matrix is a table; beyond, its largest entries are listed.
_MOST_CLASSES = 16
_MOST_CONFUSED = 20


def summary(document: Mapping[str, Any]) -> str:
    """What was found, in sentences, and what a reader must know of it."""
    parts = []
    for model in document["models"]:
        name = f"<h3>{text(model['name'])}</h3>" if len(document["models"]) > 1 else ""
        parts.append(f'{name}<ul class="summary">{"".join(f"<li>{text(line)}</li>" for line in model["summary"])}</ul>')
        if model["notes"]:
            parts.append(fold("Notes on these figures", _bullets(model["notes"]), opened=len(model["notes"]) <= 3))
    return "".join(parts)


def table_1(document: Mapping[str, Any]) -> str:
    """The paper's layout: what it reports, and what was measured under both protocols."""
    rows = []
    for number, model in enumerate(document["models"]):
        for row in model["table_1"]:
            about = f"<b>{text(model['name'])}</b><small>{text(row['data'])}, {text(noise_words(row['noise']))}</small>"
            strategy = f"<small>{text(row['strategy'])}</small>" if row["strategy"] else ""
            standard, pgd, autoattack = reported_cells(row["reported"])
            cells = [
                f'<td class="text c{number % 6}">{about}</td><td data-label="m">{row["samples"]}{strategy}</td>',
                _reported(standard, "standard") + share_cell(row["standard"], label="standard, measured", images=True),
            ]
            for column, name, shown in (("pgd", "PGD", pgd), ("autoattack", "AutoAttack", autoattack)):
                cells.append(_reported(shown, name))
                cells.append(share_cell(row[column]["paper"], "dim", f"{name}, paper", images=True))
                cells.append(share_cell(row[column]["strict"], "strict", f"{name}, strict", images=True))
            rows.append(cells)
    if not rows:
        return ""
    top = (
        '<th class="text" rowspan="2">model</th><th class="free" rowspan="2">m</th>'
        '<th class="group" colspan="2">standard</th><th class="group" colspan="3">PGD, l-inf 8/255</th>'
        '<th class="group" colspan="3">AutoAttack, l-inf 8/255</th>'
    )
    under = '<th class="dim edge free">reported</th><th>measured</th>' + (
        '<th class="dim edge">reported</th><th class="dim">paper</th><th class="strict">strict</th>' * 2
    )
    caption = "Accuracy in %, majority vote of m noisy looks, with 95% Wilson intervals over n images."
    told = [note([*paragraphs(document["protocol_note"]), f"reported: {document['paper']}."])]
    for model in document["models"]:
        if model["differences"] and any(row["reported"] for row in model["table_1"]):
            differs = f"{model['name']} differs from the paper: {'; '.join(model['differences'])}."
            told.append(f"<p><small>{text(differs)}</small></p>")
        elif model["table_1"] and not any(row["reported"] for row in model["table_1"]):
            told.append(f"<p><small>{text(model['name'])}: the paper has no such row.</small></p>")
    return table([top, under], rows, caption, "stack") + "".join(told)


def comparison(document: Mapping[str, Any]) -> str:
    """In what the models differ: in their recipes, and image by image."""
    found = document.get("comparison")
    if not found:
        return ""
    names = found["names"]
    parts = []
    if found["recipes"]:
        rows = [
            [cell(key, "text"), *(cell(value_words(value), "text") for value in values)]
            for key, values in found["recipes"].items()
        ]
        parts.append("<h3>Recipes</h3>" + table([header("key", *names, words=["key", *names])], rows))
    parts.append("<h3>Image by image</h3>")
    if not found["significance"]:
        parts.append("<p>They were not measured on the same images, so they cannot be compared image by image.</p>")
        return "".join(parts)
    rows = [
        [
            cell(measurement(row["what"]), "text"),
            cell(row["first"], "text"),
            cell(row["second"], "text"),
            *(cell(row[key]) for key in ("images", "both", "only_first", "only_second")),
            cell(p_value(row["p_value"]), "sure" if row["p_value"] < 0.05 else ""),
        ]
        for row in found["significance"]
    ]
    head = header("what", "A", "B", "images", "both right", "only A", "only B", "p", words=["what", "A", "B"])
    parts.append(
        table(
            [head],
            rows,
            "McNemar's exact test on the images that only one of the two has right; under "
            "attack an image is right where most of its votes are. Not corrected for the number of rows.",
        )
    )
    if any(row["what"].get("protocol") == "paper" for row in found["significance"]):
        parts.append(note(paragraphs(document["protocol_note"])))
    return "".join(parts)


def attacks(document: Mapping[str, Any]) -> str:
    """Every attack with both protocols side by side, and the curves against eps."""
    parts = []
    for model in document["models"]:
        rows = []
        for pair in attack_pairs(model["attacks"]):
            last = pair.get("strict") or pair["paper"]
            figures = last["rules"]["majority"]
            rows.append(
                [
                    cell(f"{last['attack']}", "text"),
                    cell(f"{norm_words(last['norm'])} {eps_words(last['eps'])}", "text"),
                    cell(last["samples"], label="m"),
                    cell(images_words(last), label="images"),
                    cell(percent(figures["clean_accuracy"]), label="clean"),
                    *(
                        share_cell(pair[name]["rules"]["majority"] if name in pair else None, kind, name)
                        for name, kind in zip(PROTOCOLS, ("dim", "strict"), strict=True)
                    ),
                    cell(percent(figures["any_failure_accuracy"]), label="right in every vote"),
                    cell(percent(figures["flip_rate"]), label="flips"),
                    cell(_contributions(last), "text wide", "broken first by"),
                ]
            )
        if rows:
            head = header(
                "attack",
                "ball",
                "m",
                "images",
                "clean",
                "paper",
                "strict",
                "right in every vote",
                "flips",
                "broken first by",
                words=["attack", "ball", "broken first by"],
                strict=["strict"],
            )
            name = f"<h3>{text(model['name'])}</h3>" if len(document["models"]) > 1 else ""
            caption = (
                "Accuracy in %, majority vote; the last three columns and clean are those of strict where it was run."
            )
            parts.append(name + table([head], rows, caption, "stack"))
    if not parts:
        return ""
    curves = diagrams.against_eps(document)
    return (
        note(paragraphs(document["protocol_note"]))
        + "".join(parts)
        + (f'<div class="charts">{curves}</div>' if curves else "")
    )


def certified(document: Mapping[str, Any]) -> str:
    """Certified accuracy: curves, tables, and what is and is not covered."""
    parts = []
    for model in document["models"]:
        for one in model["certified"]:
            rows = [
                [
                    cell(f"{row['radius']:g}"),
                    share_cell({**row, "accuracy": row["value"]}),
                    cell(row["count"]),
                    cell(row["total"]),
                ]
                for row in one["certified"]
            ]
            how = f"alpha {one['alpha']:g}, {one['bound']}, {one['samples']} draws" if one["alpha"] else "exact"
            caption = f"{model['name']}: {noise_words(one['noise'])}, {norm_words(one['norm'])}, {one['data']}, {how}."
            head = header(f"{norm_words(one['norm'])} radius", "certified", "right", "images")
            parts.append(
                f"<h3>{text(caption)}</h3><p>{text(one['covers'])}</p>"
                + fold("Figures", table([head], rows))
                + fold("Assumptions", _bullets(one["assumptions"]))
            )
    return f'<div class="charts">{diagrams.certified(document)}</div>{"".join(parts)}' if parts else ""


def audit(document: Mapping[str, Any]) -> str:
    """The verdicts of the newest audit of each model."""
    parts = []
    colours = {"pass": "good", "warn": "warn", "fail": "bad"}
    for model in document["models"]:
        for one in model["audit"]:
            rows = [
                [
                    f'<td class="text {colours.get(check["status"], "soft")}"><b>{text(check["status"])}</b></td>',
                    cell(check["code"], "text"),
                    cell(check["name"], "text"),
                    cell(check["says"], "text wide"),
                ]
                for check in sorted(one["checks"], key=lambda check: (_order(check["status"]), check["code"]))
            ]
            head = header(
                "verdict", "code", "name", "what was seen", words=["verdict", "code", "name", "what was seen"]
            )
            counts = {
                status: sum(check["status"] == status for check in one["checks"]) for status in ("fail", "warn", "pass")
            }
            said = ", ".join(f"{count} {status}" for status, count in counts.items())
            parts.append(table([head], rows, f"{model['name']}: {said} ({one['run']})"))
    if not parts:
        return ""
    return (
        "<p>A code names what is the case where its check fails. Where one fails, the attacks above are not to be "
        f'trusted.</p>{"".join(parts)}<div class="charts">{diagrams.audit(document)}</div>'
    )


def confusion(document: Mapping[str, Any]) -> str:
    """What is taken for what."""
    parts = []
    for model in document["models"]:
        found = model["confusion"]
        if found is None:
            continue
        names, counts = found["classes"], found["counts"]
        how = f"vote of m = {found['samples']}, {noise_words(found['noise'])}"
        caption = f"{model['name']}: {found['data']} without attack, {how}"
        if len(names) > _MOST_CLASSES:
            pairs = sorted(
                ((counts[i][j], i, j) for i in range(len(names)) for j in range(len(names)) if i != j and counts[i][j]),
                key=lambda entry: (-entry[0], entry[1], entry[2]),
            )[:_MOST_CONFUSED]
            rows = [
                [cell(names[i], "text"), cell(names[j], "text"), cell(count), cell(sum(counts[i]))]
                for count, i, j in pairs
            ]
            head = header("class", "taken for", "images", "of", words=["class", "taken for"])
            parts.append(table([head], rows, f"{caption}: the most frequent confusions"))
            continue
        rows = []
        for index, line in enumerate(counts):
            total = max(sum(line), 1)
            cells = [
                f'<td class="{"hit" if index == other else "miss"}" style="--v:{count / total:.3f}">{count or ""}</td>'
                for other, count in enumerate(line)
            ]
            rows.append([f'<td class="text"><b>{text(names[index])}</b></td>', *cells])
        head = '<th class="text">is \\ taken for</th>' + "".join(f"<th>{text(name)}</th>" for name in names)
        parts.append(table([head], rows, caption, "matrix sticky"))
    return "".join(parts)


def reproduce(document: Mapping[str, Any]) -> str:
    """The recipe, the runs, and the commands as they were given."""
    parts = []
    for model in document["models"]:
        lines = command_lines(model["runs"])
        commands = f"<pre>{text(chr(10).join(lines))}</pre>" if lines else ""
        rows = [
            [
                cell(run["stage"], "text"),
                cell(run["run"].replace("\\", "/").rpartition("/")[2], "text"),
                cell(run["status"], "text"),
                cell("" if run["seconds"] is None else f"{run['seconds']:.0f}"),
                cell(run["machine"] or "", "text"),
                cell("" if run["seed"] is None else run["seed"]),
                cell(_git(run["git"]), "text"),
            ]
            for run in model["runs"]
        ]
        head = header(
            "stage",
            "run",
            "status",
            "seconds",
            "machine",
            "seed",
            "code",
            words=["stage", "run", "status", "machine", "code"],
        )
        own = next((run for run in model["runs"] if run["run"] == model["run"]), None)
        versions = (own or {}).get("versions") or {}
        others = "".join(
            f"<h3>{text(one['stage'])}</h3>{facts({key: value_words(value) for key, value in one['figures'].items()})}"
            for one in model["other"]
        )
        parts.append(
            f"<h3>{text(model['name'])}</h3>{facts(model['about'])}"
            + commands
            + table([head], rows)
            + (f"<p><small>{text(', '.join(f'{key} {value}' for key, value in versions.items()))}</small></p>")
            + fold("The resolved recipe", f"<pre>{text(model['recipe_text'])}</pre>")
            + others
        )
    return "".join(parts)


def _reported(shown: str, name: str) -> str:
    # A dash says something under a header only.
    return cell(shown, "dim edge", f"{name}, reported" if shown != "–" else "")


def _contributions(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in row["contributions"].items() if count) or "none"


def _bullets(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def _order(status: str) -> int:
    order = ("fail", "warn", "pass")
    return order.index(status) if status in order else len(order)


def _git(state: Mapping[str, Any] | None) -> str:
    return "" if not state else f"{state['commit'][:10]}{' with changes' if state['dirty'] else ''}"
