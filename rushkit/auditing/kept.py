"""Store the outcome of each measurement of an unfinished audit in a file, so that a stop loses none of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from rushkit.auditing.attacks import Outcome
from rushkit.files import JSON
from rushkit.run.folder import Run
from rushkit.run.names import SUFFIX
from rushkit.run.partial import Partial

_PREFIX = "audit."
_OUTCOME = TypeAdapter(Outcome)


class KeptOutcomes:
    """The stored outcomes, by the number of their measurement.

    Args:
        run: The run; the files lie in its folder ``counts``.
        subject: The facts that the outcomes depend on; a file with another subject is ignored.
    """

    def __init__(self, run: Run, subject: Mapping[str, JSON]) -> None:
        self._folder = run.subfolder("counts")
        self._subject = dict(subject)

    def depending_on(self, facts: Mapping[str, JSON]) -> KeptOutcomes:
        """Return the outcomes that depend on these facts too; files that were stored without them are ignored."""
        other = copy(self)
        other._subject = {**self._subject, **facts}
        return other

    def load(self, number: int) -> tuple[Outcome, Tensor | None] | None:
        """Return the outcome of a measurement, and its images if it has any; None if it is not finished."""
        stored = self._file(number).load(number)
        if stored is None:
            return None
        try:
            return _OUTCOME.validate_python(stored.meta.get("outcome")), stored.tensors.get("x_adv")
        except ValidationError:
            return None

    def save(self, number: int, outcome: Outcome, x_adv: Tensor | None) -> None:
        """Store the outcome of a measurement."""
        self._file(number).save(number, {} if x_adv is None else {"x_adv": x_adv}, {"outcome": asdict(outcome)})

    def clear(self) -> None:
        """Delete the files: the audit is finished."""
        for path in self._folder.glob(f"{_PREFIX}*{SUFFIX}"):
            path.unlink()

    def _file(self, number: int) -> Partial:
        return Partial(self._folder / f"{_PREFIX}{number:02d}{SUFFIX}", self._subject)
