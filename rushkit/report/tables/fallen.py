"""Which image fell to which part of an attack, for attacks that fit a defence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rushkit.errors import first_few, shorten
from rushkit.recipe.radius import ball_words
from rushkit.report.figures import MeasuredAttack
from rushkit.report.protocols import protocol_words
from rushkit.report.table import Column, Table, build_table, column
from rushkit.results.attacks import AttackRow

# What images are said to have fallen to that were wrong before, to versions of a smaller ball, and to nothing.
CLEAN, SMALLER, NOTHING = "clean", "smaller ball", "nothing"
# The most images that are named.
_NAMED = 20


class _Part(NamedTuple):
    """A part of an attack, and the images that it was the first to break."""

    row: MeasuredAttack
    name: str
    images: list[int]


def fallen(row: AttackRow) -> dict[str, list[int]]:
    """Return what was the first to break images -> their indices in the split, in the order in which it ran.

    Of a cascade it is the climb, as its panel of selection saw it; of other attacks the candidate whose version was
    kept, where the majority of the final votes is wrong.
    """
    parts: dict[str, list[int]] = {CLEAN: []}
    names = [climb.words for climb in row.rounds] or [candidate.label for candidate in row.candidates]
    parts |= {name: [] for name in [*names, *row.own]}
    for index, name in zip(row.outcomes.indices, _breakers(row, [*names, *row.own]), strict=True):
        parts.setdefault(name, []).append(index)
    held = parts.pop(NOTHING, [])
    return {**{name: sorted(images) for name, images in parts.items() if images}, NOTHING: sorted(held)}


def _breakers(row: AttackRow, names: Sequence[str]) -> Iterator[str]:
    """Yield the name of what broke each image first."""
    outcomes = row.outcomes
    if numbers := outcomes.first_broken.get("majority"):
        others = {0: CLEAN, -1: NOTHING, -2: SMALLER}
        yield from (others.get(number) or names[number - 1] for number in numbers)
        return
    votes = zip(outcomes.right["majority"], outcomes.clean_right["majority"], outcomes.chosen, strict=True)
    for right, clean, chosen in votes:
        if 2 * right > row.votes:
            yield NOTHING
        else:
            yield CLEAN if 2 * clean <= row.votes or chosen < 0 else row.candidates[chosen].label


def fallen_table(rows: Sequence[MeasuredAttack]) -> Table | None:
    """Return which images fell to which part, for rows with a surrogate or own attacks; None if there are none."""
    adapted = [row for row in rows if row.record.surrogate is not None or row.record.own]
    parts = [_Part(row, name, images) for row in adapted for name, images in fallen(row.record).items()]
    if not parts:
        return None
    columns: list[Column[_Part]] = [
        column("attack", lambda part: part.row.record.attack, left=True),
        column("ball", lambda part: ball_words(part.row.record.norm, part.row.record.eps), left=True),
        column("m", lambda part: part.row.record.samples),
        column("protocol", lambda part: protocol_words(part.row.record), left=True),
        column("fell to", lambda part: shorten(part.name), left=True),
        column("images", lambda part: len(part.images)),
        column("which", lambda part: first_few(list(map(str, part.images)), _NAMED), left=True),
    ]
    return build_table(parts, columns, "which image fell to what first; results.json names all of them")
