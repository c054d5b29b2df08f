"""A report as Markdown: its tables and sentences, for a repository or an issue."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.measured import COLUMN_PROTOCOLS
from rushkit.report.protocols import attack_pairs, is_no_bound, pair_words, protocol_words, protocols_in, standing
from rushkit.report.summary import audited_images
from rushkit.report.tables import SETTINGS, interval, noise_words
from rushkit.report.words import (
    certainty,
    command_lines,
    encoder_words,
    footnote,
    images_words,
    measurement,
    p_value,
    paragraphs,
    points,
    points_words,
    reported_cells,
    run_of_checkpoint,
    value_words,
)
from rushkit.rounding import as_asked, percent


def markdown(document: Mapping[str, Any], beside: str) -> str:
    """The whole page.

    Args:
        document: As ``report.document.build_document`` makes it.
        beside: Name of the file that has the curves and images.
    """
    parts = [f"# {plain(document['title'])}", *_summary(document), *_table_1(document), *_comparison(document)]
    for model in document["models"]:
        parts += [f"## {plain(model['name'])}", *_model(document, model)]
    return (
        "\n\n".join(
            [*parts, f"Written by rushkit {document['rushkit']}; curves and images are in {beside} beside this file."]
        )
        + "\n"
    )


def plain(text: Any) -> str:
    """Text that Markdown and HTML leave as it is."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~$&])", r"\\\1", one_line)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], right: Collection[int] = ()) -> str:
    """A pipe table; the cells are escaped, the columns in ``right`` are aligned there."""
    rule = ["---:" if index in right else "---" for index in range(len(head))]
    lines = [list(map(plain, head)), rule, *(list(map(plain, row)) for row in rows)]
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
                    *(pgd, *(_share(row["pgd"][name]) for name in COLUMN_PROTOCOLS)),
                    *(autoattack, *(_share(row["autoattack"][name]) for name in COLUMN_PROTOCOLS)),
                ]
            )
    if not rows:
        return
    columns = [f"{name}, {kind}" for name in ("PGD", "AA") for kind in ("reported", "paper", "strict")]
    yield "## The paper's Table 1, reported and measured"
    yield "Accuracy in %, majority vote of m noisy looks; PGD and AutoAttack (AA) within l-inf 8/255."
    yield table(["model", "m", "standard, reported", "standard, measured", *columns], rows, right=range(1, 10))
    told = [*paragraphs(document["protocol_note"]), f"reported: {document['paper']}."]
    yield _quote(told)
    if terms := footnote(" ".join(told)):
        yield plain(terms)
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
    if not found["significance"]:
        yield "They were not measured alike on the same images: nothing to compare image by image."
        return
    rows = [
        [
            measurement(row["what"]),
            *(row[key] for key in ("first", "second", "images", "both", "only_first", "only_second")),
            points((row["only_first"] - row["only_second"]) / row["images"]),
            p_value(row["p_value"]),
        ]
        for row in found["significance"]
    ]
    columns = ["what", "A", "B", "images", "both right", "only A", "only B", "A − B, points", "p"]
    yield table(columns, rows, right=range(3, 9))
    yield "p: McNemar's exact test on the images that one of the two alone has right; not corrected for many rows."
    if any(is_no_bound(row["what"]) for row in found["significance"]):
        yield _quote(paragraphs(document["protocol_note"]))


def _model(document: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    if model["about"]:
        yield "\n".join(f"- {plain(key)}: {plain(value)}" for key, value in model["about"].items())
    if model["accuracy"]:
        rows = [
            [row["data"], noise_words(row["noise"]), row["samples"], row["rule"], interval(row), row["images"]]
            for row in model["accuracy"]
        ]
        yield "### Without an attack"
        yield table(["data", "noise", "m", "rule", "accuracy % [95%]", "images"], rows, right=(2, 4, 5))
    yield from _attacks(document, model)
    for one in model["certified"]:
        norm = norm_words(one["norm"])
        yield f"### Certified, {norm}"
        yield plain(f"{noise_words(one['noise'])}, {one['data']}, n = {one['images']}, {certainty(one)}.")
        rows = [[as_asked(row["radius"]), interval(row, "value"), row["total"]] for row in one["certified"]]
        yield table([f"{norm} radius", "certified % [95%]", "images"], rows, right=range(3))
        yield plain(one["covers"])
    for one in model["audit"]:
        settings = one["settings"]
        ball = ball_words(settings["norm"], settings["eps"])
        yield "### Audit"
        yield plain(f"{audited_images(one)}, {one['data']}, {ball}, m = {one['samples']}.")
        verdict = ("status", "code", "name", "says")
        yield table(
            ["verdict", "code", "name", "what was seen"], [[check[key] for key in verdict] for check in one["checks"]]
        )
    yield from map(_probe, model["probe"])
    lines = command_lines(model["runs"])
    yield "### How to reproduce it"
    if lines:
        yield _fenced("\n".join(lines), "sh")
    if model["recipe_text"]:
        yield _fenced(model["recipe_text"].rstrip(), "toml")


def _probe(one: Mapping[str, Any]) -> str:
    levels = list(one["rows"][0]["quantiles"])
    rows = [
        [
            encoder_words(row["encoder"]),
            points_words(row["points"]),
            f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *(f"{row['quantiles'][level]:.3f}" for level in levels),
            f"{row['largest']:.3f}",
        ]
        for row in one["rows"]
    ]
    about = (
        f"‖f(x) − f(x')‖₂ / ‖x − x'‖₂ of the encoder f, features of unit length, x' within "
        f"{ball_words(one['norm'], one['eps'])}, {one['data']}, n = {one['images']}."
    )
    columns = ["encoder", "x'", "mean [95%]", *(f"{100 * float(level):g} %" for level in levels), "largest"]
    shown = table(columns, rows, right=range(2, len(columns)))
    return "\n\n".join(["### How far features move", plain(about), shown])


def _attacks(document: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[str]:
    if not model["attacks"]:
        return
    pairs, rows = attack_pairs(model["attacks"]), []
    columns, changed = protocols_in(pairs), any(map(pair_words, pairs))
    for pair in pairs:
        last = standing(pair)
        figures = last["rules"]["majority"]
        rows.append(
            [
                *(last["attack"], ball_words(last["norm"], last["eps"]), noise_words(last["noise"])),
                *(last["samples"], images_words(last), percent(figures["clean_accuracy"])),
                *(interval(pair[name]["rules"]["majority"]) if name in pair else "" for name in columns),
                *(percent(figures["any_failure_accuracy"]), percent(figures["flip_rate"])),
                *([pair_words(pair)] if changed else []),
            ]
        )
    yield "### Under attack"
    head = ["attack", "ball", "noise", "m", "images", "clean %", *(f"{name} % [95%]" for name in columns)]
    head += ["right in every vote %", "flips %"]
    yield table([*head, *([SETTINGS] if changed else [])], rows, right=range(3, len(head)))
    yield _quote(paragraphs(document["protocol_note"]))
    if model["attack_notes"]:
        yield "\n".join(f"- {plain(line)}" for line in model["attack_notes"])
    moved = [
        [
            *(f"{row['attack']} {protocol_words(row)}", ball_words(row["norm"], row["eps"]), row["samples"]),
            *(row["transfer"]["images"], interval(row["rules"]["majority"])),
            f"{run_of_checkpoint(row['transfer']['model'])}, {noise_words(row['transfer']['noise'])}",
            percent(row["transfer"]["rules"]["majority"]["clean_accuracy"]),
            interval(row["transfer"]["rules"]["majority"]),
        ]
        for row in model["attacks"]
        if "transfer" in row
    ]
    if moved:
        yield "### Transfer: the same images asked of another model"
        columns = ["attack", "ball", "m", "images", "here % [95%]", "asked", "there, clean %", "there % [95%]"]
        yield table(columns, moved, right=(2, 3, 4, 6, 7))


def _share(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    settings = cell.get("settings")
    return f"{interval(cell)}, n = {images_words(cell)}{f'; {settings}' if settings else ''}"


def _quote(lines: Sequence[str]) -> str:
    return "\n>\n".join(f"> {plain(line)}" for line in lines)


def _fenced(text: str, language: str) -> str:
    """A code block, with a fence longer than any inside it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
