"""Results of the audit's self-test: what it says of planted defences and attacks whose faults are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from rushkit.recipe.schema import Norm
from rushkit.results.base import Count, Number, Record, Share, Size, StageResults
from rushkit.results.certification import Rate

Kind = Literal["broken", "weak", "sound"]
# The groups that are counted apart, in the order of every table.
GROUPS: tuple[tuple[Kind, bool], ...] = (
    ("broken", False),
    ("weak", False),
    ("sound", False),
    ("broken", True),
    ("weak", True),
    ("sound", True),
)
# A model that is right on no larger share of the clean images does not count as sound.
SOUND_ABOVE = 0.8


@dataclass(frozen=True)
class Flagged:
    """Whether the audit flags a case.

    Attributes:
        kind, held_out: The group of the case.
        counts: Whether the case is part of the totals.
        caught: Whether a check fails that names the fault.
        failed: Whether any check fails.
        warned: Whether any check warns.
    """

    kind: Kind
    held_out: bool
    counts: bool
    caught: bool
    failed: bool
    warned: bool


class SelfTestBudgets(Record):
    """What each audit of the self-test may spend: the defaults of ``rushkit audit``.

    Attributes:
        images: Number of test images.
        steps, eot, queries, planted: As in ``AuditSettings``.
    """

    images: Number
    steps: Number
    eot: Number
    queries: Number
    planted: Number


class SelfTestRow(Record):
    """What the audit says of one case.

    Attributes:
        name: The case.
        kind: Whether the defence is broken, the attack weak, or both sound.
        held_out: Whether the case was devised after the thresholds of the checks were fixed.
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        causes: Codes of the checks that name its fault; empty if it is sound.
        clean: Accuracy on all test images before any attack; None where the case could not be built: a training failed.
        claimed: Accuracy that the naive attack leaves; None where nothing is claimed.
        adaptive: Accuracy that the attack through the stand-in leaves; None where there is none.
        left: Share of all audited images that the audit's strongest attack leaves; None if nothing could be attacked.
        failed: Codes of the checks that fail.
        warned: Codes of those that warn.
        skipped: Codes of those that were skipped.
        caught: Whether a check fails that names the fault.
        counts: Whether the case is part of the totals: it must be built, and a sound model must be right on more than
            80 % of clean images.
        problem: Why the case could not be built, or why the audit could measure no more, or "".
        passes: Passes of single images that the audit made, forward and backward.
        seconds: Seconds of work on the case, training included.
    """

    name: str
    kind: Kind
    held_out: bool
    norm: Norm
    eps: Size
    causes: list[str]
    clean: Share | None
    claimed: Share | None
    adaptive: Share | None
    left: Share | None
    failed: list[str]
    warned: list[str]
    skipped: list[str]
    caught: bool
    counts: bool
    problem: str = ""
    passes: Count
    seconds: Size

    @property
    def flagged(self) -> Flagged:
        """Whether the audit flags it."""
        return Flagged(self.kind, self.held_out, self.counts, self.caught, bool(self.failed), bool(self.warned))

    @model_validator(mode="after")
    def _follows(self) -> Self:
        if self.caught != is_caught(self.causes, self.failed):
            raise ValueError("caught does not follow from the checks that fail")
        if self.counts != does_count(self.kind, self.clean):
            raise ValueError("counts does not follow from the clean accuracy")
        return self


class SelfTestTotals(Record):
    """How many cases of a group the audit flags.

    Attributes:
        kind, held_out: The group.
        caught: The share for which a check fails that names the fault; None for sound models, which have none.
        failed: The share for which any check fails; of sound models these are the false alarms.
        warned: The share for which any check warns.
    """

    kind: Kind
    held_out: bool
    caught: Rate | None = None
    failed: Rate
    warned: Rate


class SelfTest(StageResults):
    """Results of ``rushkit audit --self-test``; docs/audit.md explains them.

    Attributes:
        seed: Seed of all networks and draws.
        budgets: What each audit may spend.
        checks: Codes of the checks.
        cases: What the audit says of each case.
        totals: How many of each group it flags; a group without cases that count is left out.
    """

    stage: Literal["self-test"] = "self-test"
    seed: int
    budgets: SelfTestBudgets
    checks: list[str]
    cases: list[SelfTestRow] = Field(min_length=1)
    totals: list[SelfTestTotals]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        names = [row.name for row in self.cases]
        if len(set(names)) < len(names):
            raise ValueError("a case is listed twice")
        for row in self.cases:
            if unknown := {*row.failed, *row.warned, *row.skipped} - set(self.checks):
                raise ValueError(f"{row.name} has a check that is not among the checks: {min(unknown)}")
        check_totals(self.totals, [row.flagged for row in self.cases])
        return self


# The counts of a group.
COUNTS = ("caught", "failed", "warned")


def is_caught(causes: Sequence[str], failed: Sequence[str]) -> bool:
    """Return whether a check fails that names the fault."""
    return not set(causes).isdisjoint(failed)


def does_count(kind: Kind, clean: float | None) -> bool:
    """Return whether a case is part of the totals, given its accuracy on clean images; None where it was not built."""
    return clean is not None and (kind != "sound" or clean > SOUND_ABOVE)


def counted(cases: Iterable[Flagged], kind: Kind, held_out: bool) -> dict[str, tuple[int, int]]:
    """Return for each of ``COUNTS`` how many cases of a group it is about, and of how many; empty without cases."""
    group = [case for case in cases if (case.kind, case.held_out, case.counts) == (kind, held_out, True)]
    names = COUNTS[1:] if kind == "sound" else COUNTS
    return {name: (sum(getattr(case, name) for case in group), len(group)) for name in names} if group else {}


def check_totals(totals: Sequence[SelfTestTotals], cases: Sequence[Flagged]) -> None:
    """Raise ValueError unless the totals are those of the cases, group by group."""
    expected = {group: counts for group in GROUPS if (counts := counted(cases, *group))}
    told = {
        (total.kind, total.held_out): {
            name: (rate.count, rate.total) for name in COUNTS if (rate := getattr(total, name)) is not None
        }
        for total in totals
    }
    if list(told.items()) != list(expected.items()) or len(totals) != len(told):
        raise ValueError("the totals are not those of the cases")
