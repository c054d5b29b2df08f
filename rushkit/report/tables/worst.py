"""The worst of everything as a table: what each strict attack broke, and what all of them leave together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.recipe.radius import ball_words
from rushkit.report.table import Cell, Column, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.report.worst import Worst, WorstPart
from rushkit.results.words import noise_words
from rushkit.rounding import percent

WORST_CAPTION = (
    "the worst of everything: images that each strict attack broke, by most of their votes, and what all of them leave "
    "together"
)


class _Line(NamedTuple):
    """One of the attacks, or all of them (no part)."""

    model: str
    worst: Worst
    part: WorstPart | None


def worst_table(models: Sequence[tuple[str, Sequence[Worst]]]) -> Table | None:
    """Return what strict attacks leave together, under what each of them broke; None where no two were run alike.

    Args:
        models: Each model's name and what its attacks leave. With several there is a column for their names.
    """
    lines = [_Line(name, worst, part) for name, found in models for worst in found for part in (*worst.parts, None)]
    if not lines:
        return None
    with_noise = len({noise_words(line.worst.noise) for line in lines}) > 1
    columns: list[Column[_Line]] = [column("model", lambda line: line.model, left=True)] * (len(models) > 1)
    columns += [
        column("ball", lambda line: ball_words(line.worst.norm, line.worst.eps), left=True),
        *[column("noise", lambda line: noise_words(line.worst.noise), left=True)] * with_noise,
        column("m", lambda line: line.worst.samples, label="m"),
        column("images", lambda line: line.worst.images, label="images"),
        column("attack", _attack, left=True, kind="wide", label="attack"),
        column("run", lambda line: "" if line.part is None else line.part.run, left=True, label="run"),
        column("broke", lambda line: len(line.worst.broken) if line.part is None else line.part.broke, label="broke"),
        column("no other did", lambda line: "" if line.part is None else line.part.only, label="no other did"),
        column("left", _left, line="left % [95%]", label="left"),
    ]
    return build_table(lines, columns, WORST_CAPTION)


def _attack(line: _Line) -> str:
    return f"all {len(line.worst.parts)} together" if line.part is None else line.part.words


def _left(line: _Line) -> Cell:
    if line.part is None:
        return share_cell(line.worst)
    return Cell(percent(1 - line.part.broke / line.worst.images))
