"""Check that logged counts of a certification are plausible: votes that add up, images that exist."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import TypeAdapter, ValidationError

from rushkit.certification.draws import image_uniform
from rushkit.certification.procedures import PROCEDURES
from rushkit.certification.tasks import Task, certified_indices, next_look
from rushkit.errors import UsageError
from rushkit.results.logs import CountsLine, CountsSubject, Estimation, Round, Selection
from rushkit.results.records import first_problem
from rushkit.run.log_checks import Record, demand, integers
from rushkit.units import UNIT, unit_sizes
from rushkit.votes import SCORE

# Channels that images may have, and those of a single pixel.
_CHANNELS, _COLOURS = range(1, 17), 4
_LINES: TypeAdapter[list[CountsLine]] = TypeAdapter(list[CountsLine])


def check_counts(subject: Record, lines: Sequence[Record]) -> None:
    """Check the counts of a certification, given as JSON objects.

    Raises:
        ValueError: the first inconsistency.
        UsageError: sequential tests looked at them after other numbers of draws than tests do.
    """
    about = parse_subject(subject)
    images = _images(about)
    procedure = PROCEDURES[about.mode]
    looks = procedure.looks(about.samples)
    if about.looks != looks:
        raise UsageError(
            f"the tests of these counts were evaluated {_after(about.looks)}, and would be evaluated {_after(looks)}",
            "certify anew: counts of other looks are of no use to these tests",
        )
    parsed = parse_lines(lines)
    checked = 0
    # One at a time: a log may claim more draws than a list of all tasks has room for.
    for line, task in zip(parsed, procedure.tasks(len(images), about.selection, about.samples), strict=False):
        checked += 1
        _check_task(task, line, images, len(about.classes))
        if isinstance(line, Selection):
            expected = [image_uniform(about.seed, image) for image in line.images]
            demand(line.uniforms == expected, "a uniform draw is not the one that the seed gives")
    rounds = parsed[checked:]
    demand(about.mode == "sequential" or not rounds, "it has more lines than there are draws")
    done = dict.fromkeys(images, 0)
    for line in rounds:
        _check_round(line, done, looks)


def parse_subject(subject: Record) -> CountsSubject:
    """Parse the subject of a log of counts. Raises ValueError with the first error."""
    try:
        return CountsSubject.model_validate(subject)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def parse_lines(lines: Sequence[Record]) -> list[CountsLine]:
    """Parse the lines of a log of counts. Raises ValueError with the first error."""
    undrawn = any(line.get("part") == "selection" and "uniforms" not in line for line in lines)
    demand(not undrawn, "its images have no uniform draws, as another version of rushkit wrote it; certify anew")
    try:
        return _LINES.validate_python(list(lines))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def _images(subject: CountsSubject) -> list[int]:
    shapes = ((count, math.isqrt(subject.dim // count)) for count in _CHANNELS)
    of_an_image = any(count * side**2 == subject.dim and (side > 1 or count <= _COLOURS) for count, side in shapes)
    demand(of_an_image, f"no image has {subject.dim} values")
    unreadable = set(subject.unreadable)
    asked: list[int] = certified_indices(subject.of, subject.limit, subject.skip).tolist()
    demand(unreadable <= set(asked), "an image that was left out is not one of those to certify")
    return [index for index in asked if index not in unreadable]


def _check_task(task: Task, line: CountsLine, images: Sequence[int], classes: int) -> None:
    rows, draws = len(task.rows), task.stop - task.start
    if isinstance(line, Round) or line.part != task.part:
        raise ValueError(f"a line of the {task.part} is missing")
    demand(line.images == list(images[task.rows.start : task.rows.stop]), "its images do not follow each other")
    votes = integers(line.votes, (rows, classes), 0, draws, "a number of votes")
    demand(bool((votes.sum(axis=1) == draws).all()), "the votes of an image are not as many as its draws")
    demand(line.drawn == task.draws, "the draws of a line are not those of its images")
    _check_seconds(line)
    if isinstance(line, Estimation):
        _check_estimation(task, line)
        return
    integers(line.labels, (rows,), 0, classes - 1, "a label")
    scores = integers(line.scores, (rows, classes), 0, draws * SCORE, "a confidence")
    # Each confidence is rounded down; what float32 makes of their sum is less than one more.
    gap = np.abs(scores.sum(axis=1) - draws * SCORE)
    demand(bool((gap <= draws * (classes + 2)).all()), "the confidences of an image do not add up to its draws")


def _check_estimation(task: Task, line: Estimation) -> None:
    rows, draws = len(task.rows), task.stop - task.start
    demand((line.start, line.stop) == (task.start, task.stop), "its draws do not follow each other")
    scores = integers(line.scores, (rows,), 0, draws * SCORE, "a confidence")
    squares = integers(line.squares, (rows,), 0, draws * SCORE**2, "a squared confidence")
    for score, square in zip(scores.tolist(), squares.tolist(), strict=True):
        demand(score**2 <= draws * square <= draws * SCORE * score, "a sum of squares is not that of its confidences")


def _check_round(line: CountsLine, done: dict[int, int], looks: Sequence[int]) -> None:
    """Check a round of sequential tests, and update ``done``, the number of draws that each image has."""
    if not isinstance(line, Round) or not line.images:
        raise ValueError("a line is no round of its tests")
    one_each = len(set(line.images)) == len(line.images) == len(line.right) == len(line.sizes)
    demand(one_each, "an image is drawn for twice in a round")
    for image, hits, draws in zip(line.images, line.right, line.sizes, strict=True):
        demand(image in done, "an image is not one of those that are certified")
        demand(done[image] < looks[-1], "an image has more draws than a test may take")
        stretch = next_look(done[image], looks) - done[image]
        expected = unit_sizes(min(stretch, UNIT * len(draws)))
        demand(bool(draws) and draws == expected, "its draws do not end where the tests are evaluated")
        gained = integers(hits, (len(draws),), 0, UNIT, "a number of votes")
        demand(bool((gained <= np.array(draws)).all()), "an image has more votes than draws")
        done[image] += sum(draws)
    demand(line.drawn == sum(map(sum, line.sizes)), "the draws of a line are not those of its images")
    _check_seconds(line)


def _after(looks: Sequence[int]) -> str:
    """Return at which numbers of draws tests are evaluated, in words."""
    if not looks:
        return "at unknown numbers of draws"
    shown = [str(look) for look in looks]
    return f"after {', '.join(shown if len(shown) < 6 else [*shown[:4], '...', shown[-1]])} draws"


def _check_seconds(line: CountsLine) -> None:
    demand(math.isfinite(line.seconds), "a duration is no number")
