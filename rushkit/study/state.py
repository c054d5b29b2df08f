"""How the jobs of a plan stand, told by files alone: a look at all of them, at ten thousand within two seconds.

A job is done if the results.json of its run names its whole id, or if its results are kept beside the study's file.
Kept results have no weights: a job that starts from them needs the job that made them to run again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import rushkit
from rushkit.paths import open_file, read_file
from rushkit.results.records import MAX_BYTES, RESULTS_FILE, load_json
from rushkit.run.names import RUN_FILE
from rushkit.study.claims import Holder, holder
from rushkit.study.failure import Failure, read_failure
from rushkit.study.places import SHORT, Places
from rushkit.study.plan import Plan, Planned

State = Literal["done", "running", "interrupted", "failed", "blocked", "ready", "waiting"]
STATES: tuple[State, ...] = get_args(State)

# How results.json begins where it is of a job: the keys have a fixed order.
_HEAD = re.compile(rb'\{\s*"job":\s*"([0-9a-f]{64})"')
_HEAD_BYTES = 128
_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        state: In a word.
        results: Where its results lie: its run folder, or the file that is kept of them; None without results.
        kept: Whether its results are those kept beside the study's file.
        version: The version of rushkit that made the results in its run folder; empty where that is not known.
        again: Whether its results are kept, and it must run again since a job that is not done needs its weights.
        failure: Why its last attempt failed.
        holder: Who works on it.
        because: Ids of the jobs that it waits for, or that block it.
    """

    state: State
    results: Path | None = None
    kept: bool = False
    version: str = ""
    again: bool = False
    failure: Failure | None = None
    holder: Holder | None = None
    because: tuple[str, ...] = ()

    @property
    def is_of_another_version(self) -> bool:
        """Whether another version of rushkit made the results: they are taken only on request."""
        return bool(self.version) and self.version != rushkit.__version__


def standings(plan: Plan, runs: Path) -> dict[str, Standing]:
    """Return how each job of a plan stands, by id, in the order of the plan.

    Args:
        plan: The plan.
        runs: The folder of runs; it need not exist.
    """
    places = Places(runs)
    run_folders = _names(runs)
    job_folders = _names(places.jobs)
    kept = _kept(plan)
    found: dict[str, Standing] = {}
    for job in plan.jobs:
        found[job] = _by_itself(job, places, run_folders, job_folders, kept)
    again = _run_again(plan, found)
    for planned in plan.jobs.values():
        found[planned.id] = _among_others(planned, found, planned.id in again)
    return found


def counts(standings: Mapping[str, Standing]) -> dict[State, int]:
    """Return how many jobs stand in each state, those without any left out."""
    number = dict.fromkeys(STATES, 0)
    for standing in standings.values():
        number[standing.state] += 1
    return {state: count for state, count in number.items() if count}


def job_of_results(path: Path) -> str:
    """Return the job that a results.json names; empty for none, and where the file cannot be read.

    The rest of the file is not checked: whoever uses its figures reads it as a record.
    """
    try:
        with open_file(path) as file:
            if found := _HEAD.match(file.read(_HEAD_BYTES)):
                return found[1].decode()
        table = load_json(read_file(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    job = table.get("job") if isinstance(table, dict) else None
    return job if isinstance(job, str) else ""


def _by_itself(
    job: str, places: Places, run_folders: Container[str], job_folders: Container[str], kept: Mapping[str, Path]
) -> Standing:
    """Return how a job stands that waits for nothing."""
    folder, about = places.run_folder(job), places.job_folder(job)
    has_run = folder.name in run_folders
    if has_run and job_of_results(folder / RESULTS_FILE) == job:
        return Standing("done", folder, version=_version(folder))
    file = kept.get(job[:SHORT])
    results = file if file is not None and job_of_results(file) == job else None
    state: State = "interrupted" if has_run else "ready"
    worker = failure = None
    if about.name in job_folders:
        worker, failure = holder(about), read_failure(about)
        state = "running" if worker else "failed" if failure else state
    return Standing(state, results, results is not None, failure=failure, holder=worker)


def _run_again(plan: Plan, found: Mapping[str, Standing]) -> set[str]:
    """Return the jobs whose results are kept, and whose weights are needed by a job that must run."""
    again: set[str] = set()
    for planned in reversed(plan.jobs.values()):
        standing = found[planned.id]
        if planned.id in again or not (standing.state == "done" or standing.kept):
            again |= {need for need in planned.needs if found[need].kept}
    return again


def _among_others(planned: Planned, found: Mapping[str, Standing], again: bool) -> Standing:
    """Return how a job stands, given those that it needs, and whether it runs although its results are kept."""
    standing = found[planned.id]
    if standing.kept and not again and standing.state != "running":
        return replace(standing, state="done", failure=None)
    if standing.state in ("failed", "running", "done"):
        return replace(standing, again=again)
    blocking = tuple(need for need in planned.needs if found[need].state in ("failed", "blocked"))
    if blocking:
        return replace(standing, state="blocked", because=blocking, again=again)
    missing = tuple(need for need in planned.needs if not has_weights(found[need]))
    return replace(standing, state="waiting" if missing else standing.state, because=missing, again=again)


def has_weights(standing: Standing) -> bool:
    """Return whether a job is done and other jobs can start from what it made."""
    return standing.state == "done" and not standing.kept


def _names(folder: Path) -> set[str]:
    """Return the names in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()


def _kept(plan: Plan) -> dict[str, Path]:
    """Return the files of kept results, by the first digits of their job."""
    folder = plan.kept
    if folder is None:
        return {}
    return {name.removesuffix(".json"): folder / name for name in _names(folder) if name.endswith(".json")}


def _version(folder: Path) -> str:
    """Return the version of rushkit that made a run; empty where run.json does not say."""
    try:
        table = load_json(read_file(folder / RUN_FILE, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    versions = table.get("versions") if isinstance(table, dict) else None
    version = versions.get("rushkit") if isinstance(versions, dict) else None
    return version if isinstance(version, str) else ""
