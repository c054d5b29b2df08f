"""All cases of the self-test, and those that a user chooses by name."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.auditing.selftest import (
    batches,
    detached,
    held_out,
    leaking,
    random_defences,
    rejecting,
    rounded,
    scaled,
    sound,
    steep,
    weak,
    winners,
)
from rushkit.auditing.selftest.case import Case
from rushkit.errors import UsageError, did_you_mean, first_few, shorten

# Every case, in the order in which it is audited and shown.
CASES: tuple[Case, ...] = (
    *rounded.CASES,
    *scaled.CASES,
    *steep.CASES,
    *detached.CASES,
    *leaking.CASES,
    *winners.CASES,
    *random_defences.CASES,
    *rejecting.CASES,
    *batches.CASES,
    *weak.CASES,
    *sound.CASES,
    *held_out.CASES,
)


def choose(names: Sequence[str], cases: Sequence[Case] | None = None) -> list[Case]:
    """Return the cases of these names, in the order of all cases; all of them if no name is given.

    Args:
        names: The names.
        cases: The cases to choose from; None means those of the self-test.

    Raises:
        UsageError: there is no case of a name, or two cases have one name.
    """
    cases = CASES if cases is None else cases
    known = [case.name for case in cases]
    if twice := next((name for name in known if known.count(name) > 1), None):
        raise UsageError(f"two cases of the self-test are called {twice!r}", "give each case a name of its own")
    for name in names:
        if name not in known:
            # Names have spaces and commas in them.
            near = did_you_mean(name, known, prefix="--case ")
            hint = near or f"there are: {first_few([*map(repr, known)], 8)}; docs/audit.md names them all"
            raise UsageError(f"the self-test has no case {shorten(name)!r}", hint)
    return [case for case in cases if not names or case.name in names]
