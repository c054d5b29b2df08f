"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.recipe.radius import ball_words
from rushkit.report.protocols import attack_pairs, pair_words, protocol_words, protocols_in
from rushkit.robustness.failures import failed_words
from rushkit.rounding import percent, percent_interval

# The column of what an attack was told, where that is not the protocol's own.
SETTINGS = "not the protocol's own"
# The one sentence that no figure under the paper's protocol may be shown without.
PROTOCOL_NOTE = (
    "paper: the RUSH paper's protocol, fixed noise while attacking; it reproduces, it is not the model's robustness.\n"
    "strict: fresh noise at every step, several losses, best image of each, independent votes; even this is an upper\n"
    "bound: a stronger attack may leave less. Intervals are 95% Wilson over the images.\n"
    "weaker: strict but for settings or an attack that fall short of it, which are named; it is not the robustness."
)


def interval(row: Mapping[str, Any], key: str = "accuracy") -> str:
    """A row's accuracy, or another share of it, with its interval, in percent."""
    return f"{percent(row[key])} [{percent_interval(row['low'], row['high'])}]"


def evaluation_table(results: Mapping[str, Any]) -> RenderableType:
    """Standard accuracy under each m and rule."""
    rows = results["accuracy"]
    table = Table(title=f"standard accuracy, {results['data']}, noise {noise_words(results['noise'])}")
    for column in ("m", "rule", "accuracy % [95% interval]", "right", "images"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for row in rows:
        table.add_row(str(row["samples"]), row["rule"], interval(row), str(row["correct"]), str(row["images"]))
    return table


def attack_table(results: Mapping[str, Any]) -> RenderableType:
    """Robust accuracy of each attack and m, the protocols side by side."""
    rows = results["attacks"]
    pairs = attack_pairs(rows)
    protocols, changed = protocols_in(pairs), any(row["deviations"] for row in rows)
    table = Table(
        title=f"robust accuracy, {results['data']}, noise {noise_words(results['noise'])}, majority vote of m"
    )
    columns = ("attack", "ball", "m", "images", "clean %", *(f"{name} % [95%]" for name in protocols))
    for column in (*columns, *([SETTINGS] if changed else [])):
        table.add_column(column, justify="left" if column in ("attack", "ball", SETTINGS) else "right")
    notes: list[str] = []
    for found in pairs:
        last = list(found.values())[-1]
        figures = [interval(found[name]["rules"]["majority"]) if name in found else "" for name in protocols]
        clean = percent(last["rules"]["majority"]["clean_accuracy"])
        ball = ball_words(last["norm"], last["eps"])
        split = str(last.get("split", "test")).rpartition("/")[2]
        images = f"{last['images']}{'' if split == 'test' else f' of {split}'}"
        settings = [pair_words(found)] if changed else []
        table.add_row(last["attack"], ball, str(last["samples"]), images, clean, *figures, *settings)
        notes += above_paper(found)
    notes += list(dict.fromkeys(note for row in rows for note in row["notes"]))
    said = [Text(f"note: {note}") for note in notes]
    said += [Text(f"failed: {failed_words(row)}") for row in results["failed"]]
    return Group(table, contribution_table(rows), *_transfer_table(rows), *said, Text(PROTOCOL_NOTE))


def above_paper(pair: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why strict leaves more than paper, where it does, on as many images: a sentence, or none.

    Args:
        pair: Protocol -> row of an attack, of one ball and m.
    """
    if not {"paper", "strict"} <= pair.keys() or pair["paper"]["images"] != pair["strict"]["images"]:
        return []
    row, (strict, paper) = pair["strict"], (pair[name]["rules"]["majority"] for name in ("strict", "paper"))
    if strict["accuracy"] <= paper["accuracy"]:
        return []
    said = (
        f"{row['attack']}, {ball_words(row['norm'], row['eps'])}, m = {row['samples']}: strict leaves "
        f"{percent(strict['accuracy'])} %, paper {percent(paper['accuracy'])} %; "
    )
    if strict["low"] > paper["high"]:
        return [
            f"{said}more than chance explains, so the search of strict was too weak: give it more steps or restarts"
        ]
    votes = "one vote" if pair["paper"]["votes"] == 1 else f"{pair['paper']['votes']} votes"
    return [
        f"{said}paper asks for {votes} an image, strict for the mean of {row['votes']}, on images chosen with other "
        f"draws: on {row['images']} images such a difference can be chance"
    ]


def contribution_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """How many images each attack was the first to break."""
    table = Table(title="images that each attack was the first to break", title_justify="left")
    for column in ("attack", "ball", "m", "protocol", "broken first by"):
        table.add_column(column, justify="right" if column == "m" else "left")
    for row in rows:
        counts = row["contributions"]
        words = ", ".join(f"{name} {count}" for name, count in counts.items())
        left = row["images"] - sum(counts.values())
        ball = ball_words(row["norm"], row["eps"])
        table.add_row(row["attack"], ball, str(row["samples"]), protocol_words(row), f"{words}, none {left}")
    return table


def _transfer_table(rows: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    moved = [row for row in rows if "transfer" in row]
    if not moved:
        return []
    table = Table(title="the same images, asked of another model under its own noise", title_justify="left")
    for column in ("attack", "ball", "m", "protocol", "there: clean %", "there: attacked % [95%]"):
        table.add_column(column, justify="left" if column in ("attack", "ball", "protocol") else "right")
    for row in moved:
        there = row["transfer"]["rules"]["majority"]
        ball = ball_words(row["norm"], row["eps"])
        clean = percent(there["clean_accuracy"])
        table.add_row(row["attack"], ball, str(row["samples"]), protocol_words(row), clean, interval(there))
    return [table, Text(f"the other model: {moved[0]['transfer']['model']}")]


def plain_noise(noise: Mapping[str, Any]) -> dict[str, Any]:
    """A noise without the options that nobody gave."""
    return {key: value for key, value in noise.items() if value is not None}


def noise_words(noise: Mapping[str, Any]) -> str:
    """``{"name": "uniform", "scale": 0.3}`` -> "uniform scale 0.3"."""
    return " ".join([str(noise["name"]), *(f"{key} {value}" for key, value in noise.items() if key != "name")])
