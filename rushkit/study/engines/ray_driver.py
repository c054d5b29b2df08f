"""The process that speaks to Ray for the engine: it reads requests from its standard input, and ends with it.

``python -m rushkit.study.engines.ray_driver FD OPTIONS``: answers go to the file descriptor. What Ray prints goes to
the standard output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import ray

from rushkit.errors import RushkitError
from rushkit.study.engines import Standing
from rushkit.study.engines.ray_task import work

# Nothing but words and exit codes goes through Ray's store, which by itself takes a third of the memory.
_STORE_BYTES = 100 * 2**20
_RETRIES = 3
# On a busy machine, the parts of a head do not always find each other in the 30 seconds that Ray gives them.
_STARTS = 3


class Tasks:
    """The tasks that were submitted.

    Args:
        cpus: Cores of each.
        gpus: GPUs of each.
    """

    def __init__(self, cpus: int, gpus: float) -> None:
        # A job that fails is not tried again; one that is lost with its node is.
        settings: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus}
        self._work = ray.remote(max_retries=_RETRIES, retry_exceptions=False, **settings)(work)
        self._environment = {key: value for key, value in os.environ.items() if key.startswith("RUSHKIT_")}
        # None once it has ended.
        self._tasks: dict[str, Any] = {}

    def submit(self, name: str, arguments: list[str], output: str) -> str:
        """Submit a task and return its handle."""
        task = self._work.options(name=name).remote(arguments, output, str(Path.cwd()), self._environment)
        handle = str(len(self._tasks))
        self._tasks[handle] = task
        return handle

    def standings(self, handles: Iterable[str]) -> dict[str, Standing]:
        """Return how tasks stand."""
        self._wait(self._tasks, seconds=0.0)
        return {
            handle: "gone" if handle not in self._tasks else "queued" if self._tasks[handle] else "ended"
            for handle in handles
        }

    def cancel(self, handles: Iterable[str]) -> None:
        """Cancel tasks, and return when they have ended."""
        running = [handle for handle in handles if self._tasks.get(handle)]
        for handle in running:
            ray.cancel(self._tasks[handle])
        self._wait(running, seconds=None)

    def cancel_all(self) -> None:
        """Cancel every task, and return when they have ended."""
        self.cancel(list(self._tasks))

    def _wait(self, handles: Iterable[str], seconds: float | None) -> None:
        left = {self._tasks[handle]: handle for handle in handles if self._tasks[handle]}
        if left:
            for task in ray.wait(list(left), num_returns=len(left), timeout=seconds, fetch_local=False)[0]:
                self._tasks[left[task]] = None


def main(fd: str, options: str) -> None:
    """Answer requests until there are no more; then cancel what still runs."""
    given = json.loads(options)
    with os.fdopen(int(fd), "w", encoding="utf-8") as answers, ExitStack() as ends:
        try:
            _join(given["address"], ends)
            _check_room(given)
        except RushkitError as error:
            _say(answers, {"error": error.message})
            return
        tasks = Tasks(given["cpus"], given["gpus"])
        ends.callback(tasks.cancel_all)
        _say(answers, {"result": None})
        for line in sys.stdin:
            request = json.loads(line)
            _say(answers, _answer(tasks, request.pop("what"), request))


def _join(address: str, ends: ExitStack) -> None:
    """Connect to a cluster, or start a head on the loopback; ``ends`` leaves it again. Raises RushkitError."""
    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        # Of its own, so that nobody's "auto" finds this Ray, and nothing is left of it. Paths of sockets must be short.
        folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="rk-ray-", ignore_cleanup_errors=True))
        settings |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": folder,
        }
    ends.callback(ray.shutdown)
    for left in reversed(range(1 if address else _STARTS)):
        try:
            ray.init(**settings)
            return
        # Of a head that is late, it raises Exception itself.
        except Exception as error:
            ray.shutdown()
            if not left:
                raise RushkitError(" ".join(str(error).split())) from error


def _check_room(given: Mapping[str, Any]) -> None:
    """Refuse what no node of a private Ray will ever have; another cluster may grow."""
    if given["address"]:
        return
    there = ray.cluster_resources()
    for name, key in (("cpus", "CPU"), ("gpus", "GPU")):
        if given[name] > there.get(key, 0):
            raise RushkitError(f"a job asks for {name} = {given[name]}, and this machine has {there.get(key, 0):g}")


def _answer(tasks: Tasks, what: str, about: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"result": getattr(tasks, what)(**about)}
    except (ConnectionError, RuntimeError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _say(answers: Any, answer: Mapping[str, Any]) -> None:
    # Whoever asked may be gone.
    with suppress(OSError):
        answers.write(f"{json.dumps(answer)}\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
