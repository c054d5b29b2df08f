from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import engine_jobs
import pytest
from engine_jobs import go, is_ready, submission, turns

from rushkit import registries
from rushkit.errors import RushkitError, UsageError
from rushkit.study.engines import Engine, Submission, ray_task
from rushkit.study.engines import ray as ray_engine
from rushkit.study.engines.ray import Ray
from rushkit.study.engines.worker_process import BUSY

pytest.importorskip("ray", reason="Ray is not installed")
NODES = Path(__file__).with_name("ray_nodes.py")
# In the environment of every process that a test starts.
TOKEN = "RUSHKIT_TEST_OF_RAY"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The worker is a stand-in, and at the end no process of the test is left."""
    token = f"{TOKEN}={os.getpid()}-{os.urandom(4).hex()}"
    monkeypatch.setenv(*token.split("="))
    monkeypatch.setattr(ray_engine, "worker_arguments", engine_jobs.worker_arguments)
    yield token
    for pid in processes(token):
        await_end(pid)
    assert processes(token) == []


def processes(token: str) -> list[int]:
    """The processes that have a token in their environment, without the dead ones that nobody has waited for."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0{token}\0".encode() in b"\0" + (folder / "environ").read_bytes() + b"\0":
                found.append(int(folder.name))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


def await_end(*pids: int) -> int:
    """Wait until one of some processes has ended, and return which."""
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            try:
                handles[os.pidfd_open(pid)] = pid
            except ProcessLookupError:
                return pid
        ended = select.select(list(handles), [], [], 60)[0]
        assert ended, f"{pids} have not ended"
        return handles[ended[0]]
    finally:
        for handle in handles:
            os.close(handle)


def await_all(engine: Ray, handles: list[str]) -> None:
    while set(engine.standings(handles).values()) != {"ended"}:
        threading.Event().wait(0.05)


def listening(pids: list[int]) -> list[str]:
    """The addresses, in hexadecimal digits, at which processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if found := re.fullmatch(r"socket:\[(\d+)]", str(link.readlink())):
                inodes.add(found[1])
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [words[1].partition(":")[0] for words in lines if words[3] == "0A" and words[9] in inodes]


@contextmanager
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    with tempfile.TemporaryDirectory(prefix="rk", ignore_cleanup_errors=True) as folder:
        nodes = subprocess.Popen(
            [sys.executable, str(NODES), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        with nodes:
            monkeypatch.setenv("RAY_ADDRESS", nodes.stdout.readline().strip())
            yield nodes
            nodes.stdin.close()


@pytest.mark.slow
def test_jobs_on_a_ray_of_their_own_that_only_this_machine_reaches(tmp_path: Path, stand_in: str):
    engine = registries.engines.create("ray")
    assert isinstance(engine, Engine)
    try:
        jobs = [submission(tmp_path, "fails", code=1), submission(tmp_path, "waits", turns=1)]
        handles = [engine.submit(job) for job in jobs]
        is_ready(jobs[1])
        await_all(engine, handles[:1])
        assert turns(jobs[0]) == ["0"]
        assert engine.standings([*handles, "9"]) == {handles[0]: "ended", handles[1]: "queued", "9": "gone"}
        addresses = listening(processes(stand_in))
        assert len(addresses) > 3
        assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        engine.cancel(handles)
        assert (jobs[1].folder / "output.txt").read_text() == "saved\n"
        assert turns(jobs[1]) == ["0"]
    finally:
        engine.close()


@pytest.mark.slow
def test_a_node_is_lost_and_every_job_ends_with_its_result(
    tmp_path: Path, stand_in: str, monkeypatch: pytest.MonkeyPatch
):
    with two_nodes(monkeypatch) as nodes:
        engine = Ray(address="auto")
        try:
            jobs = [submission(tmp_path, name, gate=True) for name in "abcd"]
            handles = [engine.submit(job) for job in jobs]
            begun = {is_ready(job): job for job in jobs[:2]}
            nodes.stdin.write("lose the second node\n")
            nodes.stdin.flush()
            lost = begun[await_end(*begun)]
            (other,) = [job for job in begun.values() if job is not lost]
            go(other)
            gates = [threading.Thread(target=pass_gate, args=(job,)) for job in (lost, *jobs[2:])]
            for gate in gates:
                gate.start()
            await_all(engine, handles)
            for gate in gates:
                gate.join()
            assert [len(turns(job)) for job in jobs] == [2 if job is lost else 1 for job in jobs]
            for job in jobs:
                assert (job.folder / "result.txt").read_text() == hashlib.sha256(job.job.encode()).hexdigest()
        finally:
            engine.close()


def pass_gate(job: Submission) -> None:
    is_ready(job)
    go(job)


@pytest.mark.slow
def test_a_killed_driver_of_the_study_leaves_no_job_unsaved(tmp_path: Path, stand_in: str):
    job = submission(tmp_path, "waits", turns=1)
    driver = (
        "import sys, engine_jobs; from pathlib import Path; from rushkit.study.engines import ray\n"
        "ray.worker_arguments = engine_jobs.worker_arguments\n"
        f"engine = ray.Ray(); engine.submit(engine_jobs.submission(Path({str(tmp_path)!r}), 'waits', turns=1))\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    is_ready(job)
    process.kill()
    process.communicate()
    for pid in processes(stand_in):
        await_end(pid)
    assert (job.folder / "output.txt").read_text() == "saved\n"


def test_more_than_this_machine_has(monkeypatch: pytest.MonkeyPatch):
    ray_driver = pytest.importorskip("rushkit.study.engines.ray_driver")
    monkeypatch.setattr(ray_driver.ray, "cluster_resources", lambda: {"CPU": 2.0, "memory": 1e9})
    ray_driver._check_room({"address": "", "cpus": 2, "gpus": 0.0})
    ray_driver._check_room({"address": "auto", "cpus": 64, "gpus": 8.0})
    with pytest.raises(RushkitError, match=r"a job asks for gpus = 0\.5, and this machine has 0"):
        ray_driver._check_room({"address": "", "cpus": 1, "gpus": 0.5})


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RushkitError, match=r"Ray cannot be reached: .*Could not find any running Ray"):
        Ray(address="auto")


def test_a_second_cancellation_does_not_part_a_task_from_its_worker(tmp_path: Path):
    job = submission(tmp_path, "waits", turns=1)
    arguments = [*engine_jobs.worker_arguments(job.job, tmp_path)]

    def cancel_twice() -> None:
        is_ready(job)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    canceller = threading.Thread(target=cancel_twice)
    canceller.start()
    with pytest.raises(KeyboardInterrupt):
        ray_task.work(arguments, str(job.folder / "output.txt"), str(tmp_path), {})
    canceller.join()
    assert (job.folder / "output.txt").read_text() == "saved\n"


def test_a_job_that_another_process_works_on_is_tried_again_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ray_task, "_BUSY_SECONDS", 0.03)
    monkeypatch.setattr(ray_task, "_LOOK_SECONDS", 0.01)
    job = submission(tmp_path, "busy", code=BUSY)
    arguments = engine_jobs.worker_arguments(job.job, tmp_path)
    assert ray_task.work(arguments, str(job.folder / "output.txt"), "/no/such/folder", {}) == BUSY
    assert len(turns(job)) == 4


@pytest.mark.parametrize(
    "options", [{"address": "10.0.0.1:6379"}, {"cpus": 0}, {"cpus": 1.5}, {"gpus": -1.0}, {"memory": "1GB"}]
)
def test_an_option_that_ray_does_not_take(options: dict):
    with pytest.raises(UsageError, match=next(iter(options))) as caught:
        registries.engines.create("ray", **options)
    assert caught.value.hint


def test_without_ray(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs Ray") as caught:
        registries.engines.create("ray")
    assert caught.value.hint == "pip install 'rushkit[ray]'"
