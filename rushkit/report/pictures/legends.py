"""What a legend says: of several things, each by what sets it apart, and what all share once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rushkit.report.pictures.charts import Series


class Described(NamedTuple):
    """A series without a name, and what is known of it: aspect -> its value in words."""

    about: dict[str, str]
    series: Series


def named(described: Sequence[Described], dashes: str = "") -> tuple[list[Series], str]:
    """Return the series, each named by what sets it apart, and in words what all share.

    Args:
        described: The series.
        dashes: The aspect that tells dashed lines from solid ones. Of two lines of one colour that differ in nothing
            else, the legend lists the first, without it.
    """
    names, shared = tell_apart([one.about for one in described])
    series = [replace(one.series, name=name) for one, name in zip(described, names, strict=True)]
    alike: dict[tuple[int, str], list[int]] = {}
    for place, one in enumerate(described):
        rest = _joined(one.about, [aspect for aspect in one.about if aspect != dashes])
        alike.setdefault((one.series.colour, rest), []).append(place)
    pairs = [sorted(series[place].dashed for place in places) == [False, True] for places in alike.values()]
    if len(pairs) < 2 or not all(pairs):
        return series, shared
    without = [{aspect: words for aspect, words in one.about.items() if aspect != dashes} for one in described]
    firsts = [places[0] for places in alike.values()]
    listed = dict(zip(firsts, tell_apart([without[place] for place in firsts])[0], strict=True))
    return [replace(one, listed=listed.get(place, "")) for place, one in enumerate(series)], shared


def caption(shared: str, *sentences: str) -> str:
    """Return what all series share, as a sentence of its own, and the sentences."""
    return " ".join(filter(None, (f"{shared}." if shared else "", *sentences)))


def tell_apart(described: Sequence[Mapping[str, str]]) -> tuple[list[str], str]:
    """Return a name for each thing, of the aspects in which they differ, and the aspects that all share.

    Example::

        tell_apart([{"model": "a", "attack": "pgd"}, {"model": "b", "attack": "pgd"}])  # (["a", "b"], "pgd")

    Args:
        described: For each thing aspect -> its value in words. An aspect that is missing or empty is no word of a name.

    Returns:
        Names, no two of them alike; the name of a single thing is empty. What is shared, in the order of aspects.
    """
    aspects = list(dict.fromkeys(aspect for one in described for aspect in one))
    shared = [aspect for aspect in aspects if len({one.get(aspect, "") for one in described}) == 1]
    differing = [aspect for aspect in aspects if aspect not in shared]
    names = [_joined(one, differing) for one in described]
    if len(described) > 1:
        # What has nothing of its own, or nothing that another has not, is called by all that is known of it.
        names = [name or _joined(one, aspects) for name, one in zip(names, described, strict=True)]
    return _numbered(names), _joined(described[0], shared) if described else ""


def _joined(one: Mapping[str, str], aspects: Sequence[str]) -> str:
    return ", ".join(filter(None, (one.get(aspect, "") for aspect in aspects)))


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names with numbers at those that would be alike."""
    taken: set[str] = set()
    numbered = []
    for name in names:
        unique, number = name, 1
        while unique in taken or (not unique and len(names) > 1):
            number += 1
            unique = f"{name} ({number})".strip()
        taken.add(unique)
        numbered.append(unique)
    return numbered
