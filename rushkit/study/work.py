"""Do one job of a study: claim it, run its stage, and leave word of how it went."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rushkit.errors import Busy, Interrupted, Replaced, RushkitError
from rushkit.results.base import StageResults
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.study.claims import take
from rushkit.study.failure import Failure, clear_failure, failure_of, write_failure
from rushkit.study.orders import check_id, is_done, read_job, read_order
from rushkit.study.places import Places

# "busy": another process works on it, or has taken it over.
Ending = Literal["done", "failed", "busy"]


@dataclass(frozen=True)
class Ended:
    """How an attempt at a job ended.

    Attributes:
        how: In a word.
        failure: What went wrong, or who else works on it; None if it is done.
    """

    how: Ending
    failure: Failure | None = None


def draw_nothing(run: Run, results: StageResults) -> None:
    """Draw no figures of a finished stage."""


def work_on(
    places: Places,
    job: str,
    draw: Callable[[Run, StageResults], None] = draw_nothing,
    speaker: Speaker | None = None,
) -> Ended:
    """Do a job, or go on with one that was stopped; a job that is done is left as it is.

    A failure is written to the job's folder as well, and is forgotten once the job is done.

    Args:
        places: The folder of runs.
        job: The id.
        draw: Draws the figures of a finished stage into its run.
        speaker: Prints the messages of the stage.

    Raises:
        UsageError: there is no such job, or its id is none.
        DataError: its files are damaged.
        Interrupted: a signal asked to stop; everything is saved.
        RushkitError: the job's folder cannot be written.
    """
    folder = places.job_folder(check_id(job))
    computed, order = read_job(places, job), read_order(places, job)
    try:
        claim = take(folder)
    except Busy as error:
        return Ended("done") if is_done(places, job) else Ended("busy", failure_of(error, 1))
    with claim:
        if is_done(places, job):
            clear_failure(folder)
            return Ended("done")
        # Imported here: a job that another process has done needs no torch.
        from rushkit.study.perform import perform

        try:
            perform(places, computed, order, claim.check, draw, speaker)
        except (Interrupted, KeyboardInterrupt):
            raise
        except (Busy, Replaced) as error:
            return Ended("busy", failure_of(error, claim.number))
        except Exception as error:  # noqa: BLE001 - whatever a stage raises fails this job, and no other
            return Ended("failed", _note(error, claim.number, places, job))
        clear_failure(folder)
        return Ended("done")


def _note(error: Exception, attempt: int, places: Places, job: str) -> Failure:
    """Write down why a job failed, and return it; the traceback of a bug goes to stderr."""
    if not isinstance(error, RushkitError):
        sys.stderr.write("".join(traceback.format_exception(error)))
    failure = failure_of(error, attempt)
    # Where the folder cannot be written, which may be the very reason, the worker's own word has to do.
    with contextlib.suppress(RushkitError):
        write_failure(places.job_folder(job), failure)
    return failure
