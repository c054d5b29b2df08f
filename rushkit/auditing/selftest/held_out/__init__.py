"""Cases that were devised without a look at what the checks say of them: the table of their hits and misses is the
one to quote."""

from __future__ import annotations

from rushkit.auditing.selftest.case import Case
from rushkit.auditing.selftest.held_out import attacks, ensembles, leaking, randomness, rejecting, slopes, state

CASES: tuple[Case, ...] = (
    *slopes.CASES,
    *rejecting.CASES,
    *randomness.CASES,
    *state.CASES,
    *leaking.CASES,
    *attacks.CASES,
    *ensembles.CASES,
)
