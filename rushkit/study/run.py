"""Run a study: what is not done, in order, on an engine; several ``study run`` of one study share the work.

All state is in files, so that this process can be killed at any moment and started again. Whether a job is done is read
from the folder of runs alone; an engine only says when to look there.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from rushkit.errors import Interrupted, UsageError, did_you_mean, first_few, shorten
from rushkit.run.signals import Stop, graceful_stop
from rushkit.study.claims import Holder, holder
from rushkit.study.engines import Engine, LastWord, Submission, Tells, Waits
from rushkit.study.failure import Failure, clear_failure, read_failure, write_failure
from rushkit.study.job import Role
from rushkit.study.orders import Order, is_done, write_orders
from rushkit.study.places import Places
from rushkit.study.plan import Cell, Plan, Planned
from rushkit.study.state import Standing

# "elsewhere": another process works on it.
Phase = Literal["waiting", "submitted", "running", "elsewhere", "done", "failed", "blocked"]
OVER: tuple[Phase, ...] = ("done", "failed", "blocked")
# How often a job whose process ended without a word is given to another one.
_RETRIES = 1
# Between two looks: the shortest time, the longest, and that for jobs of other processes.
_SHORTEST, _LONGEST, _ELSEWHERE = 0.02, 1.0, 1.0


@dataclass
class Progress:
    """How far a job is.

    Attributes:
        planned: The job.
        cell: The first place of the table that it fills.
        phase: In a word.
        handle: Its submission, while there is one.
        tries: How many submissions ended without a word.
        failure: Why it failed.
        by: Who else works on it, or has done it.
        began: When it began to run, by ``time.monotonic``; None before.
        seconds: How long it ran here.
        before: Whether it was done before.
    """

    planned: Planned
    cell: Cell
    phase: Phase = "waiting"
    handle: str = ""
    tries: int = 0
    failure: Failure | None = None
    by: Holder | None = None
    began: float | None = None
    seconds: float = 0.0
    before: bool = False
    known: Failure | None = None

    @property
    def name(self) -> str:
        """What it is called where people see it."""
        return f"{self.cell.row} {self.cell.seed} {self.cell.stage}"


class Watcher(Protocol):
    """Shows people how a study goes."""

    def changed(self, job: Progress) -> None:
        """Take note that a job is in another phase."""
        ...

    def look(self) -> None:
        """Bring what is shown up to date."""
        ...


@dataclass
class Outcome:
    """How a study went.

    Attributes:
        study: Its name.
        jobs: Every job of it that was asked for, by id.
    """

    study: str
    jobs: Mapping[str, Progress]

    def of(self, *phases: Phase) -> list[Progress]:
        """Return the jobs in some phases, in their order."""
        return [job for job in self.jobs.values() if job.phase in phases]

    @property
    def is_whole(self) -> bool:
        """Whether all jobs are done."""
        return all(job.phase == "done" for job in self.jobs.values())


@dataclass
class Driver:
    """Runs the jobs of a plan on an engine.

    Attributes:
        plan: The plan.
        places: The folder of runs.
        engine: Where the jobs run.
        watcher: Shows how it goes.
        limit: How many submissions there are at a time at most; 0 for as many as the engine takes.
        jobs: How far each job is, by id.
    """

    plan: Plan
    places: Places
    engine: Engine
    watcher: Watcher
    limit: int = 0
    jobs: dict[str, Progress] = field(default_factory=dict)
    _order: dict[str, int] = field(default_factory=dict)
    _dependants: dict[str, list[str]] = field(default_factory=dict)
    _ready: list[int] = field(default_factory=list)
    _handles: dict[str, str] = field(default_factory=dict)
    _elsewhere: set[str] = field(default_factory=set)
    _looked: float = 0.0
    _left: int = 0

    def run(self, standings: Mapping[str, Standing]) -> Outcome:
        """Do what is not done, and return how it went: a failed job fails those that need it, and no other.

        Args:
            standings: How the jobs stand; those that are not in it are left alone.

        Raises:
            Interrupted: a signal asked to stop; the jobs have saved.
            RushkitError: the folder of runs cannot be written, or the engine cannot be reached.
        """
        self._begin(standings)
        with graceful_stop() as stop:
            while self._left and not stop.requested:
                self._submit()
                changed = self._look()
                self.watcher.look()
                if not changed:
                    self._pause()
            if stop.requested:
                self._stop(stop)
        return Outcome(self.plan.study, self.jobs)

    def _begin(self, standings: Mapping[str, Standing]) -> None:
        cells: dict[str, Cell] = {}
        for cell in self.plan.cells:
            cells.setdefault(cell.job, cell)
        for number, identity in enumerate(standings):
            planned = self.plan.jobs[identity]
            self.jobs[identity] = Progress(planned, cells[identity], known=standings[identity].failure)
            self._order[identity] = number
            for need in planned.needs:
                self._dependants.setdefault(need, []).append(identity)
        self._left = len(self.jobs)
        for identity, standing in standings.items():
            if standing.state == "done":
                self.jobs[identity].before = True
                self._set(identity, "done")
        for identity in standings:
            self._consider(identity)

    def _consider(self, identity: str) -> None:
        """Note a job as ready if everything that it needs is done, or on its way in an engine that orders."""
        job = self.jobs[identity]
        if job.phase == "waiting" and all(self._is_met(need) for need in job.planned.needs):
            heapq.heappush(self._ready, self._order[identity])

    def _is_met(self, need: str) -> bool:
        job = self.jobs.get(need)
        # What is not among the jobs that were asked for is done: its results are kept.
        if job is None or job.phase == "done":
            return True
        return self.engine.orders and bool(job.handle)

    def _submit(self) -> None:
        """Submit what is ready, as far as the engine takes it."""
        slots = self.engine.slots
        most = min(number for number in (self.limit or None, slots, len(self.jobs)) if number is not None)
        identities = list(self._order)
        while self._ready and len(self._handles) < most:
            identity = identities[heapq.heappop(self._ready)]
            if self.jobs[identity].phase == "waiting":
                self._submit_one(identity)

    def _submit_one(self, identity: str) -> None:
        job, folder = self.jobs[identity], self.places.job_folder(identity)
        if self._is_settled(identity):
            return
        cell = job.cell
        sources: dict[Role, str] = {role: str(path.resolve()) for role, path in job.planned.sources}
        write_orders(
            self.places, job.planned.job, Order(study=self.plan.study, row=cell.row, seed=cell.seed, sources=sources)
        )
        clear_failure(folder)
        job.known = None
        after = tuple(self.jobs[need].handle for need in job.planned.needs if need in self.jobs)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{cell.row}-{cell.seed}-{cell.stage}").strip("-.")
        runs = self.places.runs.resolve()
        job.handle = self.engine.submit(Submission(identity, runs, folder, name, tuple(filter(None, after))))
        self._handles[identity] = job.handle
        self._set(identity, "submitted")

    def _is_settled(self, identity: str) -> bool:
        """Take up what other processes did to a job meanwhile, and return whether there is nothing left to submit."""
        job, folder = self.jobs[identity], self.places.job_folder(identity)
        if is_done(self.places, identity):
            self._set(identity, "done")
            return True
        job.by = holder(folder)
        if job.by is not None:
            self._elsewhere.add(identity)
            self._set(identity, "elsewhere")
            return True
        failure = read_failure(folder)
        if failure is not None and failure != job.known:
            job.failure = failure
            self._set(identity, "failed")
            return True
        return False

    def _look(self) -> bool:
        """Look how the submissions stand, and return whether anything changed."""
        changed = False
        standings = self.engine.standings(list(self._handles.values())) if self._handles else {}
        for identity, handle in list(self._handles.items()):
            standing = standings.get(handle, "gone")
            if standing == "running" and self.jobs[identity].phase == "submitted":
                self._set(identity, "running")
            elif standing in ("ended", "gone"):
                changed = True
                self._end(identity, handle)
        now = time.monotonic()
        if self._elsewhere and now - self._looked >= _ELSEWHERE:
            self._looked = now
            for identity in list(self._elsewhere):
                if holder(self.places.job_folder(identity)) is None:
                    changed = True
                    self._elsewhere.remove(identity)
                    self._again(identity)
        return changed

    def _end(self, identity: str, handle: str) -> None:
        """Take up how a submission ended."""
        job, folder = self.jobs[identity], self.places.job_folder(identity)
        del self._handles[identity]
        job.handle = ""
        word = self.engine.last_word(handle) if isinstance(self.engine, Tells) else None
        if self._is_settled(identity):
            return
        if word is not None and not word.died:
            # It could not even write its failure down.
            job.failure = Failure(type="Unwritten", message=word.message, hint=word.hint)
            self._set(identity, "failed")
        elif any(need in self.jobs and self.jobs[need].phase != "done" for need in job.planned.needs):
            # An engine that orders gave it up with what it waits for.
            self._again(identity)
        elif job.tries < _RETRIES:
            job.tries += 1
            self._again(identity)
        else:
            job.failure = _died(word, job.tries + 1)
            write_failure(folder, job.failure)
            self._set(identity, "failed")

    def _again(self, identity: str) -> None:
        self._set(identity, "waiting")
        self._consider(identity)

    def _set(self, identity: str, phase: Phase) -> None:
        """Put a job into a phase, with what follows from it for those that need it."""
        job = self.jobs[identity]
        if phase == "running":
            job.began = time.monotonic()
        elif phase in OVER and job.began is not None:
            job.seconds = time.monotonic() - job.began
        job.phase = phase
        self._left -= phase in OVER
        self.watcher.changed(job)
        if phase in ("failed", "blocked"):
            self._block(self._dependants.get(identity, ()))
        elif phase in ("done", "submitted"):
            for dependant in self._dependants.get(identity, ()):
                self._consider(dependant)

    def _block(self, identities: Iterable[str]) -> None:
        for identity in identities:
            job = self.jobs[identity]
            if job.phase in OVER:
                continue
            if handle := self._handles.pop(identity, ""):
                self.engine.cancel([handle])
            self._set(identity, "blocked")

    def _pause(self) -> None:
        longest = _ELSEWHERE if self._elsewhere else _LONGEST
        if isinstance(self.engine, Waits):
            self.engine.wait(min(longest, 0.25))
        else:
            time.sleep(_SHORTEST if self.engine.slots is not None else longest)

    def _stop(self, stop: Stop) -> None:
        """Stop the jobs, which save, and raise Interrupted."""
        running = list(self._handles.values())
        self.engine.cancel(running)
        saved = f"{len(running)} job{'s' * (len(running) != 1)} saved" if running else "no job was running"
        done = len([job for job in self.jobs.values() if job.phase == "done"])
        raise Interrupted(
            f"stopped; {saved}; {done} of {len(self.jobs)} are done",
            "the same command goes on from there",
        )


def asked_for(plan: Plan, standings: Mapping[str, Standing], rows: Sequence[str]) -> dict[str, Standing]:
    """Return how the jobs stand that some rows need, in the order of the plan; of all rows, where none is named.

    Raises:
        UsageError: there is no such row.
    """
    if not rows:
        return dict(standings)
    known = {cell.row for cell in plan.cells}
    if strange := [row for row in rows if row not in known]:
        near = did_you_mean(strange[0], known)
        raise UsageError(f"the study has no row {shorten(strange[0])!r}", near or f"it has: {first_few(sorted(known))}")
    wanted = {cell.job for cell in plan.cells if cell.row in rows}
    for planned in reversed(plan.jobs.values()):
        if planned.id in wanted:
            wanted.update(planned.needs)
    return {identity: standing for identity, standing in standings.items() if identity in wanted}


def _died(word: LastWord | None, attempts: int) -> Failure:
    how = f": {word.message}" if word is not None else ""
    hint = word.hint if word is not None and word.hint else "what it printed is in output.txt of the job's folder"
    return Failure(type="Died", message=f"died without a word{how}", hint=hint, attempt=attempts)
