"""Attacks that raise while others go on: what is kept of them, and when their error is the run's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

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
        failed = ranks.broadcast({name: attack.to_table() for name, attack in run.about.failed.items()})
        self._failed = {name: FailedAttack(**table) for name, table in failed.items()}
        self._first: AttackFailed | None = None

    @property
    def attacks(self) -> list[FailedAttack]:
        """The attacks that failed, in this session and before."""
        return list(self._failed.values())

    def known(self, name: str) -> bool:
        """Return whether a job failed before."""
        return name in self._failed

    def add(self, name: str, attack: FailedAttack, failure: AttackFailed) -> None:
        """Keep that a job failed, and say why."""
        self._first = self._first or failure
        self._failed[name] = attack
        self._run.update(failed=self._failed)
        self._run.speaker.warn(attack.words())

    def raise_first(self) -> NoReturn:
        """Raise the error of the first attack that failed: the original one, where this process has it."""
        cause = None if self._first is None else self._first.__cause__
        if cause is not None:
            raise cause
        first = self.attacks[0]
        raise RushkitError(first.words(), first.hint)


def failed_error(failed: Sequence[FailedAttack], of: int) -> RushkitError:
    """Return the error that a command ends with where some of its attacks failed and others ran."""
    return RushkitError(
        f"{len(failed)} of {of} attacks failed: {'; '.join(attack.words() for attack in failed)}",
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
