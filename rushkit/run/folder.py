"""An open run: the process that writes to its folder."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from rushkit.errors import Interrupted, Replaced, RushkitError, showable
from rushkit.files import JSON, remove_leftovers, write_atomic, write_error, write_json
from rushkit.interrupt import uninterrupted
from rushkit.locks import LOCK_FILE, FolderLock
from rushkit.paths import direct
from rushkit.results.base import StageResults
from rushkit.results.records import RESULTS_FILE
from rushkit.results.run_file import Facts, RunError, RunFile, Session, Status
from rushkit.run.info import read_run_file, read_run_text
from rushkit.run.metrics import MetricsLog
from rushkit.run.names import CHECKPOINTS, LOG_FILE, METRICS_FILE, NAMED_CHECKPOINTS, RECIPE_FILE, RUN_FILE, SUFFIX
from rushkit.run.speaker import Speaker
from rushkit.run.store import CheckpointStore

StageRecord = TypeVar("StageRecord", bound=StageResults)


class Run:
    """An open run: the one process that writes to its folder, or a rank that only follows.

    Make one with ``Run.create`` or ``Run.open`` and use it in a ``with`` block: leaving it normally finishes the run,
    an exception fails it, and KeyboardInterrupt or Interrupted marks it interrupted. A run whose folder was deleted
    meanwhile ends with a RushkitError that says so.

    Attributes:
        path: The folder.
        about: The contents of run.json.
        speaker: Prints messages and progress; messages also go to log.txt.
        metrics: The log of metrics.jsonl.
        checkpoints: The store behind ``checkpoints/``.
        writes: False on ranks other than 0: there every write does nothing.
        guard: Called before a write that others read; it raises Replaced if another process has taken the run over.
    """

    def __init__(self, path: Path, about: RunFile, lock: FolderLock | None, speaker: Speaker | None) -> None:
        self.path = path
        self.about = about
        self.writes = lock is not None
        self._lock = lock
        self._log_failed = False
        self.guard: Callable[[], None] = _unguarded
        self.speaker = (speaker or Speaker()).with_sink(self.log)
        self.metrics = MetricsLog(path / METRICS_FILE, writes=self.writes)
        self.checkpoints = CheckpointStore(path / CHECKPOINTS, writable=self.writes, warn=self.speaker.warn)
        if lock is not None and not lock.held:
            self.speaker.warn(f"{path} lies on a file system without locks: see to it that one process writes there")

    @classmethod
    def create(
        cls,
        root: str | Path,
        verb: str,
        recipe_name: str,
        facts: Facts,
        recipe_toml: str,
        speaker: Speaker | None = None,
        folder: Path | None = None,
    ) -> Run:
        """Make a new folder under ``root`` and open it.

        Args:
            root: The folder of runs; made where it is missing.
            verb: The command, such as ``"pretrain"``.
            recipe_name: The recipe's name, for the folder's name and for ``--from``.
            facts: The other contents of run.json.
            recipe_toml: The resolved recipe.
            speaker: Prints the run's messages.
            folder: Where the run of a study's job lies; None for a name of its own. Nothing lies there yet.

        Raises:
            RushkitError: the folder cannot be made or written.
        """
        started = datetime.now(UTC)
        path = _make_folder(Path(root), started, verb, recipe_name) if folder is None else _make_this(folder)
        lock = FolderLock(path)
        about = RunFile(
            **{name: getattr(facts, name) for name in Facts.model_fields},
            verb=verb,
            recipe=recipe_name,
            status="running",
            started=started.isoformat(),
        )
        run = cls(path, about, lock, speaker)
        run._begin(started, recipe_toml)
        return run

    @classmethod
    def open(cls, path: str | Path, speaker: Speaker | None = None, rank: int = 0) -> Run:
        """Open an existing folder, to resume its run; ranks other than 0 follow without a lock and write nothing.

        Raises:
            UsageError: no run there.
            RushkitError: another process works in it.
        """
        path = Path(path)
        about = read_run_file(path)
        if rank != 0:
            return cls(path, about, None, speaker)
        lock = FolderLock(path)
        try:
            # Again: until the lock was taken, another process may have gone on with it, or deleted it.
            about = read_run_file(path)
            remove_leftovers(path)
        except BaseException:
            lock.release()
            raise
        run = cls(path, about, lock, speaker)
        run._begin(datetime.now(UTC))
        return run

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.verb} {self.recipe_name}, {self.about.status})"

    @property
    def verb(self) -> str:
        """The command that made the run."""
        return self.about.verb

    @property
    def recipe_name(self) -> str:
        """The name of its recipe."""
        return self.about.recipe

    @property
    def recipe_toml(self) -> str:
        """The resolved recipe as TOML. Raises UsageError if the file is gone."""
        return read_run_text(self.path / RECIPE_FILE)

    def subfolder(self, name: str) -> Path:
        """Return the folder ``counts``, ``figures``, ... of this run, and make it at the first call."""
        self.check_writable()
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        return folder

    def log(self, text: str) -> None:
        """Append a line to log.txt, with the time in UTC. If that fails, print one warning; the run continues."""
        if not self.writes or self._log_failed:
            return
        path = self.path / LOG_FILE
        try:
            if not _is_there(self.path):
                return
            with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=direct) as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {showable(text)}\n")
        except OSError as error:
            self._log_failed = True
            self.speaker.warn(f"{path} cannot be written any more: {error.strerror or error}")

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, JSON], best: bool = False
    ) -> Path | None:
        """Save a checkpoint, after the metrics up to it have reached the disk. None on ranks that do not write.

        Raises:
            RushkitError: no room, no permission, or the run's folder is gone.
        """
        if not self.writes:
            return None
        self.check_writable()
        self.metrics.sync()
        return self.checkpoints.save(step, tensors, meta, best)

    def update(self, **changes: object) -> None:
        """Change fields of ``about``, and write them to run.json."""
        self.check_writable()
        self.about = self.about.with_changes(**changes)
        self._write()

    def write_results(self, results: StageRecord) -> StageRecord:
        """Write results.json atomically.

        Returns:
            The results with ``run``, the folder that they lie in, and ``job``: what a stage returns. The file itself
            does not say where it lies, because folders are moved.

        Raises:
            NumericsError: a NaN or an infinity, naming the key.
            RushkitError: no room, no permission, or the run's folder is gone.
        """
        self.check_writable()
        job = self.about.study.job if self.about.study else ""
        results = results.model_copy(update={"run": str(self.path), "job": job})
        if self.writes:
            write_json(self.path / RESULTS_FILE, results.to_table())
        return results

    def check_writable(self) -> None:
        """Check that the run is still this process's to write; on ranks that do not write, nothing is checked.

        Raises:
            RushkitError: the folder was deleted or moved during the run, and a write must not recreate it.
            Replaced: another process has taken over the job whose run it is.
        """
        if not self.writes:
            return
        if not _is_there(self.path):
            raise self._gone()
        self.guard()

    def finish(self) -> None:
        """Mark the run finished and close it; it cannot be resumed, so the checkpoints it builds on are released."""
        if self.writes:
            for path in self.kept_checkpoints():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        self._end("finished")

    def kept_checkpoints(self) -> list[Path]:
        """Return the paths at which an unfinished run keeps the checkpoints that it builds on."""
        return [self.path / f"{key}{SUFFIX}" for key in NAMED_CHECKPOINTS]

    def fail(self, error: BaseException) -> None:
        """Mark the run failed (interrupted, for KeyboardInterrupt and Interrupted), keep the reason, and close it.

        A new run that a RushkitError ended before it wrote anything, such as one without its data, is removed, because
        there is nothing to resume. Never raises, so that the original error is shown.
        """
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        if isinstance(error, RushkitError | KeyboardInterrupt):
            self.log(str(error) or type(error).__name__)
        else:
            self.log("".join(traceback.format_exception(error)))
        self._close_session("interrupted" if stopped else "failed")
        self.about = self.about.with_changes(error=RunError(type=type(error).__name__, message=str(error)))
        # A full disk, or a folder that is gone, may be the very reason.
        with contextlib.suppress(RushkitError):
            self.check_writable()
            self._write()
        vain = self.writes and isinstance(error, RushkitError) and not stopped and self._is_untouched()
        self.close()
        if vain:
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Close the files and give the folder's lock back; the status stays as it is."""
        self.metrics.close()
        if self._lock is not None:
            self._lock.release()
        self.writes = False

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.writes or isinstance(error, Replaced):
            # What lies there is another process's now.
            self.close()
        elif error is None:
            self.finish()
        else:
            gone = not _is_there(self.path)
            with uninterrupted():
                self.fail(error)
            if gone and isinstance(error, RushkitError | OSError):
                # Whatever could not be written to a folder that is not there any more: this is the cause.
                raise self._gone() from error

    def _is_untouched(self) -> bool:
        """Return whether this process made the folder, and it holds nothing but what every run has from its start."""
        if len(self.about.sessions) > 1:
            return False
        try:
            files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if not path.is_dir()}
        except OSError:
            return False
        kept = {path.name for path in self.kept_checkpoints()}
        return files <= {RUN_FILE, RECIPE_FILE, LOG_FILE, LOCK_FILE, *kept}

    def _begin(self, now: datetime, recipe_toml: str | None = None) -> None:
        sessions = [*self.about.sessions, Session(started=now.isoformat(), ended=None)]
        self.about = self.about.with_changes(status="running", ended=None, error=None, sessions=sessions)
        try:
            # The recipe first: what has a run.json can be resumed.
            if recipe_toml is not None:
                write_atomic(self.path / RECIPE_FILE, [recipe_toml.encode()])
            self._write()
        except BaseException:
            self.close()
            raise

    def _end(self, status: Status) -> None:
        self._close_session(status)
        try:
            self.check_writable()
            self._write()
        finally:
            self.close()

    def _close_session(self, status: Status) -> None:
        now = datetime.now(UTC).isoformat()
        sessions = [*self.about.sessions[:-1], self.about.sessions[-1].with_changes(ended=now)]
        self.about = self.about.with_changes(status=status, ended=now, sessions=sessions)

    def _gone(self) -> RushkitError:
        return RushkitError(
            f"the run's folder {self.path} is gone: it was deleted or moved while the run worked",
            "leave a run's folder where it is until the run ends; `rushkit runs list` shows those that there are",
        )

    def _write(self) -> None:
        if self.writes:
            write_json(self.path / RUN_FILE, self.about.to_table())


def _is_there(folder: Path) -> bool:
    """Return whether the folder is still that of a run. Any other problem shows at the next write."""
    try:
        (folder / RUN_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _unguarded() -> None:
    """Let every write pass: the run is of no job that others could take over."""


def _make_this(folder: Path) -> Path:
    """Make the folder of a job's run. Raises RushkitError if it is there already, or cannot be made."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _make_folder(root: Path, started: datetime, verb: str, recipe_name: str) -> Path:
    recipe = re.sub(r"[^A-Za-z0-9._+]+", "-", recipe_name).strip("-.")[:60] or "recipe"
    while True:
        # Not from a seeded generator: two runs of one seed need two names.
        path = root / f"{started:%Y%m%d-%H%M%S}-{verb}-{recipe}-{secrets.token_hex(3)}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError as error:
            if path.is_dir():
                continue
            raise write_error(root, error) from error
        except OSError as error:
            raise write_error(root, error) from error
        return path
