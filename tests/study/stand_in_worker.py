"""A worker of one job for tests of engines: ``stand_in_worker.py JOB RUNS``.

The job's folder says what it does: ``code``, the exit code at its end; ``turns``, how many times it must be stopped
before it ends, saving a checkpoint each time; ``stuck``, whether it saves nothing; ``gate``, whether it waits for a
line in the pipe ``go`` of that folder. Before it waits it writes a line into the pipe ``ready``.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

job, runs = sys.argv[1], Path(sys.argv[2])
folder, checkpoints = runs / "studies" / "jobs" / job[:16], runs / f"job-{job[:16]}" / "checkpoints"
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
plan = json.loads((folder / "plan.json").read_text())
checkpoints.mkdir(parents=True, exist_ok=True)
turn = len(list(checkpoints.iterdir()))
with (folder / "turns.txt").open("a") as file:
    file.write(f"{os.getpid()} from {turn}\n")
if turn < plan.get("turns", 0):
    with (folder / "ready").open("w") as pipe:
        pipe.write(f"{os.getpid()}\n")
    signal.sigwait({signal.SIGTERM})
    if not plan.get("stuck"):
        (checkpoints / f"step-{turn + 1:06d}.safetensors").write_text(str(turn))
    print("saved", flush=True)
    sys.exit(130)
if plan.get("gate"):
    with (folder / "ready").open("w") as pipe:
        pipe.write(f"{os.getpid()}\n")
    (folder / "go").read_text()
(folder / "result.txt").write_text(hashlib.sha256(job.encode()).hexdigest())
print("done", flush=True)
sys.exit(plan.get("code", 0))
