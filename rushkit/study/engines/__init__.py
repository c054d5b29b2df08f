"""What an engine is: it runs jobs somewhere, and says how each stands. See docs/scaling.md for those that there are.

An engine moves no results. A job's worker writes its run into the folder of runs, which all machines see, and whether a
job is done is read from there alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

# "ended" is over, however it went; "gone" is not known to the engine any more, and nobody works on it.
Standing = Literal["queued", "running", "ended", "gone"]


@dataclass(frozen=True)
class Submission:
    """A job that an engine is asked to run.

    Attributes:
        job: Its id.
        runs: The folder of runs.
        folder: The folder for what its process prints; it exists.
        name: What it is called where people see it, such as ``"rush-0-pretrain"``.
        after: Handles of submissions that must end well before it; only for an engine that ``orders``.
    """

    job: str
    runs: Path
    folder: Path
    name: str
    after: tuple[str, ...] = ()


@runtime_checkable
class Engine(Protocol):
    """Runs jobs. Its factory takes the options of ``[engine.NAME]``.

    Attributes:
        orders: Whether it makes a submission wait for others itself. If not, the jobs that a submission needs are done
            when it is submitted.
        slots: How many submissions it works on at a time; None if that is not ours to know.
    """

    orders: bool
    slots: int | None

    def submit(self, submission: Submission) -> str:
        """Submit a job and return its handle. Raises RushkitError if the engine refuses it or cannot be reached."""
        ...

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        """Return how submissions stand, in one look for all of them."""
        ...

    def cancel(self, handles: Sequence[str]) -> None:
        """Ask submissions to save and stop, and return when they have."""
        ...

    def close(self) -> None:
        """Release what the engine holds. An engine of this process cancels what still runs."""
        ...


@dataclass(frozen=True)
class LastWord:
    """What an engine knows of the end of a submission beside what lies in the folder of runs.

    Attributes:
        died: Whether its process ended without a word of its own, such as by a signal.
        message: How it ended, or what its process said last.
        hint: What to do about it; empty where nothing is known.
    """

    died: bool
    message: str
    hint: str = ""


@runtime_checkable
class Tells(Protocol):
    """An engine that can say how a submission ended."""

    def last_word(self, handle: str) -> LastWord | None:
        """Return what is known of the end of a submission; None if nothing is."""
        ...


@runtime_checkable
class Waits(Protocol):
    """An engine that knows when to look again."""

    def wait(self, seconds: float) -> None:
        """Return as soon as a submission may stand differently, or after so many seconds."""
        ...
