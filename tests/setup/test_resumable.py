"""Long work is cut into items that are logged: a stop loses none of them, and what is done is not done again."""

from __future__ import annotations

import signal

import pytest
from tiny_runs import QUIET

from rushkit.errors import Interrupted, RushkitError, UsageError
from rushkit.run.folder import Run
from rushkit.setup.resumable import ItemFailed, Made, SharedLog, resumable, unattended
from rushkit.setup.start import start_run

ITEMS = range(5)


class Broken(Exception):
    """What an item raises."""


@pytest.fixture
def run(tiny):
    with start_run("attack", tiny(), QUIET) as run:
        yield run


def log_of(run):
    return SharedLog(run, "work.jsonl", {"about": "squares"}, lambda subject, lines: None)


def work_on(run, make, fails=lambda error: False):
    """Go on with the squares of ITEMS. -> the lines of this session"""
    log = log_of(run)
    kept = "{} squares are kept".format
    with resumable(run, log, verb="attack", label="squares", unit="images", total=len(ITEMS), kept=kept) as work:
        return list(work.in_rounds(ITEMS[log.done :], lambda item: make(item, work), fails))


def square(item, work):
    return Made({"images": [item], "square": item**2})


def test_what_is_done_is_not_done_again(run):
    def stopped_at_3(item, work):
        if item == 3:
            signal.raise_signal(signal.SIGTERM)
            work.pause()
        return square(item, work)

    with pytest.raises(Interrupted, match="stopped; 3 squares are kept") as caught:
        work_on(run, stopped_at_3)
    assert caught.value.hint == f"go on with: rushkit attack --resume --run {run.path}"
    assert [line["square"] for line in work_on(run, square)] == [9, 16]
    assert [line["square"] for line in log_of(run).lines] == [0, 1, 4, 9, 16]


def test_a_signal_within_an_item_without_pauses_keeps_that_item(run):
    def signalled_at_3(item, work):
        if item == 3:
            signal.raise_signal(signal.SIGTERM)
        return square(item, work)

    with pytest.raises(Interrupted, match="stopped; 4 squares are kept"):
        work_on(run, signalled_at_3)


def test_a_part_of_an_item_stops_with_it_and_counts_nothing(run):
    def in_parts(item, work):
        part = work.part()
        part.bar.advance(100)
        if item == 2:
            signal.raise_signal(signal.SIGTERM)
        part.pause()
        return square(item, work)

    with pytest.raises(Interrupted, match="stopped; 2 squares are kept"):
        work_on(run, in_parts)


def test_a_part_that_stops_tells_what_the_whole_has_done(run):
    def stop_in_a_part():
        with resumable(run, None, verb="attack", label="", unit="images", total=5, kept="{} are kept".format) as work:
            part = work.part()
            work.bar.advance(3)
            part.bar.advance(100)
            signal.raise_signal(signal.SIGTERM)
            part.pause()

    with pytest.raises(Interrupted, match="stopped; 3 are kept"):
        stop_in_a_part()


def test_what_belongs_to_a_line_is_kept_before_the_line_is_written(run):
    log, lines_at_keeping = log_of(run), []
    with resumable(run, log, verb="attack", label="", unit="images", total=5, kept=str) as work:

        def make(item):
            return Made({"images": [item]}, lambda: lines_at_keeping.append(len(log.lines)))

        assert len(list(work.in_rounds(ITEMS, make))) == 5
    assert lines_at_keeping == [0, 1, 2, 3, 4]


def broken_at_2(item, work):
    if item == 2:
        raise Broken("no square")
    return square(item, work)


def test_an_error_that_the_work_knows_ends_it_with_the_lines_before(run):
    with pytest.raises(ItemFailed, match="Broken: no square") as caught:
        work_on(run, broken_at_2, fails=lambda error: isinstance(error, Broken))
    assert isinstance(caught.value.__cause__, Broken)
    assert log_of(run).done == 2


def test_any_other_error_passes_through(run):
    with pytest.raises(Broken):
        work_on(run, broken_at_2, fails=lambda error: isinstance(error, UsageError))


def test_lines_that_all_ranks_make_together_may_depend_on_those_before(run):
    log = log_of(run)

    def sums():
        while len(log.lines) < 4:
            yield {"images": [len(log.lines)], "sum": sum(line["images"][0] for line in log.lines)}

    with resumable(run, log, verb="certify", label="", unit="images", total=None, kept=str) as work:
        assert [line["sum"] for line in work.together(sums())] == [0, 0, 1, 3]
        assert work.bar.done == 4


def test_a_log_of_other_work_is_refused(run):
    log_of(run)
    with pytest.raises(RushkitError, match="about changed"):
        SharedLog(run, "work.jsonl", {"about": "cubes"}, lambda subject, lines: None)


def test_unattended_work_needs_no_run():
    work = unattended()
    work.pause()
    work.stop_together()
    assert list(work.in_rounds([3], lambda item: Made({"images": [item]}))) == [{"images": [3]}]
    assert work.bar.done == 1


def test_a_run_that_was_opened_again_goes_on(tiny):
    with start_run("attack", tiny(), QUIET) as first:
        with resumable(first, log_of(first), verb="attack", label="", unit="images", total=5, kept=str) as work:
            list(work.in_rounds([0, 1], lambda item: square(item, work)))
        path = first.path
    with Run.open(path, QUIET) as again:
        assert [line["images"] for line in work_on(again, square)] == [[2], [3], [4]]
