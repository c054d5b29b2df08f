"""A Slurm of one process for tests: the commands on PATH ask a server, which really runs batch files.

Jobs wait for those that they depend on, are cancelled with them, get their warning signal, and are requeued. There are
no clocks: ``warn`` says that a job's time is nearly over, and ``ended`` waits.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

COMMAND = """#!{python} -ES
import json, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    server.sendall((json.dumps([{name!r}, *sys.argv[1:]]) + "\\n").encode())
    code, out, err = json.loads(server.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""
OVER = {"COMPLETED", "FAILED", "CANCELLED"}


@dataclass
class StandInJob:
    number: str
    script: str
    options: dict[str, str]
    state: str = "PENDING"
    turns: int = 0
    requeued: bool = False
    process: subprocess.Popen[bytes] | None = None


@dataclass
class StandIn:
    """The server: what Slurm knows, and the means to play its part."""

    jobs: dict[str, StandInJob] = field(default_factory=dict)
    # Nothing starts while it is set, nor after this many turns of all jobs.
    held: bool = False
    held_after: int = 10**6
    # What each command says instead of doing anything.
    broken: dict[str, str] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def answer(self, words: list[str]) -> tuple[int, str, str]:
        with self.changed:
            self.asked.append(words)
            if words[0] in self.broken:
                return 1, "", f"{words[0]}: error: {self.broken[words[0]]}\n"
            return 0, str(getattr(self, f"_{words[0]}")(words[1:])), ""

    def warn(self, number: str) -> None:
        """Send the signal that the batch file asks for, to the batch process."""
        whom, _, when = self.jobs[number].options["signal"].partition(":")
        assert (whom, when.partition("@")[0]) == ("B", "USR1")
        self.jobs[number].process.send_signal(signal.SIGUSR1)

    def release(self) -> None:
        with self.changed:
            self.held, self.held_after = False, 10**6
            self._schedule()

    def waits(self, number: str) -> None:
        """Wait until a job is in the queue again."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.jobs[number].state == "PENDING", 60), self.jobs[number]

    def ended(self, number: str) -> str:
        """Wait until a job is over, and return its state."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.jobs[number].state in OVER, 60), self.jobs[number]
            return self.jobs[number].state

    def _sbatch(self, words: list[str]) -> str:
        assert words[0] == "--parsable"
        lines = [line for line in Path(words[1]).read_text().splitlines() if line.startswith("#SBATCH --")]
        options = dict((shlex.split(line)[1][2:] + "=").split("=", 1) for line in lines)
        number = str(len(self.jobs) + 7)
        self.jobs[number] = StandInJob(number, words[1], {key: text.removesuffix("=") for key, text in options.items()})
        self._schedule()
        return f"{number}\n"

    def _squeue(self, words: list[str]) -> str:
        assert words == ["--me", "--states=all", "--noheader", "--format=%i|%T|%r|%o"]
        return "".join(f"{job.number}|{job.state}|None|{job.script}\n" for job in self.jobs.values())

    def _scancel(self, words: list[str]) -> str:
        chosen = [self.jobs[number] for number in words if number.isdecimal()]
        for job in chosen:
            if "--state=PENDING" in words and job.state == "PENDING":
                job.state = "CANCELLED"
            elif {"--signal=TERM", "--batch"} <= set(words) and job.state == "RUNNING":
                job.process.terminate()
        self._schedule()
        return ""

    def _scontrol(self, words: list[str]) -> str:
        assert words[0] == "requeue"
        self.jobs[words[1]].requeued = True
        return ""

    def _schedule(self) -> None:
        for job in self.jobs.values():
            if job.state == "PENDING" and not (
                self.held or sum(each.turns for each in self.jobs.values()) >= self.held_after
            ):
                kind, *parents = (job.options.get("dependency") or "afterok").split(":")
                assert kind == "afterok"
                states = {self.jobs[parent].state for parent in parents}
                if states <= {"COMPLETED"}:
                    self._start(job)
                elif states & OVER - {"COMPLETED"} and job.options.get("kill-on-invalid-dep") == "yes":
                    job.state = "CANCELLED"
        self.changed.notify_all()

    def _start(self, job: StandInJob) -> None:
        job.state, job.turns, job.requeued = "RUNNING", job.turns + 1, False
        with Path(job.options["output"].replace("%%", "%")).open("ab") as output:
            job.process = subprocess.Popen(
                ["bash", job.script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"SLURM_JOB_ID": job.number},
                start_new_session=True,
            )
        threading.Thread(target=self._await, args=(job, job.process)).start()

    def _await(self, job: StandInJob, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        with self.changed:
            job.state = "PENDING" if job.requeued else "FAILED" if code else "COMPLETED"
            self._schedule()


@contextmanager
def slurm_on_path(patch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Put the commands of a new stand-in on PATH; at the end all its jobs are over."""
    stand_in = StandIn()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            answer = stand_in.answer(json.loads(self.rfile.readline()))
            self.wfile.write(f"{json.dumps(answer)}\n".encode())

    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="rk") as folder:
        path = f"{folder}/s"
        for name in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
            command = Path(folder) / name
            command.write_text(COMMAND.format(python=sys.executable, path=path, name=name))
            command.chmod(0o755)
        patch.setenv("PATH", folder, prepend=os.pathsep)
        with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield stand_in
            finally:
                with stand_in.changed:
                    stand_in.held = True
                    for job in stand_in.jobs.values():
                        if job.process is not None and job.process.poll() is None:
                            os.killpg(job.process.pid, signal.SIGKILL)
                server.shutdown()
                thread.join()
