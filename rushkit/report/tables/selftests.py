"""The self-test of the audit: a row for each case, and a sentence for each group of them."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.recipe.radius import ball_words
from rushkit.report.table import TERMINAL, Cell, Column, Table, build_table, column
from rushkit.results.selftest import SOUND_ABOVE, SelfTestRow, SelfTestTotals
from rushkit.results.words import rate_words
from rushkit.rounding import percent

_GROUP = {"broken": "broken defences", "weak": "weak attacks", "sound": "sound models"}


def cases_table(rows: Sequence[SelfTestRow], caption: str = "") -> Table:
    """Return what the audit says of every case."""
    columns: list[Column[SelfTestRow]] = [
        column("case", lambda row: row.name, left=True),
        column("kind", _kind, left=True),
        column("ball", lambda row: ball_words(row.norm, row.eps), left=True),
        column("clean %", lambda row: _percent(row.clean)),
        column("claimed → left %", claim_words),
        column("fails", lambda row: " ".join(row.failed), left=True),
        column("warns", lambda row: " ".join(row.warned), left=True),
        column("verdict", _verdict, left=True),
        column("s", lambda row: f"{row.seconds:.0f}", media=TERMINAL),
    ]
    return build_table(rows, columns, caption)


def group_words(kind: str, held_out: bool) -> str:
    """Return the name of a group of cases, such as "broken defences, held out"."""
    return f"{_GROUP[kind]}{', held out' if held_out else ''}"


def totals_words(totals: SelfTestTotals) -> str:
    """Return how many cases of a group the audit flags, as one line."""
    group, failed, warned = group_words(totals.kind, totals.held_out), totals.failed, totals.warned
    if totals.caught is None:
        return (
            f"{group}: false alarms on {failed.count} of {failed.total}, {rate_words(failed)} %; "
            f"warnings on {warned.count}"
        )
    return (
        f"{group}: {totals.caught.count} of {totals.caught.total} caught for the right cause, "
        f"{rate_words(totals.caught)} %; some check fails on {failed.count}, {rate_words(failed)} %"
    )


def uncounted_words(row: SelfTestRow) -> str:
    """Return why a case is in no total."""
    if row.clean is None:
        return f"{row.name} does not count: {row.problem}"
    return f"{row.name} does not count: it is right on no more than {percent(SOUND_ABOVE)} % of clean images"


def claim_words(row: SelfTestRow) -> str:
    """Return what is claimed, and the least that the adaptive attack or the audit's strongest leaves of it."""
    left = [share for share in (row.adaptive, row.left) if share is not None]
    return f"{_percent(row.claimed)} → {_percent(min(left, default=None))}"


def _percent(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _kind(row: SelfTestRow) -> str:
    return f"{row.kind}{', held out' if row.held_out else ''}"


def _verdict(row: SelfTestRow) -> Cell:
    if not row.counts:
        return Cell("not counted", style="yellow")
    if row.kind == "sound":
        return Cell("false alarm", style="bold red") if row.failed else Cell("no alarm", style="green")
    if row.caught:
        return Cell("caught", style="green")
    return Cell("wrong cause", style="yellow") if row.failed else Cell("missed", style="bold red")
