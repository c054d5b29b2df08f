"""What a task of Ray does on its node: it starts the worker of a job, and passes a cancellation on to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rushkit.study.engines.worker_process import BUSY

_POLL_SECONDS = 0.1
# Where a node was lost, its claim on the job is good for a minute yet. Whoever holds it for longer is alive.
_BUSY_SECONDS, _LOOK_SECONDS = 90.0, 2.0


def work(arguments: Sequence[str], output: str, folder: str, environment: Mapping[str, str]) -> int:
    """Run a job's worker to its end.

    Args:
        arguments: With which Python is the job's worker.
        output: The file that takes what it prints.
        folder: The folder to work in, if this node has it.
        environment: Variables to set.

    Returns:
        Its exit code.
    """
    worker = _Worker([sys.executable, *arguments], output, folder, os.environ | dict(environment))
    worker.start()
    stopped: KeyboardInterrupt | None = None
    while worker.is_alive():
        # Ray cancels by a KeyboardInterrupt, which no single wait in C would let through, and may send it again.
        try:
            worker.join(_POLL_SECONDS)
        except KeyboardInterrupt as request:
            stopped = request
            worker.stop.set()
    if stopped is not None:
        raise stopped
    return worker.code


class _Worker(threading.Thread):
    """The worker's process. In a thread, where no KeyboardInterrupt can part it from who waits for it."""

    def __init__(self, command: list[str], output: str, folder: str, environment: Mapping[str, str]) -> None:
        super().__init__(name="worker")
        self.stop = threading.Event()
        self.code = 1
        self._command, self._output, self._environment = command, output, environment
        self._folder = folder if Path(folder).is_dir() else None

    def run(self) -> None:
        """Start the process, again while another one works on the job, and wait for it."""
        waited = 0.0
        while True:
            self.code = self._run()
            if self.code != BUSY or waited >= _BUSY_SECONDS or self.stop.wait(_LOOK_SECONDS):
                return
            waited += _LOOK_SECONDS

    def _run(self) -> int:
        # The standard input is a leash: it closes when this process ends, whatever ends it.
        with (
            Path(self._output).open("ab") as output,
            subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env=self._environment,
            ) as process,
        ):
            while process.poll() is None:
                if self.stop.wait(_POLL_SECONDS):
                    process.terminate()
                    return process.wait()
            return process.returncode
