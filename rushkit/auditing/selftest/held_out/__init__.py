"""Cases that were devised without a look at what the checks say of them: the table of their hits and misses is the
one to quote.

The description of the checks was known when they were devised, and their parameters were chosen by what the naive and
the knowing attack leave, never by a check. What did not overclaim was left out: dropped were a correction by the odds
(Roth et al. 2019), noise on the weights, adaptation by entropy (Wang et al. 2021), training on the test images, and
the diverse ensemble as a defence, of which PGD leaves nothing.
"""

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
