"""A plan of ten thousand jobs: how long it takes to make, and to read how all of them stand.

    OMP_NUM_THREADS=1 python benchmarks/many_jobs.py

The study has 250 rows of four stages and ten seeds. Its jobs are not run: every run folder that a worker would leave is
written beforehand, with a results.json and a run.json, for half of the jobs; a quarter has failed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import rushkit
from rushkit.study.failure import Failure, write_failure
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.places import Places
from rushkit.study.plan import Plan
from rushkit.study.state import counts, standings

_Made = TypeVar("_Made")

HEAD = """schema = 1
title = "many jobs"
seeds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
[[stage]]
do = "pretrain"
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
[[stage]]
do = "attack"
"""


def study(rows: int) -> str:
    """Return the text of a study with so many rows, no two of them alike."""
    row = '[[row]]\nlabel = "row {0}"\nrecipe = "digits"\nset = {{ pretrain.temperature = {1} }}\n'
    return HEAD + "".join(row.format(index, (index + 1) / 1000) for index in range(rows))


def leave(plan: Plan, runs: Path) -> None:
    """Write what workers would have left of the jobs."""
    places = Places(runs)
    for index, job in enumerate(plan.jobs):
        if index < len(plan.jobs) // 2:
            folder = places.run_folder(job)
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps({"versions": {"rushkit": rushkit.__version__}}))
            (folder / "results.json").write_text(json.dumps({"job": job, "outcomes": list(range(2000))}, indent=2))
        elif index < 3 * len(plan.jobs) // 4:
            folder = places.job_folder(job)
            folder.mkdir(parents=True)
            write_failure(folder, Failure(type="DataError", message="no such file"))


def timed(what: str, call: Callable[[], _Made]) -> _Made:
    """Call, print the seconds, and return the result."""
    started, work = time.perf_counter(), time.process_time()
    made = call()
    print(f"{what}: {time.perf_counter() - started:.2f} s, of the processor {time.process_time() - work:.2f} s")
    return made


def main() -> None:
    """Measure both, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=250, help="rows of the study; each has 40 jobs")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        text = study(rows)
        timed("a plan of one row, imports included", lambda: make_plan(parse_study(study(1), runs / "one.toml"), runs))
        plan = timed(f"a plan of {40 * rows} jobs", lambda: make_plan(parse_study(text, runs / "many_jobs.toml"), runs))
        assert len(plan.jobs) == 40 * rows
        leave(plan, runs)
        print(counts(timed("how they stand", lambda: standings(plan, runs))))


if __name__ == "__main__":
    main()
