"""Say of an audit how often its checks find a fault, as the self-test measured it."""

from __future__ import annotations

from rushkit.results.auditing import Audit
from rushkit.results.hit_rate import shipped_hit_rate


def hit_rate_words(audit: Audit) -> str:
    """Return what the checks of an audit found in the self-test, or how often they fail there for no reason.

    Example: "passes 25 checks, which found 34 of 36 planted faults, and 8 of 10 that were devised after the thresholds
    were fixed"; of an audit in which a check fails "on sound models such checks fail in 0 of 11 cases". Empty where the
    figures say nothing of this audit: it made other checks, spent less than the self-test, or skipped what it does not.
    """
    measured = shipped_hit_rate()
    statuses = [check.status for check in audit.checks]
    if measured is None or not measured.is_same(audit):
        return ""
    if "fail" in statuses:
        alarms, models = measured.false_alarms
        return f"on sound models such checks fail in {alarms} of {models} cases" if models else ""
    found, planted = measured.faults(held_out=False)
    unseen, held_out = measured.faults(held_out=True)
    if not planted or not measured.skips_alike(audit):
        return ""
    later = f", and {unseen} of {held_out} that were devised after the thresholds were fixed" if held_out else ""
    return f"passes {statuses.count('pass')} checks, which found {found} of {planted} planted faults{later}"
