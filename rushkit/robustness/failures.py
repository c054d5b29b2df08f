"""Attacks that raise while others go on: what is kept of them, and when their error is the run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from rushkit.distributed import ranks
from rushkit.errors import NumericsError, PluginError, RushkitError, UsageError
from rushkit.results.attacks import FailedAttack
from rushkit.run.folder import Run


class AttackFailed(RushkitError):
    """An attack raised while it ran. Its cause, where this process has it, is ``__cause__``."""


class Failures:
    """The attacks of a run that failed, in its run.json: going on does not try them again.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        failed = {name: row.to_table() for name, row in run.about.failed.items()}
        self._rows: dict[str, dict[str, Any]] = dict(ranks.broadcast(failed))
        self._first: AttackFailed | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Attack, ball, protocol, m, message and hint of each."""
        return list(self._rows.values())

    def known(self, name: str) -> bool:
        """Whether a job failed before."""
        return name in self._rows

    def add(self, name: str, about: Mapping[str, Any], failure: AttackFailed) -> None:
        """Keep what a job failed of, and say it."""
        self._first = self._first or failure
        self._rows[name] = {**about, "message": failure.message, "hint": failure.hint}
        self._run.update(failed={name: FailedAttack(**row) for name, row in self._rows.items()})
        self._run.speaker.warn(failed_words(self._rows[name]))

    def raise_first(self) -> NoReturn:
        """Raise what the first attack failed of: its own error, where this process has it."""
        cause = None if self._first is None else self._first.__cause__
        if cause is not None:
            raise cause
        first = self.rows[0]
        raise RushkitError(failed_words(first), first["hint"])


def failed_words(row: Mapping[str, Any]) -> str:
    """See ``FailedAttack.words``."""
    return FailedAttack.model_validate(row).words()


def failed_error(rows: Sequence[Mapping[str, Any]], of: int) -> RushkitError:
    """What a command ends with whose other attacks ran."""
    return RushkitError(
        f"{len(rows)} of {of} attacks failed: {'; '.join(map(failed_words, rows))}",
        "the others have results; going on with this run does not try these again, a new run does",
    )


def is_of_attack(error: Exception) -> bool:
    """Whether an error is the attack's, and not that of the run's folder or of a signal."""
    if isinstance(error, RushkitError):
        return isinstance(error, UsageError | PluginError | NumericsError)
    return not isinstance(error, OSError)


def failure_anywhere(error: Exception | None) -> AttackFailed | None:
    """This rank's error, or that of another one, for every rank to raise; every rank calls it."""
    message, hint = None, None
    if isinstance(error, RushkitError):
        message, hint = error.message, error.hint
    elif error is not None:
        message = f"{type(error).__name__}: {error}"
    told = next((pair for pair in ranks.gather([message, hint]) if pair[0] is not None), None)
    return None if told is None else AttackFailed(*told)
