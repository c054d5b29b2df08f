"""Check that logged counts of a certification are plausible: votes that add up, images that exist."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import TypeAdapter, ValidationError

from rushkit.certification.draws import image_uniform
from rushkit.certification.procedures import PROCEDURES
from rushkit.certification.tasks import Task, certified_indices
from rushkit.results.logs import CountsLine, CountsSubject, Estimation, Round, Selection
from rushkit.results.records import first_problem
from rushkit.run.log_checks import Record, demand, integers
from rushkit.setup.components import IN_CHANNELS
from rushkit.units import UNIT
from rushkit.votes import SCORE

_LINES: TypeAdapter[list[CountsLine]] = TypeAdapter(list[CountsLine])


def check_counts(subject: Record, lines: Sequence[Record]) -> None:
    """Check the counts of a certification, given as JSON objects. Raises ValueError with the first inconsistency."""
    about = parse_subject(subject)
    images = _images(about)
    tasks = PROCEDURES[about.mode].tasks(len(images), about.selection, about.samples)
    parsed = parse_lines(lines)
    for task, line in zip(tasks, parsed, strict=False):
        _check_task(task, line, images, len(about.classes))
        if isinstance(line, Selection):
            expected = [image_uniform(about.seed, image) for image in line.images]
            demand(line.uniforms == expected, "a uniform draw is not the one that the seed gives")
    rounds = parsed[len(tasks) :]
    demand(about.mode == "sequential" or not rounds, "it has more lines than there are draws")
    units = dict.fromkeys(images, 0)
    for line in rounds:
        _check_round(line, units, about.samples)


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
    side = math.isqrt(subject.dim // IN_CHANNELS)
    demand(IN_CHANNELS * side**2 == subject.dim, f"no image has {subject.dim} values")
    indices: list[int] = certified_indices(subject.of, subject.limit, subject.skip).tolist()
    return indices


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


def _check_round(line: CountsLine, units: dict[int, int], samples: int) -> None:
    """Check a round of sequential tests, and update ``units``, the number of units that each image has."""
    if not isinstance(line, Round) or not line.images:
        raise ValueError("a line is no round of its tests")
    one_each = len(set(line.images)) == len(line.images) == len(line.right) == len(line.sizes)
    demand(one_each, "an image is drawn for twice in a round")
    for image, hits, draws in zip(line.images, line.right, line.sizes, strict=True):
        demand(image in units, "an image is not one of those that are certified")
        expected = [min(UNIT, samples - UNIT * (units[image] + unit)) for unit in range(len(draws))]
        demand(draws == expected and min(draws, default=0) > 0, "its draws do not follow each other")
        gained = integers(hits, (len(draws),), 0, UNIT, "a number of votes")
        demand(bool((gained <= np.array(draws)).all()), "an image has more votes than draws")
        units[image] += len(draws)
    demand(line.drawn == sum(map(sum, line.sizes)), "the draws of a line are not those of its images")
    _check_seconds(line)


def _check_seconds(line: CountsLine) -> None:
    demand(math.isfinite(line.seconds), "a duration is no number")
