"""Small studies, and engines that run them in the process of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rushkit.results import read
from rushkit.study.engines import Engine, LastWord, Standing, Submission
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan
from rushkit.study.places import Places
from rushkit.study.plan import Plan
from rushkit.study.run import Driver, Outcome, Progress, asked_for
from rushkit.study.state import standings
from rushkit.study.work import work_on

TEXT = """
schema = 1
title = "a small study"
seeds = [0, 1]
[[stage]]
do = "pretrain"
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
[[row]]
label = "A"
recipe = "digits"
[[row]]
label = "B"
recipe = "digits"
set = { pretrain.epochs = 2 }
"""


@dataclass
class Inline:
    """An engine that does each job at once, in this process."""

    orders: bool = False
    slots: int | None = 1
    submissions: list[Submission] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def submit(self, submission: Submission) -> str:
        self.submissions.append(submission)
        self.do(submission)
        return str(len(self.submissions))

    def do(self, submission: Submission) -> None:
        work_on(Places(submission.runs), submission.job)

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        return dict.fromkeys(handles, "ended")

    def cancel(self, handles: Sequence[str]) -> None:
        self.cancelled += handles

    def close(self) -> None:
        return

    def wait(self, seconds: float) -> None:
        return


@dataclass
class Deadly(Inline):
    """An engine whose processes die before they do anything."""

    word: LastWord = field(default_factory=lambda: LastWord(True, "killed by SIGKILL"))

    def do(self, submission: Submission) -> None:
        return

    def last_word(self, handle: str) -> LastWord:
        return self.word


@dataclass
class Queue(Inline):
    """An engine that makes submissions wait for others itself; one ends at each look."""

    orders: bool = True
    slots: int | None = None
    over: int = 0

    def do(self, submission: Submission) -> None:
        return

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        if self.over < len(self.submissions):
            Inline.do(self, self.submissions[self.over])
            self.over += 1
        return {handle: "ended" if int(handle) <= self.over else "queued" for handle in handles}


@dataclass
class Watch:
    """Keeps the phases that jobs went through, and calls something at each look."""

    phases: list[tuple[str, str]] = field(default_factory=list)
    at_look: Callable[[], None] = lambda: None

    def changed(self, job: Progress) -> None:
        self.phases.append((job.name, job.phase))

    def look(self) -> None:
        self.at_look()


@dataclass
class Small:
    """A study in a folder of its own."""

    folder: Path
    text: str = TEXT

    @property
    def places(self) -> Places:
        return Places(self.folder / "runs")

    @property
    def plan(self) -> Plan:
        return make_plan(parse_study(self.text, Path("small.toml")), self.places.runs)

    def run(self, engine: Engine | None = None, watch: Watch | None = None, rows: Sequence[str] = ()) -> Outcome:
        plan = self.plan
        found = asked_for(plan, standings(plan, self.places.runs), rows)
        return Driver(plan, self.places, engine or Inline(), watch or Watch()).run(found)

    def ask(self, what: str) -> Path:
        path = self.folder / what
        path.touch()
        return path

    def job(self, row: str, seed: int, stage: str) -> str:
        (job,) = (cell.job for cell in self.plan.cells if (cell.row, cell.seed, cell.stage) == (row, seed, stage))
        return job

    def events(self, kind: str) -> list[str]:
        """What the stubs wrote, without their process."""
        try:
            lines = (self.folder / "ledger").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.rpartition(" ")[0].partition(" ")[2] for line in lines if line.startswith(f"{kind} ")]

    def losses(self) -> dict[str, float]:
        """The figure of each job that is done."""
        read_all = {job: read(self.places.run_folder(job)) for job in self.plan.jobs}
        return {job: results.loss for job, results in read_all.items() if results is not None}


def states(outcome: Outcome) -> dict[str, str]:
    return {job.name: job.phase for job in outcome.jobs.values()}
