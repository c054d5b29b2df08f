"""Rows of attacks by protocol: how one is named, which belong together, and which may be quoted as robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushkit.robustness.deviations import deviation_words

Row = Mapping[str, Any]

# In the order of columns; ``weaker`` is strict with settings that fall short of it.
PROTOCOLS = ("paper", "strict", "weaker")
# What figures stand for a pair of rows, where several are there.
_STANDING = ("strict", "paper", "weaker")


def settings_words(row: Row) -> str:
    """What is not the protocol's own: ``"steps 1 (strict: 40)"``; empty where all is."""
    return deviation_words(row["protocol"], row["deviations"])


def protocol_words(row: Row) -> str:
    """``"strict"``, or with what is not the protocol's own: ``"weaker: steps 1 (strict: 40)"``."""
    return ": ".join(filter(None, (row["protocol"], settings_words(row))))


def pair_words(pair: Mapping[str, Row]) -> str:
    """``protocol_words`` of those rows of a pair whose settings are not the protocol's own."""
    return "; ".join(protocol_words(row) for row in pair.values() if row["deviations"])


def protocols_in(pairs: Sequence[Mapping[str, Row]]) -> list[str]:
    """The protocols that any of the pairs has, in the order of columns."""
    return [name for name in PROTOCOLS if any(name in pair for pair in pairs)]


def is_no_bound(what: Row) -> bool:
    """Whether a measurement is of an attack whose protocol needs its note: paper, or weaker than strict."""
    return what.get("protocol", "strict") != "strict"


def attack_pairs(rows: Sequence[Row]) -> list[dict[str, Row]]:
    """Protocol -> row, for each data set, split, noise, attack, ball and m, in the rows' order.

    Two attacks may share all of these and differ in their options: then they are two pairs.
    """
    pairs: dict[tuple[Any, ...], list[dict[str, Row]]] = {}
    for row in rows:
        where = (row.get("data"), row.get("split"), str(row.get("noise")))
        alike = pairs.setdefault((*where, *(row[key] for key in ("attack", "norm", "eps", "samples"))), [])
        open_pair = next((pair for pair in alike if row["protocol"] not in pair), None)
        if open_pair is None:
            alike.append(open_pair := {})
        open_pair[row["protocol"]] = row
    return [pair for alike in pairs.values() for pair in alike]


def standing(pair: Mapping[str, Row]) -> Row:
    """The row whose figures stand beside the columns of the protocols: that of strict, where it was run."""
    return next(pair[name] for name in _STANDING if name in pair)


def upper_bounds(rows: Sequence[Row]) -> list[Row]:
    """The rows that may be quoted as upper bounds of the robustness.

    These are the strict ones, and a weaker one where it leaves less than every strict one of the same ball, m and
    images: what it broke is broken.
    """
    strict = [row for row in rows if row["protocol"] == "strict"]

    def lower(row: Row) -> bool:
        rivals = [rival for rival in strict if _place(rival) == _place(row)]
        return bool(rivals) and all(_left(row) < _left(rival) for rival in rivals)

    return [*strict, *(row for row in rows if row["protocol"] == "weaker" and lower(row))]


def _left(row: Row) -> float:
    return float(row["rules"]["majority"]["accuracy"])


def _place(row: Row) -> tuple[Any, ...]:
    keys = ("data", "split", "norm", "eps", "samples", "images")
    return (*(row.get(key) for key in keys), str(row.get("noise")))
