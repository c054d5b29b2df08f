"""Keep track of the attacks of a run that raise errors while the others continue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from rushkit.distributed import ranks
from rushkit.errors import NumericsError, PluginError, RushkitError, UsageError
from rushkit.results.attacks import FailedAttack
from rushkit.run.folder import Run
from rushkit.setup.resumable import ItemFailed


class Failures:
    """The failed attacks of a run, stored in its run.json, so that a resumed run does not retry them.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        told = ranks.broadcast({name: row.to_table() for name, row in run.about.failed.items()})
        self._rows = {name: FailedAttack(**row) for name, row in told.items()}
        self._first: ItemFailed | None = None

    @property
    def rows(self) -> list[FailedAttack]:
        """The failed attacks, in the order in which they failed."""
        return list(self._rows.values())

    def known(self, name: str) -> bool:
        """Return whether a job has failed before."""
        return name in self._rows

    def add(self, name: str, row: FailedAttack, failure: ItemFailed) -> None:
        """Record the failure of a job, and print a warning."""
        self._first = self._first or failure
        self._rows[name] = row
        self._run.update(failed=dict(self._rows))
        self._run.speaker.warn(row.words())

    def raise_first(self) -> NoReturn:
        """Raise the error of the first attack that failed; the original exception, if this process has it."""
        cause = None if self._first is None else self._first.__cause__
        if cause is not None:
            raise cause
        first = self.rows[0]
        raise RushkitError(first.words(), first.hint)


def failed_error(rows: Sequence[FailedAttack], of: int) -> RushkitError:
    """Return the error that ends a command when some of its ``of`` attacks failed."""
    return RushkitError(
        f"{len(rows)} of {of} attacks failed: {'; '.join(row.words() for row in rows)}",
        "the others have results; going on with this run does not try these again, a new run does",
    )


def is_of_attack(error: Exception) -> bool:
    """Return whether an error comes from the attack itself, not from the run's folder or a signal."""
    if isinstance(error, RushkitError):
        return isinstance(error, UsageError | PluginError | NumericsError)
    return not isinstance(error, OSError)
