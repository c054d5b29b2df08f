"""Say of an audit how often its checks find a fault, as the self-test measured it."""

from __future__ import annotations

from rushkit.results.auditing import CLAIM_CHECK, Audit
from rushkit.results.hit_rate import shipped_hit_rate
from rushkit.rounding import counted


def hit_rate_words(audit: Audit, subject: str = "") -> str:
    """Return what the checks of an audit found in the self-test, or how often they fail there for no reason.

    Example: "passes 25 checks, which found 34 of 36 planted faults, and 8 of 10 that were devised after the thresholds
    were fixed"; of an audit in which a check fails "in the self-test a check fails on 0 of 11 sound models". Empty if
    the figures say nothing of this audit: it made other checks, spent less than the self-test, or skipped what the
    self-test does not. The check of a claim is left out, since the self-test claims nothing.

    Args:
        audit: The audit.
        subject: What "passes", such as "this audit" where the words stand alone.
    """
    measured = shipped_hit_rate()
    statuses = [check.status for check in audit.checks if check.code != CLAIM_CHECK]
    if measured is None or not measured.is_same(audit):
        return ""
    if "fail" in statuses:
        alarms, models = measured.false_alarms
        return f"in the self-test a check fails on {alarms} of {models} sound models" if models else ""
    found, planted = measured.faults(held_out=False)
    unseen, held_out = measured.faults(held_out=True)
    if not planted or not measured.skips_alike(audit):
        return ""
    later = f", and {unseen} of {held_out} that were devised after the thresholds were fixed" if held_out else ""
    faults = f"{found} of {counted(planted, 'planted fault')}{later}"
    words = f"passes {counted(statuses.count('pass'), 'check')}, which found {faults}"
    return f"{subject} {words}" if subject else words
