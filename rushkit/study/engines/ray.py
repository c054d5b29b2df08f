"""Ray: each job of a study is a task, with its CPUs and GPUs, that is tried again where its node is lost.

Ray lives in a process of its own, ``ray_driver``: it prints what it likes at any time, and reads its settings while it
is imported. That process outlives this one only to let its jobs save.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from rushkit.errors import RushkitError, UsageError, shell_line, shorten
from rushkit.study.engines import Standing, Submission
from rushkit.study.engines.worker_process import worker_arguments
from rushkit.study.places import OUTPUT_FILE

# A head of our own is there after five seconds on two idle cores; Ray gives up what it cannot reach by itself.
_START_SECONDS = 180.0
_LOOPBACK = "127.0.0.1"
_MOST_WORDS = 600


@dataclass
class Ray:
    """A cluster of Ray, or a part of this machine.

    >>> ray = rushkit.engines.create("ray", address="auto", cpus=4, gpus=1)

    Args:
        address: ``"auto"`` for the cluster that the environment variable ``RAY_ADDRESS`` names, or else the one that
            this machine belongs to. Nothing starts a Ray for this study alone, which only this machine can reach.
        cpus: Cores of a job.
        gpus: GPUs of a job; a fraction shares one.

    Raises:
        UsageError: Ray is not installed, or a value makes no sense.
        RushkitError: the cluster cannot be reached, or Ray does not start.
    """

    # The address itself is no option: whoever wrote the study would choose whose objects this machine unpickles.
    address: Literal["", "auto"] = ""
    cpus: int = 1
    gpus: float = 0.0
    orders: bool = field(default=False, init=False)
    slots: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.cpus <= 10**6:
            raise UsageError(f"engine 'ray': cpus must be a number of cores, at least 1 (got {self.cpus})")
        if not 0 <= self.gpus <= 10**6:
            raise UsageError(f"engine 'ray': gpus must not be negative (got {self.gpus})")
        if find_spec("ray") is None:
            raise UsageError("the engine 'ray' needs Ray", shell_line("pip", "install", "rushkit[ray]"))
        self._driver = _Driver({"address": self.address, "cpus": self.cpus, "gpus": self.gpus})

    def submit(self, submission: Submission) -> str:
        """Hand a job over to Ray and return the number of its task. Raises RushkitError if Ray has ended."""
        handle: str = self._driver.ask(
            "submit",
            name=submission.name,
            arguments=worker_arguments(submission.job, submission.runs),
            output=str(submission.folder / OUTPUT_FILE),
        )
        return handle

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        """Return which tasks have ended. Ray does not say which of the others have begun: they count as queued."""
        standings: dict[str, Standing] = self._driver.ask("standings", handles=list(handles))
        return standings

    def cancel(self, handles: Sequence[str]) -> None:
        """Take tasks back, ask those that have begun to save and stop, and return when they have."""
        self._driver.ask("cancel", handles=list(handles))

    def close(self) -> None:
        """Cancel what still runs, and leave Ray."""
        self._driver.close()


class _Driver:
    """The process that speaks to Ray: a line of JSON each way for each request."""

    def __init__(self, options: Mapping[str, object]) -> None:
        # Without a name: it goes with the last process that has it open.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        reads, writes = os.pipe()
        self._answers = os.fdopen(reads, encoding="utf-8")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rushkit.study.engines.ray_driver", str(writes), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[writes],
                env=os.environ | _settings(bool(options["address"])),
                text=True,
                encoding="utf-8",
                # Ctrl-C is for this process, which cancels what it submitted.
                start_new_session=True,
            )
        finally:
            os.close(writes)
        try:
            if not select.select([self._answers], [], [], _START_SECONDS)[0]:
                self._process.kill()
            self._answer("Ray cannot be reached" if options["address"] else "Ray does not start")
        except BaseException:
            self.close()
            raise

    def ask(self, what: str, **about: object) -> Any:
        """Return the answer to a request. Raises RushkitError with Ray's words if there is none."""
        assert self._process.stdin is not None
        # If it has ended, its last words say why.
        with contextlib.suppress(OSError):
            self._process.stdin.write(f"{json.dumps({'what': what, **about})}\n")
            self._process.stdin.flush()
        return self._answer("Ray fails")

    def close(self) -> None:
        """Let the process end: it cancels what still runs. A second call does nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._answers.close()
        self._log.close()

    def _answer(self, problem: str) -> Any:
        line = self._answers.readline()
        answer = json.loads(line) if line.endswith("\n") else {"error": self._last_words()}
        if "error" in answer:
            raise RushkitError(f"{problem}: {shorten(answer['error'], _MOST_WORDS)}", answer.get("hint") or _AGAIN)
        return answer["result"]

    def _last_words(self) -> str:
        self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _MOST_WORDS))
        return " ".join(self._log.read().decode(errors="replace").split()) or "it ended without a word"


_AGAIN = "what is done is kept; the same command goes on from there"


def _settings(joins: bool) -> dict[str, str]:
    """Return the environment that Ray reads when it is imported."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not joins or os.environ.get("RAY_ADDRESS", "").startswith(f"{_LOOPBACK}:"):
        # On Linux, Ray would put the address in the local network in the place of the loopback.
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return settings
