"""A report as Markdown: its tables and sentences, for a repository or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rushkit.report.certified import norm_words
from rushkit.report.tables import eps_words, interval, noise_words, percent
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


def markdown(document: Mapping[str, Any]) -> str:
    """The whole page; the document is that of ``report.document.build_document``."""
    parts = [f"# {plain(document['title'])}", *_summary(document), *_table_1(document), *_comparison(document)]
    for model in document["models"]:
        parts += [f"## {plain(model['name'])}", *_model(document, model)]
    return "\n\n".join([*parts, f"Written by rushkit {document['rushkit']}."]) + "\n"


def plain(text: Any) -> str:
    """Text that Markdown and HTML leave as it is."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", one_line)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A pipe table; the cells are escaped."""
    lines = [list(map(plain, head)), ["---"] * len(head), *(list(map(plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summary(document: Mapping[str, Any]) -> Iterator[str]:
    for model in document["models"]:
        name = f"{model['name']}: " if len(document["models"]) > 1 else ""
        yield "\n".join(f"- {plain(name + line)}" for line in model["summary"])
    notes = [note for model in document["models"] for note in model["notes"]]
    if notes:
        yield "\n".join(f"- note: {plain(note)}" for note in dict.fromkeys(notes))


def _table_1(document: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for model in document["models"]:
        for row in model["table_1"]:
            standard, pgd, autoattack = reported_cells(row["reported"])
            about = f"{model['name']}: {row['data']}, {noise_words(row['noise'])}"
            rows.append(
                [
                    *(about, row["samples"]),
                    *(standard, _share(row["standard"])),
                    *(pgd, *(_share(row["pgd"][name]) for name in ("paper", "strict"))),
                    *(autoattack, *(_share(row["autoattack"][name]) for name in ("paper", "strict"))),
                ]
            )
    if not rows:
        return
    columns = [f"{name}, {kind}" for name in ("PGD", "AA") for kind in ("reported", "paper", "strict")]
    yield "## The paper's Table 1, reported and measured"
    yield "Accuracy in %, majority vote of m noisy looks; PGD and AutoAttack (AA) within l-inf 8/255."
    yield table(["model", "m", "standard, reported", "standard, measured", *columns], rows)
    yield _quote([*paragraphs(document["protocol_note"]), f"reported: {document['paper']}."])
    for model in document["models"]:
        if model["differences"] and any(row["reported"] for row in model["table_1"]):
            yield plain(f"{model['name']} differs from the paper: {'; '.join(model['differences'])}.")


def _comparison(document: Mapping[str, Any]) -> Iterator[str]:
    found = document.get("comparison")
    if not found:
        return
    yield "## Comparison"
    if found["recipes"]:
        rows = [[key, *map(value_words, values)] for key, values in found["recipes"].items()]
        yield table(["key", *found["names"]], rows)
    if found["significance"]:
        keys = ("first", "second", "images", "both", "only_first", "only_second")
        rows = [
            [measurement(row["what"]), *(row[key] for key in keys), p_value(row["p_value"])]
            for row in found["significance"]
        ]
        yield table(["what", "A", "B", "images", "both right", "only A", "only B", "p"], rows)
        yield "p: McNemar's exact test on the images that one of the two alone has right; not corrected for many rows."
        if any(row["what"].get("protocol") == "paper" for row in found["significance"]):
            yield _quote(paragraphs(document["protocol_note"]))


def _model(document: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    if model["about"]:
        yield "\n".join(f"- {plain(key)}: {plain(value)}" for key, value in model["about"].items())
    if model["accuracy"]:
        keys = ("data", "samples", "rule")
        rows = [[*(row[key] for key in keys), interval(row), row["images"]] for row in model["accuracy"]]
        yield "### Standard accuracy"
        yield table(["data", "m", "rule", "accuracy % [95%]", "images"], rows)
    if model["attacks"]:
        rows = []
        for pair in attack_pairs(model["attacks"]):
            last = pair.get("strict") or pair["paper"]
            figures = last["rules"]["majority"]
            both = [interval(pair[name]["rules"]["majority"]) if name in pair else "" for name in ("paper", "strict")]
            ball = f"{norm_words(last['norm'])} {eps_words(last['eps'])}"
            clean, flips = percent(figures["clean_accuracy"]), percent(figures["flip_rate"])
            rows.append([last["attack"], ball, last["samples"], images_words(last), clean, *both, flips])
        yield "### Under attack"
        yield table(["attack", "ball", "m", "images", "clean %", "paper % [95%]", "strict % [95%]", "flips %"], rows)
        yield _quote(paragraphs(document["protocol_note"]))
    for one in model["certified"]:
        norm = norm_words(one["norm"])
        yield f"### Certified, {norm}"
        rows = [
            [f"{row['radius']:g}", interval(row | {"accuracy": row["value"]}), row["total"]] for row in one["certified"]
        ]
        yield table([f"{norm} radius", "certified % [95%]", "images"], rows)
        yield plain(one["covers"])
    for one in model["audit"]:
        yield "### Audit"
        verdict = ("status", "code", "name", "says")
        yield table(
            ["verdict", "code", "name", "what was seen"], [[check[key] for key in verdict] for check in one["checks"]]
        )
    lines = command_lines(model["runs"])
    yield "### How to reproduce it"
    if lines:
        yield _fenced("\n".join(lines), "sh")
    yield _fenced(model["recipe_text"].rstrip(), "toml")


def _share(cell: Mapping[str, Any] | None) -> str:
    return "" if cell is None else f"{interval(cell)}, n = {images_words(cell)}"


def _quote(lines: Sequence[str]) -> str:
    return "\n>\n".join(f"> {plain(line)}" for line in lines)


def _fenced(text: str, language: str) -> str:
    """A code block, with a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
