"""Slurm: each job of a study is a batch job, waits for those that it needs, and is requeued when it runs out of time.

submitit makes the text of the batch file, and that is all: starting jobs and reading their results with it would pickle
functions, and whether a job is done is told by the folder of runs. What a batch job does is in ``slurm_batch``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from rushkit.errors import RushkitError, UsageError, first_few, shell_line, shorten
from rushkit.files import write_atomic
from rushkit.study.engines import LastWord, Standing, Submission
from rushkit.study.engines.worker_process import worker_arguments
from rushkit.study.places import OUTPUT_FILE

SCRIPT_FILE = "sbatch.sh"
_COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
# The warning comes this long before the end, and never in the first half of the time. Slurm looks once a minute, so it
# may come a minute early; the rest is for a save.
_LEAD_SECONDS = 300
# With less, the warning could come before anybody is there to hear it, and the job would die of it.
_LEAST_SECONDS = 180
# How often Slurm is asked, however often we are; sites ask for no more.
_LOOK_SECONDS = 10.0
_CANCEL_LOOK_SECONDS = 1.0
# How long Slurm may be out of reach, as when its controller starts anew, before we give up: with somebody who waits for
# a cancellation, and otherwise.
_CANCEL_PATIENCE_SECONDS = 30.0
_PATIENCE_SECONDS = 600.0
_TIMEOUT_SECONDS = 120.0
_WORD = r"[\w.+:/-]+"
_PATTERNS = {
    "partition": rf"{_WORD}(,{_WORD})*",
    "account": _WORD,
    "qos": _WORD,
    "constraint": r"[\w.+:/\-,&|*!()\[\]]+",
    "memory": r"[1-9]\d*[KMGTkmgt]?[Bb]?",
    "gpus": r"([\w.+-]+:)?[1-9]\d{0,5}",
}
_TIMES = (r"(?P<m>\d+)(:(?P<s>\d+))?", r"(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)")
_DAYS = r"(?P<d>\d+)-(?P<h>\d+)(:(?P<m>\d+)(:(?P<s>\d+))?)?"
# Ends that a job cannot report itself -> what to do about them.
_KILLED = {
    "OUT_OF_MEMORY": "give it more: memory in [engine.slurm]",
    "TIMEOUT": "it did not save in time: give it more, time in [engine.slurm]",
    "NODE_FAIL": "",
    "BOOT_FAIL": "",
    "CANCELLED": "",
    "DEADLINE": "",
    "PREEMPTED": "",
}
_AGAIN = "what is done is kept, and what Slurm has goes on; the same command goes on from there"
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


@dataclass
class Slurm:
    """The queue of a cluster.

    >>> slurm = rushkit.engines.create("slurm", partition="gpu", gpus=1, time="4:00:00")

    Args:
        partition: Where the jobs go; several are separated by commas.
        account: Who pays.
        time: The limit of one job: minutes, ``"hours:minutes:seconds"`` or ``"days-hours"``, as Slurm writes it. A job
            that needs longer goes on in a second turn.
        gpus: GPUs of a job, as a number or with their type, such as ``"a100:2"``.
        cpus: Cores of a job; the site's default if 0.
        memory: Memory of a job, such as ``"32GB"``.
        qos: The quality of service.
        constraint: The features that a node must have.

    Raises:
        UsageError: submitit is not installed, or a value is not as Slurm writes it.
        RushkitError: Slurm's commands are not on this machine.
    """

    partition: str = ""
    account: str = ""
    time: str | int = "1:00:00"
    gpus: str | int = 0
    cpus: int = 0
    memory: str = ""
    qos: str = ""
    constraint: str = ""
    orders: bool = field(default=True, init=False)
    slots: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name, pattern in _PATTERNS.items():
            value = str(getattr(self, name) or "")
            if value and not re.fullmatch(pattern, value, re.ASCII):
                raise UsageError(f"engine 'slurm': {name} = {shorten(repr(value))} is nothing that Slurm takes")
        if not 0 <= self.cpus <= 10**6:
            raise UsageError(f"engine 'slurm': cpus must be a number of cores (got {self.cpus})")
        self._seconds = seconds_of(self.time)
        if find_spec("submitit") is None:
            raise UsageError("the engine 'slurm' needs submitit", shell_line("pip", "install", "rushkit[slurm]"))
        if missing := [command for command in _COMMANDS if shutil.which(command) is None]:
            raise RushkitError(
                f"there is no Slurm on this machine: {first_few(missing)} cannot be found",
                "start the study on a login node of the cluster, where sbatch works",
            )
        self._seen: dict[str, Standing] = {}
        self._states: dict[str, str] = {}
        # The batch file of each job that is queued or runs -> its number.
        self._scripts: dict[str, str] = {}
        self._looked = self._answered = float("-inf")

    def submit(self, submission: Submission) -> str:
        """Hand a job over to Slurm and return its number there; one that Slurm still has is not handed over again.

        Raises:
            RushkitError: Slurm refuses it or cannot be reached, or its folder cannot be written.
        """
        if self._answered == float("-inf"):
            self._look()
        script = (submission.folder / SCRIPT_FILE).resolve()
        if earlier := self._scripts.get(str(script)):
            return earlier
        write_atomic(script, [self.script(submission).encode()])
        try:
            answer = _run("sbatch", "--parsable", str(script))
        except RushkitError as error:
            raise RushkitError(f"Slurm does not take {submission.name}: {error.message}", _advice(error)) from error
        # With several clusters the name of one stands behind the number.
        number = answer.strip().partition(";")[0]
        if not number.isdecimal():
            raise RushkitError(f"sbatch gives no number for {submission.name}, but {shorten(answer)!r}")
        self._seen[number] = "queued"
        return number

    def script(self, submission: Submission) -> str:
        """Return the batch file of a job. Raises UsageError for a folder that no batch file can name."""
        from submitit import SlurmExecutor

        words = [sys.executable, "-m", "rushkit.study.engines.slurm_batch", submission.job, str(submission.runs)]
        words += worker_arguments(submission.job, submission.runs)
        for word in (*words, str(submission.folder)):
            # submitit quotes the rest; sbatch drops a backslash, quoted or not.
            if "\\" in word or not word.isprintable():
                raise UsageError(f"Slurm cannot work with {shorten(repr(word))}", "choose another folder for the runs")
        executor = SlurmExecutor(folder=submission.folder)
        executor.update_parameters(**self._parameters(submission))
        return executor._make_submission_file_text(f"exec {shell_line(*words)}", submission.job)

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        """Return how jobs stand. Slurm is asked once for all of them, and not more often than every ten seconds."""
        if clock.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()
        return {handle: self._seen.get(handle, "gone") for handle in handles}

    def last_word(self, handle: str) -> LastWord | None:
        """Return how Slurm ended a job; None if the job ended by itself."""
        state = self._states.get(handle, "")
        if state not in _KILLED:
            return None
        return LastWord(True, f"Slurm ended it: {state}", _KILLED[state])

    def cancel(self, handles: Sequence[str]) -> None:
        """Take jobs out of the queue, ask those that run to save and stop, and return when they have.

        Raises:
            RushkitError: Slurm cannot be reached; it goes on with the jobs.
        """
        left, asked = set(handles), set[str]()
        while left:
            self._look(_CANCEL_PATIENCE_SECONDS)
            left = {handle for handle in left if self._seen.get(handle, "gone") in ("queued", "running")}
            queued = sorted(handle for handle in left if self._seen[handle] == "queued")
            running = sorted(handle for handle in left - asked if self._seen[handle] == "running")
            if queued:
                # One that has started meanwhile stays, and is asked to save.
                _run("scancel", "--quiet", "--state=PENDING", *queued, tolerant=True)
            if running:
                # Not a plain scancel: that kills after KillWait, which may be shorter than a save.
                _run("scancel", "--quiet", "--signal=TERM", "--batch", *running, tolerant=True)
                asked.update(running)
            if left:
                clock.sleep(_CANCEL_LOOK_SECONDS)

    def close(self) -> None:
        """Leave the jobs to Slurm, which goes on with them."""

    def _parameters(self, submission: Submission) -> dict[str, object]:
        """Return what submitit takes. What is None does not stand in the batch file."""
        output = str(submission.folder / OUTPUT_FILE).replace("%", "%%")
        return {
            "job_name": re.sub(r"[^\w.+-]+", "-", submission.name, flags=re.ASCII)[:60] or "rushkit",
            "partition": self.partition or None,
            "account": self.account or None,
            "time": -(-self._seconds // 60),
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus or None,
            "mem": self.memory or None,
            "qos": self.qos or None,
            "constraint": self.constraint or None,
            "wckey": None,
            "dependency": f"afterok:{':'.join(submission.after)}" if submission.after else None,
            "stderr_to_stdout": True,
            "use_srun": False,
            "additional_parameters": {
                "output": output,
                # To the batch process alone; a rank would die of it.
                "signal": f"B:USR1@{min(_LEAD_SECONDS, self._seconds // 2)}",
                "requeue": True,
                # Without it, a job whose parent failed waits for ever.
                "kill-on-invalid-dep": "yes",
            },
        }

    def _look(self, patience: float | None = None) -> None:
        """Ask Slurm how the jobs of this user stand. Raises RushkitError if it has been out of reach for long."""
        self._looked = clock.monotonic()
        try:
            answer = _run("squeue", "--me", "--states=all", "--noheader", "--format=%i|%T|%r|%o")
        except RushkitError as error:
            if self._looked - self._answered > (_PATIENCE_SECONDS if patience is None else patience):
                raise RushkitError(f"Slurm cannot be reached: {error.message}", _AGAIN) from error
            return
        self._answered = self._looked
        self._seen, self._scripts, self._states = {}, {}, {}
        for line in answer.splitlines():
            number, state, reason, script = (*line.split("|", 3), "", "", "")[:4]
            self._states[number] = state
            self._seen[number] = "queued" if state in _QUEUED else "ended" if state in _ENDED else "running"
            # One whose parent failed is about to be cancelled.
            if self._seen[number] != "ended" and reason != "DependencyNeverSatisfied":
                self._scripts[script] = number


def seconds_of(time: str | int) -> int:
    """Return the seconds of a time limit in Slurm's notation. Raises UsageError for anything else."""
    for pattern in (*_TIMES, _DAYS):
        if found := re.fullmatch(pattern, str(time), re.ASCII):
            seconds = sum(int(found[unit] or 0) * _SECONDS[unit] for unit in found.groupdict())
            if _LEAST_SECONDS <= seconds <= 366 * 86400:
                return seconds
    raise UsageError(
        f"engine 'slurm': time = {shorten(repr(time))} is no time limit of three minutes or more",
        'minutes, "hours:minutes:seconds" or "days-hours:minutes:seconds", such as "4:00:00"',
    )


def _advice(refusal: RushkitError) -> str:
    """Return what to do about a job that sbatch refuses."""
    if re.search("limit", refusal.message, re.IGNORECASE):
        return f"the site limits the jobs of a user (MaxSubmitJobs), or their size: {_AGAIN}"
    return "the options of [engine.slurm] are partition, account, time, gpus, cpus, memory, qos and constraint"


def _run(*command: str, tolerant: bool = False) -> str:
    """Return what a command of Slurm prints. Raises RushkitError with its last words, unless failures are tolerated."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RushkitError(f"{command[0]}: {type(error).__name__}: {shorten(str(error))}") from error
    if done.returncode and not tolerant:
        raise RushkitError(shorten(" ".join(done.stderr.split()) or f"{command[0]} ends with {done.returncode}", 400))
    return done.stdout
