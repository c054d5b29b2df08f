"""The general sections of the HTML report, from its document; a section about nothing is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rushkit.report.elements import bullets, cell, facts, fold, header, note, share_cell, table, text
from rushkit.report.protocols import is_no_bound
from rushkit.report.tables import noise_words
from rushkit.report.words import (
    command_lines,
    footnote,
    measurement,
    p_value,
    paragraphs,
    points,
    reported_cells,
    value_words,
)
from rushkit.run.progress import duration

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
            parts.append(fold("Notes on these figures", bullets(model["notes"]), opened=len(model["notes"]) <= 3))
    return "".join(parts)


def table_1(document: Mapping[str, Any]) -> str:
    """The paper's layout: what it reports, and what was measured under both protocols."""
    rows = []
    for number, model in enumerate(document["models"]):
        key = f' class="key c{number % 6}"' if len(document["models"]) > 1 else ""
        for row in model["table_1"]:
            where = f"{row['data']}, {noise_words(row['noise'])}"
            about = f"<b{key}>{text(model['name'])}</b><small>{text(where)}</small>"
            strategy = f"<small>{text(row['strategy'])}</small>" if row["strategy"] else ""
            standard, pgd, autoattack = reported_cells(row["reported"])
            cells = [
                f'<td class="text">{about}</td><td data-label="m">{row["samples"]}{strategy}</td>',
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
    body = table([top, under], rows, caption, "stack")
    told = [note([*paragraphs(document["protocol_note"]), f"reported: {document['paper']}."])]
    if terms := footnote(body + told[0]):
        told.append(f"<p><small>{text(terms)}</small></p>")
    for model in document["models"]:
        if model["differences"] and any(row["reported"] for row in model["table_1"]):
            differs = f"{model['name']} differs from the paper: {'; '.join(model['differences'])}."
            told.append(f"<p><small>{text(differs)}</small></p>")
        elif model["table_1"] and not any(row["reported"] for row in model["table_1"]):
            told.append(f"<p><small>{text(model['name'])}: the paper has no such row.</small></p>")
    return body + "".join(told)


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
        parts.append("<p>They were not measured alike on the same images: nothing to compare image by image.</p>")
        return "".join(parts)
    rows = [
        [
            cell(measurement(row["what"]), "text"),
            cell(row["first"], "text", "A"),
            cell(row["second"], "text", "B"),
            cell(row["images"], label="images"),
            cell(row["both"], label="both right"),
            cell(row["only_first"], label="only A"),
            cell(row["only_second"], label="only B"),
            cell(points((row["only_first"] - row["only_second"]) / row["images"]), label="A − B, points"),
            cell(p_value(row["p_value"]), "sure" if row["p_value"] < 0.05 else "", "p"),
        ]
        for row in found["significance"]
    ]
    head = header(
        "what", "A", "B", "images", "both right", "only A", "only B", "A − B, points", "p", words=["what", "A", "B"]
    )
    parts.append(
        table(
            [head],
            rows,
            "McNemar's exact test on the images that only one of the two has right; under attack an image is right "
            "where most of its votes are. p is not corrected for the number of rows.",
            "stack",
        )
    )
    if any(is_no_bound(row["what"]) for row in found["significance"]):
        parts.append(note(paragraphs(document["protocol_note"])))
    return "".join(parts)


def standard(document: Mapping[str, Any]) -> str:
    """Accuracy without an attack for each m, both rules side by side."""
    found: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for model in document["models"]:
        for row in model["accuracy"]:
            key = (model["name"], row["data"], noise_words(row["noise"]), row["samples"], row["images"])
            found.setdefault(key, {})[row["rule"]] = row
    if not found:
        return ""
    rules = list(dict.fromkeys(rule for rows in found.values() for rule in rows))
    rows = [
        [
            f'<td class="text"><b>{text(name)}</b><small>{text(f"{data}, {noise}")}</small></td>',
            cell(samples, label="m"),
            cell(images, label="images"),
            *(share_cell(each.get(rule), label=rule) for rule in rules),
        ]
        for (name, data, noise, samples, images), each in found.items()
    ]
    caption = (
        "Accuracy in % with 95% Wilson intervals; m noisy looks at each image. Majority: their vote, mean: their mean "
        "softmax."
    )
    return table([header("model", "m", "images", *rules, words=["model"])], rows, caption, "stack")


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
                f'<td class="text"><b>{text(run["stage"])}</b><small>{text(_name(run["run"]))}</small></td>',
                cell(run["status"], "text", "status"),
                cell("" if run["seconds"] is None else duration(run["seconds"]), "line", "took"),
                cell(run["machine"] or "", "text", "machine"),
                cell("" if run["seed"] is None else run["seed"], label="seed"),
                cell(_git(run["git"]), "text", "code" if run["git"] else ""),
            ]
            for run in model["runs"]
        ]
        words = ["run", "status", "machine", "code"]
        head = header("run", "status", "took", "machine", "seed", "code", words=words)
        own = next((run for run in model["runs"] if run["run"] == model["run"]), None)
        versions = (own or {}).get("versions") or {}
        others = "".join(
            f"<h3>{text(one['stage'])}</h3>{facts({key: value_words(value) for key, value in one['figures'].items()})}"
            for one in model["other"]
        )
        parts.append(
            f"<h3>{text(model['name'])}</h3>{facts(model['about'])}"
            + commands
            + table([head], rows, "All runs that are part of this report, oldest first.", "stack")
            + (f"<p><small>{text(', '.join(f'{key} {value}' for key, value in versions.items()))}</small></p>")
            + fold("The resolved recipe", f"<pre>{text(model['recipe_text'])}</pre>")
            + others
        )
    return "".join(parts)


def _reported(shown: str, name: str) -> str:
    # A dash says something under a header only.
    return cell(shown, "dim edge", f"{name}, reported" if shown != "–" else "")


def _name(run: str) -> str:
    return run.replace("\\", "/").rpartition("/")[2]


def _git(state: Mapping[str, Any] | None) -> str:
    return "" if not state else f"{state['commit'][:10]}{' with changes' if state['dirty'] else ''}"
