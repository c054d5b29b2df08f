"""Rows of attacks by protocol: how one is named, which belong together, and which may be quoted as robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from rushkit.recipe.radius import ball_words
from rushkit.report.figures import MeasuredAttack
from rushkit.results.attacks import AttackRow, Attacks, Deviation, Variant, variant_words
from rushkit.results.auditing import Audit
from rushkit.results.words import low_words, plain_noise
from rushkit.robustness.deviations import deviation_words
from rushkit.rounding import counted, percent

# Protocol -> the row of an attack under it.
Pair = Mapping[str, MeasuredAttack]

# In the order of columns; ``weaker`` is strict with settings that fall short of it.
PROTOCOLS = ("paper", "published", "strict", "weaker")
# The figures that stand for a pair of rows, where several are there.
_STANDING = ("strict", "paper", "published", "weaker")
# They have no versions or efforts of strict, so that their rows join any of them.
_APART = ("paper", "published")


class Labelled(Variant, Protocol):
    """A row of results that says under which protocol its attack ran, and with what other settings."""

    @property
    def deviations(self) -> Sequence[Deviation]:
        """The settings that are not the protocol's own."""
        ...


def attacks_of(run: str, results: Attacks) -> list[MeasuredAttack]:
    """Return the rows of one run's attacks."""
    noise = plain_noise(results.noise)
    return [MeasuredAttack(run, results.data, noise, row) for row in results.attacks]


def targeted_of(run: str, results: Attacks) -> list[MeasuredAttack]:
    """Return the rows of one run's attacks towards a class."""
    noise = plain_noise(results.noise)
    return [MeasuredAttack(run, results.data, noise, row) for row in results.targeted]


def settings_words(row: Labelled) -> str:
    """Return the settings that are not the protocol's own: ``"steps 1 (strict: 40)"``; empty if all are.

    Those of a published attack are all that its recipe writes: ``"steps 20, best last"``.
    """
    return deviation_words(row.protocol, row.deviations)


def protocol_words(row: Labelled) -> str:
    """Return ``"strict effort 2"``, or with the settings that are not its own: ``"weaker: steps 1 (strict: 40)"``."""
    return ": ".join(filter(None, (variant_words(row), settings_words(row))))


def unusual_words(row: Labelled) -> str:
    """Return what differs from the protocol: ``"version 1; steps 1 (strict: 40)"``; empty if nothing does."""
    return "; ".join(filter(None, (variant_words(row).partition(" ")[2], settings_words(row))))


def search_words(row: AttackRow | Audit) -> str:
    """Return ``"gradients in bf16"`` of a row whose passes that search were not float32; empty if they were."""
    return low_words(row.search_precision, "gradients in")


def pair_words(pair: Pair) -> str:
    """Return ``protocol_words`` of those rows of a pair that are not as the protocol has it."""
    return "; ".join(protocol_words(row.record) for row in pair.values() if unusual_words(row.record))


def protocols_in(pairs: Sequence[Pair]) -> list[str]:
    """Return the protocols that any of the pairs has, in the order of columns."""
    return [name for name in PROTOCOLS if any(name in pair for pair in pairs)]


def attack_pairs(rows: Sequence[MeasuredAttack]) -> list[dict[str, MeasuredAttack]]:
    """Return protocol -> row, for each data set, split, noise, attack, ball and m, in the rows' order.

    Two attacks may share all of these and differ in their options: then they are two pairs. Rows of different versions
    or efforts of strict never share a pair; the rows of paper and of a published attack stand in the first.
    """
    pairs: dict[object, list[dict[str, MeasuredAttack]]] = {}
    for row in rows:
        alike = pairs.setdefault((row.record.attack, *_place(row)), [])
        open_pair = next((pair for pair in alike if _joins(row, pair)), None)
        if open_pair is None:
            alike.append(open_pair := {})
        open_pair[row.record.protocol] = row
    return [pair for alike in pairs.values() for pair in alike]


def standing(pair: Pair) -> MeasuredAttack:
    """Return the row whose figures stand beside the columns of the protocols: that of strict, where it was run."""
    return next(pair[name] for name in _STANDING if name in pair)


def upper_bounds(rows: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """Return the rows that may be quoted as upper bounds of the robustness.

    These are the strict ones of the newest version, and another one, weaker or of an earlier version, where it leaves
    less than every such row of the same ball, m and images by as many votes: what it broke is broken.
    """
    newest = max((row.record.version for row in rows if row.record.protocol == "strict"), default=0)
    strict = [row for row in rows if (row.record.protocol, row.record.version) == ("strict", newest)]

    def lower(row: MeasuredAttack) -> bool:
        rivals = [rival for rival in strict if _images(rival) == _images(row)]
        return bool(rivals) and all(
            row.majority.accuracy < rival.majority.accuracy and row.record.votes >= rival.record.votes
            for rival in rivals
        )

    return [*strict, *(row for row in rows if row not in strict and row.record.protocol != "paper" and lower(row))]


def above_paper(pair: Pair) -> list[str]:
    """Return why strict leaves more than paper, where it does, on as many images: a sentence, or none."""
    if not {"paper", "strict"} <= pair.keys():
        return []
    strict, paper = pair["strict"], pair["paper"]
    row = strict.record
    if paper.record.images != row.images or strict.majority.accuracy <= paper.majority.accuracy:
        return []
    said = (
        f"{row.attack}, {ball_words(row.norm, row.eps)}, m = {row.samples}: strict leaves "
        f"{percent(strict.majority.accuracy)} %, paper {percent(paper.majority.accuracy)} %; "
    )
    if strict.majority.low > paper.majority.high:
        return [f"{said}more than chance explains, so the search of strict was too weak: {_more(row)}"]
    votes = "one vote" if paper.record.votes == 1 else f"{paper.record.votes} votes"
    return [
        f"{said}paper asks for {votes} an image, strict for the mean of {row.votes}, on images chosen with other "
        f"draws: on {counted(row.images, 'image')} such a difference can be chance"
    ]


def _more(row: AttackRow) -> str:
    return "give it more effort" if row.rounds else "give it more steps or restarts"


def _joins(row: MeasuredAttack, pair: Pair) -> bool:
    """Return whether a row may stand beside those of a pair."""
    strict = [(other.record.version, other.record.effort) for name, other in pair.items() if name not in _APART]
    same = row.record.protocol in _APART or all(one == (row.record.version, row.record.effort) for one in strict)
    return row.record.protocol not in pair and same


def _place(row: MeasuredAttack) -> tuple[object, ...]:
    about = row.record
    return (row.data, about.split, str(row.noise), about.norm, about.eps, about.samples)


def _images(row: MeasuredAttack) -> tuple[object, ...]:
    return (*_place(row), row.record.images)
