"""The loop behind all work that can be stopped and resumed: rounds over the ranks, the log, the bar, and signals."""

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
    """A log of finished work that every rank holds and rank 0 writes; see ``BlockLog``.

    Args:
        run: The run; the file lies in its folder ``counts``.
        name: The file's name.
        subject: The facts that the lines depend on; a file with another subject is refused.
        check: Raises ValueError if the lines could not have been written by this work.
        units: Returns how many units of the bar a line stands for.

    Attributes:
        lines: The lines so far, in order; ``append`` adds to them.

    Raises:
        RushkitError: the file has another subject, or is damaged before its last line.
    """

    def __init__(
        self, run: Run, name: str | Path, subject: Line, check: Check, units: Callable[[Line], int] = images_of
    ) -> None:
        self._run = run
        self._log = BlockLog(run.subfolder("counts") / name, subject, check) if run.writes else None
        self._units = units
        self.lines: list[Line] = ranks.broadcast(None if self._log is None else self._log.records())

    @property
    def done(self) -> int:
        """The number of units that the lines so far stand for."""
        return sum(self._units(line) for line in self.lines)

    @property
    def images(self) -> int:
        """The number of images that the lines so far are about."""
        return sum(images_of(line) for line in self.lines)

    def append(self, line: Line) -> int:
        """Add a line, on every rank, and return how many units it stands for. Raises as a write of the run does."""
        if self._log is not None:
            self._run.check_writable()
            self._log.append(line)
        self.lines.append(line)
        return self._units(line)

    def seal(self) -> Line:
        """Return the number of lines and the hash of the last one, on every rank."""
        sealed: Line = ranks.broadcast(None if self._log is None else self._log.seal)
        return sealed


@dataclass(frozen=True)
class Made:
    """The result of one item of work.

    Attributes:
        line: The line for the log, which the other ranks receive too.
        keep: Called on the rank that did the work before the line is written, unless a stop discards the line.
    """

    line: Line
    keep: Callable[[], None] = lambda: None


class ItemFailed(RushkitError):
    """An item failed with an expected error on some rank; on that rank ``__cause__`` is the error."""


class Work:
    """Work in progress; ``resumable`` yields one.

    Args:
        bar: Displays the progress.
        stop: Whether a signal asked to stop.
        speaker: Prints details.
        stopped: Returns the error of a stop, given the number of units done.
        log: Takes the lines of finished work; None logs nothing.

    Attributes:
        bar: Displays the progress.
        speaker: Prints details.
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
        """Whether a signal asked this rank to stop."""
        return self._stop.requested

    def part(self) -> Work:
        """Return the work on parts of one item: it stops when this work is to stop, and shows and logs nothing."""
        stopped = self._stopped
        return Work(Progress(None, "", quiet=True), self._stop, self.speaker, lambda done: stopped(self.bar.done))

    def pause(self) -> None:
        """Refresh the display and raise Interrupted if asked to stop; call it between parts of a rank's own item."""
        self.bar.advance(0)
        if self.stop_requested:
            raise self._stopped(self.bar.done)

    def stand(self, show: Callable[[], None]) -> None:
        """Do what ``pause`` does, with ``show`` to bring the bar up to date."""
        show()
        if self.stop_requested:
            raise self._stopped(self.bar.done)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Raise Interrupted where a pause inside did so and the code around it made another error out of it."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            if self.stop_requested:
                raise self._stopped(self.bar.done) from error
            raise

    def pause_if_alone(self) -> None:
        """Raise Interrupted if asked to stop, in a single process only; call it between parts of an item ranks share.

        One of several ranks cannot stop without the others.
        """
        if ranks.world() == 1 and self.stop_requested:
            raise self._stopped(self.bar.done)

    def stop_together(self, stopped_here: bool = False) -> None:
        """Raise Interrupted on all ranks if any rank was asked to stop, or has stopped; all ranks must call it."""
        if ranks.any_rank(stopped_here or self.stop_requested):
            raise self._stopped(self.bar.done)

    def in_rounds(
        self,
        items: Sequence[Item],
        make: Callable[[Item], Made],
        fails: Callable[[Exception], bool] = lambda error: False,
    ) -> Iterator[Line]:
        """Work on the items, one per rank in each round, log the lines, and yield them in order on every rank.

        A line must not depend on the rank that makes it, so that a run can resume with another number of ranks. Lines
        are logged in order: if a rank stops in the middle of its item, the lines after that item are lost.

        Args:
            items: The items that are left.
            make: Works on one item; it may call ``pause`` between two parts.
            fails: Returns whether an error of ``make`` ends the work on all ranks after the lines of the round are
                logged. Any other error propagates at once.

        Raises:
            Interrupted: a signal asked to stop; the lines so far are kept.
            ItemFailed: an item raised an error for which ``fails`` returns True.
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
        """Log and yield lines that all ranks make together; if asked to stop, stop before the next line is made.

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
    """Show a progress bar, and turn signals into a stop between two items, with a message on how to resume.

    There are three ways to share the work. Items that a single rank works on (blocks of an attack or a transfer)::

        log = SharedLog(run, f"{job.name}.jsonl", subject, check)
        starts = range(log.done, len(split), size)

        def make(start: int) -> Made:
            line, x_adv = attack_block(..., pause=work.pause)
            return Made(line, partial(saved_images.keep, start, x_adv, y))

        with resumable(run, log, verb="attack", label=job.name, unit="images", total=len(split), kept=...) as work:
            for line in work.in_rounds(starts, make, fails=is_of_attack):
                ...

    Items that all ranks work on together (the draws of a certification)::

        with resumable(run, log, verb="certify", label="certify", unit="draws", total=total, kept=...) as work:
            for line in work.together(draw_records(replace(job, pause=work.pause_if_alone), ..., log.lines)):
                ...

    Items of very different cost, each with a file of its own (an audit): the stage distributes them by
    ``ranks.own_by_cost``, checks ``work.stop_requested`` between two items, calls ``work.bar.advance``, and finally
    calls ``work.stop_together`` on every rank.

    Args:
        run: The run, with its folder and speaker.
        log: Holds the finished lines and takes new ones; None if the stage stores its own results.
        verb: The command that resumes the run, with ``--resume``.
        label: Label of the bar.
        unit: The unit that the bar counts.
        total: Number of units, including finished ones; None if it is unknown.
        kept: Returns what the message of a stop says about the finished units: "the counts of 200 draws are kept".
        notice: The message that is printed as soon as the first signal arrives.
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
    """Return a Work without a run: it displays nothing, logs nothing and catches no signals."""
    return Work(Progress(None, "", quiet=True), Stop(), Speaker(-1), lambda done: Interrupted("stopped"))


def _failure_anywhere(error: Exception | None) -> ItemFailed | None:
    """Return this rank's error, or another rank's, for every rank to raise; all ranks must call it."""
    message, hint = None, None
    if isinstance(error, RushkitError):
        message, hint = error.message, error.hint
    elif error is not None:
        message = f"{type(error).__name__}: {error}"
    told = next((pair for pair in ranks.gather([message, hint]) if pair[0] is not None), None)
    return None if told is None else ItemFailed(*told)
