"""Where the files of studies lie, in the folder of runs.

runs/
  job-<first 16 digits of the id>/     the run folder of a job, like any other run
  studies/
    jobs/<16 digits>/
      job.json                         what it computes (``Job``), written once by whoever plans it first
      order.json                       for which study and row, and where its sources lie (``orders``)
      claim.<n>                        who works on it: the highest n (see ``claims``)
      failure.json                     why its last attempt failed; none once it is done
      output.txt                       what its process printed
    <name of a study>/                 its report, and what `study run` keeps of it

A job is done if, and only if, the results.json of its run names its id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Digits of an id in the names of folders; the whole id is checked where a file is read.
SHORT = 16
JOB_FILE, ORDER_FILE, FAILURE_FILE, OUTPUT_FILE = "job.json", "order.json", "failure.json", "output.txt"


@dataclass(frozen=True)
class Places:
    """The places of studies under one folder of runs.

    Attributes:
        runs: The folder of runs, which every worker sees.
    """

    runs: Path

    def run_folder(self, job: str) -> Path:
        """Return the run folder of a job, whether it is there or not."""
        return self.runs / f"job-{job[:SHORT]}"

    def job_folder(self, job: str) -> Path:
        """Return the folder with what is known of a job beside its run."""
        return self.jobs / job[:SHORT]

    @property
    def jobs(self) -> Path:
        """The folder with what is known of all jobs."""
        return self.runs / "studies" / "jobs"

    def study_folder(self, name: str) -> Path:
        """Return the folder of a study."""
        return self.runs / "studies" / name
