"""Which image fell to which part of an attack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rushkit.results.attacks import AttackRow

# What images are said to have fallen to that were wrong before, to versions of a smaller ball, and to nothing.
CLEAN, SMALLER, NOTHING = "clean", "smaller ball", "nothing"


def fallen(row: AttackRow) -> dict[str, list[int]]:
    """Return what was the first to break images -> their indices in the split, in the order in which it ran.

    Of a cascade it is the climb, as its panel of selection saw it; of other attacks the candidate whose version was
    kept, where the majority of the final votes is wrong.
    """
    parts: dict[str, list[int]] = {CLEAN: []}
    names = [climb.words for climb in row.rounds] or [candidate.label for candidate in row.candidates]
    names += [own.code for own in row.own] if row.rounds else []
    parts |= {name: [] for name in names}
    for index, name in zip(row.outcomes.indices, _breakers(row, names), strict=True):
        parts.setdefault(name, []).append(index)
    held = parts.pop(NOTHING, [])
    return {**{name: sorted(images) for name, images in parts.items() if images}, NOTHING: sorted(held)}


def fell_to(row: AttackRow) -> dict[str, list[int]]:
    """Return ``fallen`` of an attack that fits a defence, by a stand-in or attacks of one's own; else nothing."""
    return fallen(row) if row.surrogate is not None or row.own else {}


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
