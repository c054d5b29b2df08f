"""The batch process of a Slurm job: it starts the job's worker, and requeues itself when the time is nearly over.

Slurm sends SIGUSR1 to this process alone some minutes before the limit. The worker is asked to save, and once it has,
``scontrol requeue`` puts the job back into the queue under the same number, where it goes on from the checkpoint.
A batch file runs ``python -m rushkit.study.engines.slurm_batch JOB RUNS ARGUMENTS...``, the arguments of the worker.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rushkit.errors import RushkitError
from rushkit.files import write_json
from rushkit.interrupt import EXIT_CODE as INTERRUPTED
from rushkit.paths import read_text
from rushkit.study.engines.worker_process import BUSY
from rushkit.study.places import Places

# In the job's folder: that its time ran out, and how many times in a row that left nothing new.
MARK_FILE = "out_of_time.json"
_MOST_WITHOUT_PROGRESS = 2
_MOST_BYTES = 1 << 12


class Batch:
    """One turn of a job.

    Args:
        job: Its id.
        places: Where its files lie.
        number: Its number in Slurm.
        arguments: With which Python is the job's worker.
    """

    def __init__(self, job: str, places: Places, number: str, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, *arguments]
        self._folder, self._run = places.job_folder(job), places.run_folder(job)
        self._number = number
        self._worker: subprocess.Popen[bytes] | None = None
        self._out_of_time = self._stopped = False

    def turn(self) -> int:
        """Run the worker, requeue the job if its time was over, and return the exit code."""
        signal.signal(signal.SIGUSR1, self._hear)
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGINT, self._hear)
        before = progress(self._run)
        self._worker = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        if self._out_of_time or self._stopped:
            self._worker.terminate()
        code = self._worker.wait()
        if code == BUSY and not self._stopped:
            # Another study works on it: later it is done, and until then others can have the node.
            return self._requeue()
        if code == INTERRUPTED and self._out_of_time and not self._stopped:
            return self._requeue() if self._may_go_on(progress(self._run) != before) else 1
        return code if code >= 0 else 128 - code

    def _hear(self, number: int, frame: FrameType | None) -> None:
        first = not (self._out_of_time or self._stopped)
        if number == signal.SIGUSR1:
            self._out_of_time = True
        else:
            self._stopped = True
        if first and self._worker is not None:
            self._worker.terminate()

    def _may_go_on(self, has_progressed: bool) -> bool:
        """Mark the job as out of time, and return whether another turn makes sense."""
        in_a_row = 0 if has_progressed else self._in_a_row() + 1
        write_json(self._folder / MARK_FILE, {"slurm_job": self._number, "without_progress": in_a_row})
        if in_a_row <= _MOST_WITHOUT_PROGRESS:
            return True
        self._fail(
            f"its time ran out {in_a_row} times in a row before it could save anything new",
            "give it more time: time in [engine.slurm]",
        )
        return False

    def _in_a_row(self) -> int:
        """Return how many turns before this one left nothing new."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            mark = json.loads(read_text(self._folder / MARK_FILE, _MOST_BYTES))
            if isinstance(mark, dict) and mark.get("slurm_job") == self._number:
                count = mark.get("without_progress")
                return count if type(count) is int and 0 <= count <= _MOST_WITHOUT_PROGRESS else 0
        return 0

    def _requeue(self) -> int:
        done = subprocess.run(
            ["scontrol", "requeue", self._number], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            self._fail(
                f"its time was over, and Slurm does not requeue it: {done.stderr.strip()}",
                "what it saved is kept; the same command goes on from there",
            )
            return 1
        return INTERRUPTED

    def _fail(self, message: str, hint: str) -> None:
        # Imported where it is needed: this process lives as long as the job, and is to be small.
        from rushkit.study.failure import failure_of, write_failure

        error = RushkitError(message, hint)
        sys.stderr.write(f"error: {error}\n")
        write_failure(self._folder, failure_of(error, 1))


def progress(run: Path) -> str:
    """Return a hash that changes when a run saves more: another checkpoint, or more of what is counted."""
    total = hashlib.sha256()
    for path in sorted(run.glob("checkpoints/step-*")):
        total.update(f"{path.name}\n".encode())
    for path in sorted(run.glob("counts/**/*")):
        # What is no plain file, or is gone again, saves nothing.
        with contextlib.suppress(OSError), path.open("rb") as file:
            total.update(f"{path.relative_to(run)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Run a turn of the job that the command line names, in the Slurm job of the environment."""
    job, runs, *worker = arguments
    return Batch(job, Places(Path(runs)), os.environ["SLURM_JOB_ID"], worker).turn()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
