"""How an engine starts the worker of one job, and what the worker's exit code means.

0: the job is done. 1: it failed, or a job that it needs did. 130: it was interrupted and has saved. ``BUSY``: another
process works on it, so that nothing is known yet.
"""

from __future__ import annotations

from pathlib import Path

# None of those that every command has, nor 75, which a rank has for itself.
BUSY = 4


def worker_arguments(job: str, runs: Path) -> list[str]:
    """Return the arguments with which Python works on a job of a folder of runs; it ends when its stdin closes."""
    return ["-m", "rushkit", "study", "work", "--job", job, "--runs", str(runs), "--leash"]
