"""The loop of all long work that can be stopped and resumed: rounds over the ranks, the log, the bar, the signal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from rushkit.bar import Progress
from rushkit.distributed import ranks
from rushkit.errors import Interrupted, RushkitError, shell_line
from rushkit.run.folder import Run
from rushkit.run.log import BlockLog, Check
from rushkit.run.signals import Stop, graceful_stop
from rushkit.run.speaker import Speaker

Item = TypeVar("Item")
# A line of a log: a JSON object.
Line = dict[str, Any]


def images_of(line: Line) -> int:
    """Return how many images a line of a log is about."""
    return len(line["images"])


class SharedLog:
    """A log of what is done that every rank knows and rank 0 writes: see ``BlockLog``.

    Args:
        run: Whose folder ``counts`` takes the file.
        name: The file's name.
        subject: What the lines depend on; a file about something else is refused.
        check: Raises ValueError where the lines are not what the work writes.
        units: How many units of the bar a line stands for.

    Attributes:
        lines: Those so far, in order; ``append`` adds to it.

    Raises:
        RushkitError: the file is about another subject, or damaged before its last line.
    """

    def __init__(
        self, run: Run, name: str | Path, subject: Line, check: Check, units: Callable[[Line], int] = images_of
    ) -> None:
        self._log = BlockLog(run.subfolder("counts") / name, subject, check) if run.writes else None
        self._units = units
        self.lines: list[Line] = ranks.broadcast(None if self._log is None else self._log.records())

    @property
    def done(self) -> int:
        """How many units the lines so far stand for."""
        return sum(self._units(line) for line in self.lines)

    def append(self, line: Line) -> int:
        """Add a line, on every rank; returns how many units it stands for."""
        if self._log is not None:
            self._log.append(line)
        self.lines.append(line)
        return self._units(line)

    def seal(self) -> Line:
        """Return how many lines there are and the hash of the last, on every rank."""
        sealed: Line = ranks.broadcast(None if self._log is None else self._log.seal)
        return sealed


@dataclass(frozen=True)
class Made:
    """What a rank made of an item.

    Attributes:
        line: For the log, and for the other ranks.
        keep: Called on the rank that made it, before the line is written; not where the line is lost to a stop.
    """

    line: Line
    keep: Callable[[], None] = lambda: None


class ItemFailed(RushkitError):
    """An item raised an error that its work knows about, on some rank. ``__cause__`` is the error, on that rank."""


class Work:
    """Long work under way: get one from ``resumable``.

    Args:
        bar: Shows how far it is.
        stop: Whether a signal asked to stop.
        speaker: Where details go.
        stopped: From the units that are done to the error of a stop.
        log: Takes the lines of what is done; None: nothing is logged.

    Attributes:
        bar: As given.
        speaker: As given.
    """

    def __init__(
        self,
        bar: Progress,
        stop: Stop,
        speaker: Speaker,
        stopped: Callable[[int], Interrupted],
        log: SharedLog | None = None,
    ) -> None:
        self.bar, self.speaker = bar, speaker
        self._stop, self._stopped, self._log = stop, stopped, log

    @property
    def stop_requested(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._stop.requested

    def pause(self) -> None:
        """Between two parts of an item that this rank makes by itself: show life, and raise Interrupted on request."""
        self.bar.advance(0)
        if self.stop_requested:
            raise self._stopped(self.bar.done)

    def pause_if_alone(self) -> None:
        """Between two parts of an item that all ranks make together: one of several cannot stop without the others."""
        if ranks.world() == 1 and self.stop_requested:
            raise self._stopped(self.bar.done)

    def stop_together(self, stopped_here: bool = False) -> None:
        """Raise Interrupted on all ranks where one was asked to stop, or did; all of them must call it."""
        if ranks.any_rank(stopped_here or self.stop_requested):
            raise self._stopped(self.bar.done)

    def in_rounds(
        self,
        items: Sequence[Item],
        make: Callable[[Item], Made],
        fails: Callable[[Exception], bool] = lambda error: False,
    ) -> Iterator[Line]:
        """Make each item on one rank, an item a rank in each round, and log it; yields the lines in order, everywhere.

        A line must not depend on the rank that makes it, so that a run may go on with another number of ranks. Lines
        are kept in order: those behind a rank that stopped in the middle of its item are lost.

        Args:
            items: What is left to do.
            make: Makes one; may call ``pause`` between two parts.
            fails: Whether an error of ``make`` ends the work on every rank alike, once the lines of the round are kept.
                Any other error passes through at once.

        Raises:
            Interrupted: a signal asked to stop; the lines so far are kept.
            ItemFailed: an item raised an error for which ``fails`` holds.
        """
        for first in range(0, len(items), ranks.world()):
            made, stopped, failure = None, False, None
            for item in ranks.own(items[first : first + ranks.world()]):
                try:
                    made = make(item)
                except Interrupted:
                    stopped = True
                except Exception as error:
                    if not fails(error):
                        raise
                    failure = error
            lines = list(takewhile(bool, ranks.gather(None if made is None else made.line)))
            if made is not None and ranks.rank() < len(lines):
                made.keep()
            ranks.wait()
            for line in lines:
                self._note(line)
                yield line
            self.stop_together(stopped)
            if (anywhere := _failure_anywhere(failure)) is not None:
                raise anywhere from failure

    def together(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Log each line as all ranks have made it together; yields it, and stops on request before the next is made.

        Raises:
            Interrupted: a signal asked to stop; the lines so far are kept.
        """
        for line in lines:
            self._note(line)
            yield line
            self.stop_together()

    def _note(self, line: Line) -> None:
        self.bar.advance(images_of(line) if self._log is None else self._log.append(line))


@contextmanager
def resumable(
    run: Run,
    log: SharedLog | None,
    *,
    verb: str,
    label: str,
    unit: str,
    total: int | None,
    kept: Callable[[int], str],
    notice: str = "stopping",
) -> Iterator[Work]:
    """Show the bar of long work, and turn signals into a stop between two items, which says how to go on.

    There are three ways to deal the work out. Items that one rank can make alone (blocks of an attack, of a transfer)::

        log = SharedLog(run, f"{job.name}.jsonl", subject, check)
        starts = range(log.done, len(split), size)

        def make(start: int) -> Made:
            line, x_adv = attack_block(..., pause=work.pause)
            return Made(line, partial(saved_images.keep, start, x_adv, y))

        with resumable(run, log, verb="attack", label=job.name, unit="images", total=len(split), kept=...) as work:
            for line in work.in_rounds(starts, make, fails=is_of_attack):
                ...

    Items that all ranks make together (the draws of a certification)::

        with resumable(run, log, verb="certify", label="certify", unit="draws", total=total, kept=...) as work:
            for line in work.together(draw_records(replace(job, pause=work.pause_if_alone), ..., log.lines)):
                ...

    Items of very different costs that keep files of their own (an audit): the stage deals them out by
    ``ranks.own_by_cost``, asks ``work.stop_requested`` between two of them, calls ``work.bar.advance``, and at the end,
    on every rank, ``work.stop_together``.

    Args:
        run: Whose folder and whose speaker.
        log: What is done already, and where lines go; None: the stage keeps what it needs by itself.
        verb: The command whose ``--resume`` goes on with the run.
        label: Of the bar.
        unit: What the bar counts.
        total: How many units there are, those that are done among them; None: nobody knows.
        kept: From the units that are done to what a stop says of them: "the counts of 200 draws are kept".
        notice: What the first signal hears at once.
    """

    def stopped(done: int) -> Interrupted:
        go_on = shell_line("rushkit", verb, "--resume", "--run", run.path)
        return Interrupted(f"stopped; {kept(done)}", f"go on with: {go_on}")

    start = 0 if log is None else log.done
    with (
        graceful_stop(lambda name: run.speaker.say(f"{name}: {notice}")) as stop,
        run.speaker.progress(total, label, unit, start=start) as bar,
    ):
        yield Work(bar, stop, run.speaker, stopped, log)


def unattended() -> Work:
    """Return work without a run: nothing is shown, nothing is logged, and no signal is caught."""
    return Work(Progress(None, "", quiet=True), Stop(), Speaker(-1), lambda done: Interrupted("stopped"))


def _failure_anywhere(error: Exception | None) -> ItemFailed | None:
    """Return this rank's error, or that of another one, for every rank to raise; every rank calls it."""
    message, hint = None, None
    if isinstance(error, RushkitError):
        message, hint = error.message, error.hint
    elif error is not None:
        message = f"{type(error).__name__}: {error}"
    told = next((pair for pair in ranks.gather([message, hint]) if pair[0] is not None), None)
    return None if told is None else ItemFailed(*told)
