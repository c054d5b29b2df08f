"""What attacked images are taken for as tables: label against class, and the pairs that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rushkit.report.table import Cell, Column, Heading, Table, build_table, column
from rushkit.report.tables.accuracy import MOST_CLASSES, MOST_CONFUSED
from rushkit.report.taken import NO_CLASS, TakenCount, TakenUnderAttack

Version = Literal["clean", "attacked"]


def matrices(taken: TakenUnderAttack, name: str) -> tuple[Table, ...]:
    """Return label against class, of the images as they are and under attack; the confused pairs of many classes.

    Args:
        taken: What the images are taken for; of a record that did not keep it there is no table.
        name: The model's name.
    """
    about = f"{name}: {taken.data}, m = {taken.samples}"
    if not taken.counts:
        return ()
    if len(taken.classes) > MOST_CLASSES:
        table = confused_table(taken, f"{about}, {taken.attack}: the most frequent confusions")
        return () if table is None else (table,)
    clean, attacked = f"{about}, without an attack", f"{about}, under {taken.attack}"
    return _matrix(taken, "clean", clean), _matrix(taken, "attacked", attacked)


def confused_table(taken: TakenUnderAttack, caption: str = "") -> Table | None:
    """Return the pairs of classes of which most images are confused under attack; None if there are none."""
    confused = [count for count in taken.counts if count.kind != "own" and count.attacked]
    confused = sorted(confused, key=lambda count: -count.attacked)[:MOST_CONFUSED]
    if not confused:
        return None
    columns: list[Column[TakenCount]] = [
        column("class", lambda count: count.label, left=True),
        column("taken for", lambda count: count.taken_words, left=True),
        column("under attack", lambda count: count.attacked),
        column("as they are", lambda count: count.clean),
    ]
    return build_table(confused, columns, caption, kind="sticky")


def _matrix(taken: TakenUnderAttack, version: Version, caption: str) -> Table:
    """Return how many images of each class (rows) are taken for each class (columns) in one version."""
    numbers = {(count.label, count.taken_for): getattr(count, version) for count in taken.counts}
    others: list[str | None] = [*taken.classes]
    # Both versions have the same columns, so that one can be read beside the other.
    others += [None] if any(taken.sums("none")) else []
    headings = [Heading("is \\ taken for", left=True, kind="text", head_kind="text")]
    headings += [Heading(NO_CLASS if other is None else other) for other in others]
    rows = tuple(_row(label, others, numbers) for label in taken.classes)
    return Table(tuple(headings), rows, caption, kind="matrix sticky")


def _row(label: str, others: Sequence[str | None], numbers: dict[tuple[str, str | None], int]) -> tuple[Cell, ...]:
    counts = [numbers.get((label, other), 0) for other in others]
    total = max(sum(counts), 1)
    cells = (
        Cell(str(count or ""), kind="hit" if other == label else "miss", shade=count / total)
        for other, count in zip(others, counts, strict=True)
    )
    return Cell(label, strong=True), *cells
