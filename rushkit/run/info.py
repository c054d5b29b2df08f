"""Read runs from their folders: run.json, the status of each run, all runs of a folder. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rushkit.errors import DataError, UsageError
from rushkit.files import is_leftover
from rushkit.locks import LOCK_FILE, is_abandoned
from rushkit.paths import exists, read_text, reason
from rushkit.recipe.load import default_runs_dir
from rushkit.results import Results, read
from rushkit.results.records import load_json
from rushkit.results.run_file import SCHEMA, RunFile
from rushkit.run.index import RunIndex, stamp_of
from rushkit.run.metrics import read_metrics
from rushkit.run.names import CHECKPOINTS, LOG_FILE, METRICS_FILE, RECIPE_FILE, RUN_FILE

if TYPE_CHECKING:
    from rushkit.run.store import CheckpointStore

# The statuses of runs that --resume may continue.
STOPPED = ("failed", "interrupted", "killed")
# The name of a run's folder, by itself or of a study's job, and what is in it before run.json is.
_RUN_NAME = re.compile(r"\d{8}-\d{6}-.+-[0-9a-f]{6}|job-[0-9a-f]{16}")
_BEFORE_RUN_FILE = (LOCK_FILE, RECIPE_FILE, LOG_FILE)
# The longest run.json has some kilobytes, and a recipe no more.
_MOST_BYTES = 1 << 22
# What the index keeps of run.json.
_INDEXED = "run"
_NEEDED = ("verb", "recipe", "status", "started")
_NOTHING_TOLD = RunFile(verb="", recipe="", status="failed", started="")


@dataclass(frozen=True)
class RunInfo:
    """The information that a run's folder holds about the run.

    Attributes:
        path: The folder.
        verb: The command that made it.
        recipe: Its recipe's name.
        status: running, finished, failed, interrupted; ``killed`` where run.json says running and no process holds the
            lock, or where the process died before there was a run.json; ``broken`` where run.json cannot be read.
        started: When, in ISO form and UTC; ``""`` where unknown.
        about: All of run.json; empty if there is none, or a broken one.
    """

    path: Path
    verb: str
    recipe: str
    status: str
    started: str
    about: RunFile = field(default=_NOTHING_TOLD, repr=False)

    @property
    def stage(self) -> str:
        """The stage whose work the run holds: its verb; for an import, the stage that would have made such a model."""
        return self.about.stage or self.verb if self.verb == "import" else self.verb

    def store(self, warn: Callable[[str], None] | None = None) -> CheckpointStore:
        """Return its checkpoints, for reading."""
        # Only here: it loads torch.
        from rushkit.run.store import CheckpointStore

        folder = self.path / CHECKPOINTS
        return CheckpointStore(folder, writable=False, warn=warn) if warn else CheckpointStore(folder, writable=False)

    def record(self) -> Results | None:
        """Return the results in results.json; None if there are none or they are damaged, as ``damage`` reports."""
        try:
            return read(self.path)
        except DataError:
            return None

    def damage(self) -> list[str]:
        """Return the problems of results.json and metrics.jsonl; empty if there are none."""
        return [*_problem(read, self.path), *_problem(read_metrics, self.path / METRICS_FILE)]


def find_runs(root: str | Path | None = None, index: RunIndex | None = None) -> list[RunInfo]:
    """Return every run under ``root``, newest first; runs with a damaged run.json come last, with status ``broken``.

    After them come folders whose process was killed before it wrote run.json, with status ``killed`` and no verb. Other
    folders are ignored.

    Example::

        for run in rushkit.find_runs("runs"):
            print(run.started, run.verb, run.recipe, run.status)

    Args:
        root: The folder of runs; None: ``default_runs_dir``.
        index: The index of that folder, for those who keep more in it; None: it is read here.
    """
    root = Path(root or default_runs_dir())
    try:
        names = os.listdir(root)  # noqa: PTH208 - of thousands the names alone
    except OSError:
        return []
    with index or RunIndex(root) as known:
        known.forget_others(names)
        runs = [run for name in names if (run := _run_at(root, name, known)) is not None]
    return sorted(runs, key=lambda run: (run.started, run.path.name), reverse=True)


def info_of(folder: Path) -> RunInfo:
    """Return the information in a run's folder; the status is ``broken`` if run.json cannot be read."""
    if is_stub(folder):
        begins = (folder / LOCK_FILE).exists() and not is_abandoned(folder)
        return RunInfo(folder, "", "", "running" if begins else "killed", "")
    try:
        return _told_by(folder, read_run_file(folder))
    except UsageError:
        return RunInfo(folder, "", "", "broken", "")


def _run_at(root: Path, name: str, index: RunIndex) -> RunInfo | None:
    """Return what ``info_of`` does, from the index where it has run.json as it is; None if the folder is no run's."""
    # As a string: pathlib takes as long as all else, for each of thousands.
    stamp = stamp_of(f"{root}{os.sep}{name}{os.sep}{RUN_FILE}")
    folder = root / name
    if stamp is None:
        return info_of(folder) if is_stub(folder) else None
    if (text := index.get(name, _INDEXED, stamp)) is not None:
        # What somebody else wrote into the index is checked like a run.json.
        with contextlib.suppress(ValidationError):
            return _told_by(folder, RunFile.model_validate_json(text))
    try:
        about = read_run_file(folder)
    except UsageError:
        return RunInfo(folder, "", "", "broken", "")
    # A run that works, or seemed to, is read anew each time.
    if about.status != "running":
        index.put(name, _INDEXED, stamp, about.model_dump_json())
    return _told_by(folder, about)


def _told_by(folder: Path, about: RunFile) -> RunInfo:
    killed = about.status == "running" and is_abandoned(folder)
    status = "killed" if killed else about.status
    return RunInfo(folder, about.verb, about.recipe, status, about.started, about)


def is_run(path: Path) -> bool:
    """Return whether a folder is that of a run, however damaged."""
    return exists(path / RUN_FILE)


def is_stub(path: Path) -> bool:
    """Return whether a folder is named like a run's and holds no more than a run's does before run.json is written."""
    try:
        if not _RUN_NAME.fullmatch(path.name) or path.is_symlink():
            return False
        return all(file.name in _BEFORE_RUN_FILE or is_leftover(file) for file in path.iterdir())
    except OSError:
        return False


def read_run_file(folder: Path) -> RunFile:
    """Return the contents of run.json in a run's folder.

    Raises:
        UsageError: there is none, it is damaged, or a newer rushkit wrote it.
    """
    path = folder / RUN_FILE
    text = read_run_text(path)
    try:
        table = load_json(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {error}", "start a new run") from error
    if not isinstance(table, dict) or not all(isinstance(table.get(key), str) for key in _NEEDED):
        raise UsageError(f"{path} is not that of a run", f"it needs the keys {', '.join(_NEEDED)}")
    if isinstance(schema := table.get("schema"), int) and schema > SCHEMA:
        raise UsageError(f"{folder} was made by a newer rushkit (format {schema})", "upgrade rushkit")
    try:
        return RunFile.model_validate(table)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key, *inside = map(str, problem["loc"])
        place = f"{key!r} ({'.'.join(inside)})" if inside else repr(key)
        raise UsageError(f"{path} is damaged: its {place}: {problem['msg']}", "start a new run") from error


def read_run_text(path: Path) -> str:
    """Return the text of a file that every run's folder has. Raises UsageError if it is not there or unreadable."""
    try:
        return read_text(path, _MOST_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path.parent} is not a run folder: it has no {path.name}", "`rushkit runs list`") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "check the file and its permissions") from error


def _problem(read: Callable[[Path], object], path: Path) -> list[str]:
    try:
        read(path)
    except DataError as error:
        return [error.message]
    return []
