"""What a task of Ray does on its node: it starts the worker of a job, and passes a cancellation on to it."""

from __future__ import annotations

import os
import signal
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

    Raises:
        KeyboardInterrupt: the task was cancelled; the worker has saved.
    """
    worker = _Worker([sys.executable, *arguments], output, folder, os.environ | dict(environment))
    # Ray cancels by SIGINT, and may send it again: a KeyboardInterrupt would part us from a worker that saves.
    before = signal.signal(signal.SIGINT, lambda number, frame: worker.stop.set())
    try:
        worker.start()
        while worker.is_alive():
            # No single long wait: in C, the signal would not be heard.
            worker.join(_POLL_SECONDS)
    finally:
        signal.signal(signal.SIGINT, before)
    if worker.stop.is_set():
        raise KeyboardInterrupt
    return worker.code


class _Worker(threading.Thread):
    """The worker's process, and who waits for it."""

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
