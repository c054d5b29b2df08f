"""Jobs of a stand-in worker, as engines are asked to run them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from rushkit.study.engines import Submission
from rushkit.study.places import Places

WORKER = Path(__file__).with_name("stand_in_worker.py")


def worker_arguments(job: str, runs: Path) -> list[str]:
    return [str(WORKER), job, str(runs)]


def submission(runs: Path, name: str, after: tuple[str, ...] = (), **plan: Any) -> Submission:
    """A job that does what a plan says; see ``stand_in_worker``."""
    job = hashlib.sha256(name.encode()).hexdigest()
    folder = Places(runs).job_folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    for pipe in ("ready", "go"):
        if ("turns" in plan or "gate" in plan) and not (folder / pipe).exists():
            os.mkfifo(folder / pipe)
    return Submission(job, runs, folder, name, after)


def is_ready(job: Submission) -> int:
    """Wait until a job waits for its signal, and return the process id of its worker."""
    return int((job.folder / "ready").read_text())


def go(job: Submission) -> None:
    """Let a job go on that waits at its gate."""
    (job.folder / "go").write_text("go\n")


def turns(job: Submission) -> list[str]:
    """What a job's turns started from, in their order."""
    return [line.split()[-1] for line in (job.folder / "turns.txt").read_text().splitlines()]
