"""Count what the audit flags among the cases of the self-test, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit import statistics
from rushkit.results.certification import Rate
from rushkit.results.selftest import GROUPS, Flagged, SelfTestTotals, counted


def totals_of(cases: Sequence[Flagged]) -> list[SelfTestTotals]:
    """Return how many cases of each group the audit flags; a group without cases that count is left out."""
    totals = []
    for kind, held_out in GROUPS:
        if counts := counted(cases, kind, held_out):
            rates = {name: rate(*count) for name, count in counts.items()}
            totals.append(SelfTestTotals(kind=kind, held_out=held_out, **rates))
    return totals


def rate(count: int, total: int) -> Rate:
    """Return a share of cases with its 95% Wilson interval."""
    low, high = statistics.wilson_interval(count, total)
    return Rate(count=count, total=total, value=count / total, low=float(low), high=float(high))
