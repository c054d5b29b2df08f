"""How often the audit finds a fault, as the self-test measured it on several seeds: the file that rushkit ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rushkit.paths import read_file
from rushkit.recipe.schema import Norm
from rushkit.results.auditing import Audit
from rushkit.results.base import Record, Share, Size
from rushkit.results.records import load_json
from rushkit.results.selftest import (
    Flagged,
    Kind,
    SelfTestBudgets,
    SelfTestTotals,
    check_totals,
    does_count,
    is_caught,
)

HIT_RATE_FILE = Path(__file__).parents[1] / "auditing" / "hit_rate.json"


class SeedOutcome(Record):
    """What the audit says of a case on one seed; the fields are those of ``SelfTestRow``.

    Attributes:
        clean, claimed, failed, warned, skipped, caught, counts: As there.
        left: The least of what the adaptive attack leaves and what the audit's strongest leaves.
    """

    clean: Share | None
    claimed: Share | None
    left: Share | None
    failed: list[str]
    warned: list[str]
    skipped: list[str]
    caught: bool
    counts: bool


class HitRow(Record):
    """What the audit says of a case on every seed.

    Attributes:
        name, kind, held_out, norm, eps, causes: As in ``SelfTestRow``.
        seeds: The outcome on each seed.
    """

    name: str
    kind: Kind
    held_out: bool
    norm: Norm
    eps: Size
    causes: list[str]
    seeds: list[SeedOutcome]

    @model_validator(mode="after")
    def _follows(self) -> Self:
        for outcome in self.seeds:
            if outcome.caught != is_caught(self.causes, outcome.failed):
                raise ValueError(f"{self.name}: caught does not follow from the checks that fail")
            if outcome.counts != does_count(self.kind, outcome.clean):
                raise ValueError(f"{self.name}: counts does not follow from the clean accuracy")
        return self

    @property
    def flagged(self) -> Flagged:
        """Whether the audit flags it: a fault on every seed, a sound model on any seed on which it counts."""
        counting = [outcome for outcome in self.seeds if outcome.counts]
        some_or_all = any if self.kind == "sound" else all
        return Flagged(
            kind=self.kind,
            held_out=self.held_out,
            counts=bool(counting),
            caught=all(outcome.caught for outcome in counting),
            failed=some_or_all(bool(outcome.failed) for outcome in counting),
            warned=some_or_all(bool(outcome.warned) for outcome in counting),
        )


class HitRate(Record):
    """The merged figures of self-tests with different seeds.

    Attributes:
        rushkit: The version that they were made with.
        seeds: The seed of each self-test.
        budgets: What each audit could spend.
        checks: Codes of the checks.
        cases: What the audit says of each case.
        totals: How many of each group it flags. A fault is caught if it is caught on every seed, and a sound model
            raises a false alarm if it does on any.
    """

    rushkit: str
    seeds: list[int] = Field(min_length=1)
    budgets: SelfTestBudgets
    checks: list[str]
    cases: list[HitRow] = Field(min_length=1)
    totals: list[SelfTestTotals]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if any(len(row.seeds) != len(self.seeds) for row in self.cases):
            raise ValueError("a case has not one outcome for each seed")
        for row in self.cases:
            told = {code for outcome in row.seeds for code in (*outcome.failed, *outcome.warned, *outcome.skipped)}
            if unknown := told - set(self.checks):
                raise ValueError(f"{row.name} has a check that is not among the checks: {min(unknown)}")
        check_totals(self.totals, [row.flagged for row in self.cases])
        return self

    def is_same(self, audit: Audit) -> bool:
        """Return whether an audit made the same checks and spent at least as much."""
        spent, least = audit.settings, self.budgets
        enough = all(getattr(spent, name) >= getattr(least, name) for name in ("steps", "eot", "queries", "planted"))
        return [check.code for check in audit.checks] == self.checks and enough and audit.images >= least.images

    def skips_alike(self, audit: Audit) -> bool:
        """Return whether an audit skipped nothing but what is skipped for some sound model too."""
        skipped = {check.code for check in audit.checks if check.status == "skipped"}
        sound = [outcome for row in self.cases if row.kind == "sound" for outcome in row.seeds]
        return any(skipped <= set(outcome.skipped) for outcome in sound)

    def faults(self, held_out: bool) -> tuple[int, int]:
        """Return how many broken defences and weak attacks are caught for the right cause, and of how many."""
        rates = [totals.caught for totals in self.totals if totals.caught and totals.held_out == held_out]
        return sum(rate.count for rate in rates), sum(rate.total for rate in rates)

    @property
    def false_alarms(self) -> tuple[int, int]:
        """How many sound models raise a false alarm, and of how many."""
        rates = [totals.failed for totals in self.totals if totals.kind == "sound"]
        return sum(rate.count for rate in rates), sum(rate.total for rate in rates)


@cache
def shipped_hit_rate() -> HitRate | None:
    """Return the figures that rushkit ships, or None if they were not measured for this version."""
    try:
        return HitRate.model_validate(load_json(read_file(HIT_RATE_FILE)))
    except FileNotFoundError:
        return None
