"""What a study costs beside its stages: time a job of `study run` and of the engine `local`, with a stage of nothing.

    python benchmarks/engine_work.py --jobs 200

Two studies run, one of a single job and one of ``--jobs`` more; their difference leaves out how long Python and torch
take to start. The bound is 50 ms a job.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from rushkit import registries
from rushkit.registrations import VARIABLE
from rushkit.results.training import Pretraining
from rushkit.study import perform
from rushkit.study.engines.local import Local
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.places import Places
from rushkit.study.run import Driver, Progress
from rushkit.study.state import standings

STUDY = """
schema = 1
title = "nothing"
seeds = {}
[[stage]]
do = "pretrain"
[[row]]
label = "A"
recipe = "digits"
"""


class Silent:
    """Shows nothing."""

    def changed(self, job: Progress) -> None:
        """Take no note."""

    def look(self) -> None:
        """Show nothing."""


def nothing(call: perform.Call) -> Pretraining:
    """Write the results of a training that was not done."""
    return call.run.write_results(Pretraining(recipe="nothing", epochs=1, loss=0.5, knn_protocol=None))


def run(jobs: int, folder: Path) -> tuple[float, float, float]:
    """Run a study, and return the seconds of the clock, of this process, and of the worker."""
    plan = make_plan(parse_study(STUDY.format(list(range(jobs))), folder / "nothing.toml"), folder / "runs")
    found = standings(plan, folder / "runs")
    began, own = time.monotonic(), time.process_time()
    engine = Local(jobs=1)
    outcome = Driver(plan, Places(folder / "runs"), engine, Silent()).run(found)
    engine.close()
    assert outcome.is_whole
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, time.process_time() - own, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, and print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    os.environ[VARIABLE] = str(Path(__file__).resolve())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as many:
        first = run(1, Path(one))
        second = run(jobs + 1, Path(many))
    # The worker's time is that of all workers so far.
    wall, driver, worker = second[0] - first[0], second[1] - first[1], second[2] - 2 * first[2]
    for name, seconds in {"clock": wall, "study run": driver, "worker": worker}.items():
        print(f"{name:>10}: {1000 * seconds / jobs:.1f} ms a job")


if __name__ == "__main__":
    main()
else:
    # As a worker imports it.
    registries.noises.register("nothing")(lambda: None)
    perform.STAGES["pretrain"] = perform.StageCall(nothing)
