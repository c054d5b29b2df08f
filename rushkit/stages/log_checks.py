"""Whether the lines of a log can be what its work writes: counts that add up, labels and images that exist.

The chain of the lines finds what was altered after it was written; this finds what could never have been.
Each function raises ValueError with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.recipe.schema import Certify
from rushkit.stages.build import IN_CHANNELS
from rushkit.stages.counts import Task, all_tasks, chosen_indices, selection_tasks
from rushkit.stages.votes import SCORE, UNIT

Record = dict[str, Any]


def check_counts(subject: dict[str, Any], records: Sequence[Record]) -> None:
    """Check the counts of a certification."""
    mode, samples, classes = subject["mode"], subject["samples"], len(subject["classes"])
    side = math.isqrt(subject["dim"] // IN_CHANNELS)
    _demand(IN_CHANNELS * side**2 == subject["dim"] > 0, f"no image has {subject['dim']} values")
    settings = Certify(limit=subject["limit"], skip=subject["skip"])
    images = chosen_indices(subject["of"], settings).tolist()
    tasks = {
        "fixed": lambda: all_tasks(len(images), subject["selection"], samples),
        "splits": lambda: selection_tasks(len(images), samples),
        "sequential": lambda: selection_tasks(len(images), subject["selection"]),
    }[mode]()
    for task, record in zip(tasks, records, strict=False):
        _check_task(task, record, images, classes, "splits" if mode == "splits" else task.part)
    rounds = records[len(tasks) :]
    _demand(mode == "sequential" or not rounds, "it has more lines than there are draws")
    units = dict.fromkeys(images, 0)
    for record in rounds:
        _check_round(record, units, samples)


def check_attack(subject: dict[str, Any], records: Sequence[Record], labels: Sequence[int], candidates: int) -> None:
    """Check the outcomes of an attack.

    Args:
        subject: What the outcomes are of.
        records: The blocks.
        labels: (N,) of the images that are attacked.
        candidates: How many attacks there are to choose from.
    """
    for record, rows in zip(records, _blocks(records, len(labels), subject["block"]), strict=True):
        _demand(record["images"] == list(rows), "its images do not follow each other")
        _demand(record["labels"] == list(labels[rows.start : rows.stop]), "a label is not that of its image")
        _integers(record["chosen"], (len(rows),), -1, candidates - 1, "a chosen attack")
        _check_right(record, subject["worst by"], len(rows), subject["votes"])
        _demand(isinstance(record["notes"], list) and all(isinstance(note, str) for note in record["notes"]), "a note")
        _integers(list(record["contributions"].values()), None, 0, len(rows), "a contribution")
        _integers([record["image_forwards"], record["image_backwards"]], (2,), 0, None, "a number of passes")
        _check_seconds(record)


def check_transfer(
    subject: dict[str, Any], records: Sequence[Record], images: Sequence[int], rules: Sequence[str]
) -> None:
    """Check what another model says of adversarial images, whose indices are (N,) ``images``."""
    for record, rows in zip(records, _blocks(records, len(images), subject["block"]), strict=True):
        _demand(record["images"] == list(images[rows.start : rows.stop]), "its images do not follow each other")
        _check_right(record, rules, len(rows), subject["votes"])


def _check_task(task: Task, record: Record, images: Sequence[int], classes: int, part: str) -> None:
    rows, draws = len(task.rows), task.stop - task.start
    _demand(record["part"] == part, f"a line of the {part} is missing")
    _demand(record["images"] == list(images[task.rows.start : task.rows.stop]), "its images do not follow each other")
    votes = _integers(record["votes"], (rows, classes), 0, draws, "a number of votes")
    _demand(bool((votes.sum(axis=1) == draws).all()), "the votes of an image are not as many as its draws")
    _demand(record["drawn"] == draws * rows, "the draws of a line are not those of its images")
    _check_seconds(record)
    if part != "estimation":
        _integers(record["labels"], (rows,), 0, classes - 1, "a label")
        scores = _integers(record["scores"], (rows, classes), 0, draws * SCORE, "a confidence")
        # Each confidence is rounded down; what float32 makes of their sum is less than one more.
        gap = np.abs(scores.sum(axis=1) - draws * SCORE)
        _demand(bool((gap <= draws * (classes + 2)).all()), "the confidences of an image do not add up to its draws")
        return
    _demand((record["start"], record["stop"]) == (task.start, task.stop), "its draws do not follow each other")
    scores = _integers(record["scores"], (rows,), 0, draws * SCORE, "a confidence")
    squares = _integers(record["squares"], (rows,), 0, draws * SCORE**2, "a squared confidence")
    for score, square in zip(scores.tolist(), squares.tolist(), strict=True):
        _demand(score**2 <= draws * square <= draws * SCORE * score, "a sum of squares is not that of its confidences")


def _check_round(record: Record, units: dict[int, int], samples: int) -> None:
    """Check a round of a sequential test; ``units`` counts those that each image has, and goes on."""
    images, right, sizes = record["images"], record["right"], record["sizes"]
    _demand(record["part"] == "round" and len(images) > 0, "a line is no round of its tests")
    _demand(len(set(images)) == len(images) == len(right) == len(sizes), "an image is drawn for twice in a round")
    for image, hits, draws in zip(images, right, sizes, strict=True):
        _demand(type(image) is int and image in units, "an image is not one of those that are certified")
        expected = [min(UNIT, samples - UNIT * (units[image] + unit)) for unit in range(len(draws))]
        _demand(draws == expected and min(draws, default=0) > 0, "its draws do not follow each other")
        gained = _integers(hits, (len(draws),), 0, UNIT, "a number of votes")
        _demand(bool((gained <= np.array(draws)).all()), "an image has more votes than draws")
        units[image] += len(draws)
    _demand(record["drawn"] == sum(map(sum, sizes)), "the draws of a line are not those of its images")
    _check_seconds(record)


def _blocks(records: Sequence[Record], images: int, size: int) -> Iterable[range]:
    """Positions of the images of each record, as blocks of ``size`` have them."""
    _demand((len(records) - 1) * size < images, "it has more lines than there are images")
    return [range(start, min(start + size, images)) for start in range(0, len(records) * size, size)]


def _check_right(record: Record, rules: Sequence[str], images: int, votes: int) -> None:
    for key in ("right", "clean_right"):
        _demand(list(record[key]) == list(rules), "a rule of voting is missing")
        for counts in record[key].values():
            _integers(counts, (images,), 0, votes, "a number of votes")


def _check_seconds(record: Record) -> None:
    seconds = record["seconds"]
    _demand(type(seconds) in (int, float) and 0 <= seconds < math.inf, "a duration is no number")


def _integers(values: Any, shape: tuple[int, ...] | None, low: int, high: int | None, what: str) -> NDArray[np.int64]:
    """The values as an array of a shape (None: any number of them), each from low to high."""
    array = np.array(values) if values != [] else np.zeros(0, dtype=np.int64)
    if array.dtype != np.int64 or array.shape != (shape or (array.size,)):
        raise ValueError(f"{what} is missing or no whole number")
    if array.size and (array.min() < low or (high is not None and array.max() > high)):
        raise ValueError(f"{what} is out of range")
    return array


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
