"""What a run folder tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rushkit.errors import DataError
from rushkit.run.folder import CHECKPOINTS, METRICS_FILE, RESULTS_FILE
from rushkit.run.metrics import read_metrics
from rushkit.run.results import read_results
from rushkit.run.store import CheckpointStore


@dataclass(frozen=True)
class RunInfo:
    """What a run folder tells of itself.

    Attributes:
        path: The folder.
        verb: The command that made it.
        recipe: Its recipe's name.
        status: running, finished, failed, interrupted; ``killed`` where it says running and no process holds its lock,
            or was before the run began; ``broken`` where run.json cannot be read.
        started: When, in ISO form and UTC; ``""`` where unknown.
        ended: When it ended, or None.
        data: All of run.json.
    """

    path: Path
    verb: str
    recipe: str
    status: str
    started: str
    ended: str | None = None
    data: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def stage(self) -> str:
        """The stage whose work the run holds: its verb's; of an import, that which would have made such a model."""
        stage = self.data.get("stage")
        return stage if self.verb == "import" and isinstance(stage, str) else self.verb

    def store(self, warn: Callable[[str], None] | None = None) -> CheckpointStore:
        """Its checkpoints, for reading."""
        folder = self.path / CHECKPOINTS
        return CheckpointStore(folder, writable=False, warn=warn) if warn else CheckpointStore(folder, writable=False)

    def results(self) -> dict[str, Any] | None:
        """What results.json holds, or None where there is none that can be used; ``damage`` says why not."""
        try:
            return read_results(self.path / RESULTS_FILE)
        except DataError:
            return None

    def damage(self) -> list[str]:
        """What is wrong with results.json and metrics.jsonl; empty where nothing is."""
        return [*_problem(read_results, self.path / RESULTS_FILE), *_problem(read_metrics, self.path / METRICS_FILE)]


def _problem(read: Callable[[Path], Any], path: Path) -> list[str]:
    try:
        read(path)
    except DataError as error:
        return [error.message]
    return []
