"""The ladder of a model as a record: clean, paper, strict and certified accuracy, one below the other on one axis.

Both the page and files draw it from this record; whatever it holds in words is not escaped yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rushkit.report.headlines import Gap, Headline, Rung
from rushkit.report.quoted import gap_words, share_words
from rushkit.rounding import percent_interval


@dataclass(frozen=True)
class LadderRung:
    """One rung: a share with its interval, or the words that say why there is none.

    Attributes:
        name: ``"clean"``, ``"paper"``, ``"strict"`` or ``"certified"``.
        under: What stands small under the name: the ball, such as ``"l-inf 8/255"``, or m; empty for nothing.
        share: In [0, 1]; None if it was not measured, and so are ``low`` and ``high``.
        low: Lower end of its 95% interval.
        high: Upper end of the interval.
        words: The share as it is printed, rounded as its kind of bound asks: ``"≤ 82.4 %"``; or why there is none.
        small: The interval and the number of images: ``"[70.0, 90.2], n = 64"``; empty without a share.
    """

    name: str
    under: str
    share: float | None
    low: float | None
    high: float | None
    words: str
    small: str


@dataclass(frozen=True)
class LadderGap:
    """The distance from ``strict`` up to ``paper``.

    Attributes:
        strict: Share of the strict rung, in [0, 1].
        paper: Share of the rung of paper.
        words: ``"+11.6 points"``.
        small: Its 95% interval, in points: ``"[+2.9, +19.5]"``.
    """

    strict: float
    paper: float
    words: str
    small: str


@dataclass(frozen=True)
class Ladder:
    """The ladder of one model.

    Attributes:
        name: The model's name.
        rungs: Four, from the top.
        gap: Between paper and strict; None unless both are there.
        label: What it shows, in a sentence for those who do not see it.
    """

    name: str
    rungs: tuple[LadderRung, ...]
    gap: LadderGap | None
    label: str


def ladder_of(name: str, headline: Headline) -> Ladder:
    """Return the ladder of a model.

    Args:
        name: The model's name in the report.
        headline: Its figures.
    """
    gap = None
    if headline.gap and headline.paper and headline.strict:
        words, _, small = gap_words(headline.gap).partition(" [")
        gap = LadderGap(headline.strict.accuracy, headline.paper.accuracy, words, f"[{small}")
    rungs = tuple(_rung(key, rung, headline.missing.get(key, "not measured")) for key, rung in headline.rungs)
    return Ladder(name, rungs, gap, f"{name}: {'; '.join(_said(rungs, headline.gap))}.")


def _rung(name: str, rung: Rung | None, missing: str) -> LadderRung:
    if rung is None:
        return LadderRung(name, "", None, None, None, missing.partition(":")[0], "")
    small = f"[{percent_interval(rung.low, rung.high)}], n = {rung.images}"
    under = rung.ball or f"m = {rung.samples}"
    return LadderRung(name, under, rung.accuracy, rung.low, rung.high, share_words(name, rung), small)


def _said(rungs: tuple[LadderRung, ...], gap: Gap | None) -> Iterator[str]:
    for rung in rungs:
        under = f" ({rung.under})" if rung.under else ""
        note = ", which is not the robustness" if rung.name == "paper" and rung.share is not None else ""
        yield f"{rung.name}{under} {rung.words} {rung.small}".rstrip() + note
    if gap is not None:
        yield f"from strict to paper {gap_words(gap)}"
