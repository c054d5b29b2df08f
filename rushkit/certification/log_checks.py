"""Whether the counts of a certification can be what its draws write: votes that add up, images that exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rushkit.certification.counts import Task, all_tasks, chosen_indices, selection_tasks
from rushkit.certification.votes import UNIT
from rushkit.recipe.schema import Certify
from rushkit.run.log_checks import Record, check_seconds, demand, integers
from rushkit.setup.components import IN_CHANNELS
from rushkit.votes import SCORE


def check_counts(subject: dict[str, Any], records: Sequence[Record]) -> None:
    """Check the counts of a certification."""
    mode, samples, classes = subject["mode"], subject["samples"], len(subject["classes"])
    side = math.isqrt(subject["dim"] // IN_CHANNELS)
    demand(IN_CHANNELS * side**2 == subject["dim"] > 0, f"no image has {subject['dim']} values")
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
    demand(mode == "sequential" or not rounds, "it has more lines than there are draws")
    units = dict.fromkeys(images, 0)
    for record in rounds:
        _check_round(record, units, samples)


def _check_task(task: Task, record: Record, images: Sequence[int], classes: int, part: str) -> None:
    rows, draws = len(task.rows), task.stop - task.start
    demand(record["part"] == part, f"a line of the {part} is missing")
    demand(record["images"] == list(images[task.rows.start : task.rows.stop]), "its images do not follow each other")
    votes = integers(record["votes"], (rows, classes), 0, draws, "a number of votes")
    demand(bool((votes.sum(axis=1) == draws).all()), "the votes of an image are not as many as its draws")
    demand(record["drawn"] == draws * rows, "the draws of a line are not those of its images")
    check_seconds(record)
    if part != "estimation":
        integers(record["labels"], (rows,), 0, classes - 1, "a label")
        scores = integers(record["scores"], (rows, classes), 0, draws * SCORE, "a confidence")
        # Each confidence is rounded down; what float32 makes of their sum is less than one more.
        gap = np.abs(scores.sum(axis=1) - draws * SCORE)
        demand(bool((gap <= draws * (classes + 2)).all()), "the confidences of an image do not add up to its draws")
        return
    demand((record["start"], record["stop"]) == (task.start, task.stop), "its draws do not follow each other")
    scores = integers(record["scores"], (rows,), 0, draws * SCORE, "a confidence")
    squares = integers(record["squares"], (rows,), 0, draws * SCORE**2, "a squared confidence")
    for score, square in zip(scores.tolist(), squares.tolist(), strict=True):
        demand(score**2 <= draws * square <= draws * SCORE * score, "a sum of squares is not that of its confidences")


def _check_round(record: Record, units: dict[int, int], samples: int) -> None:
    """Check a round of a sequential test; ``units`` counts those that each image has, and goes on."""
    images, right, sizes = record["images"], record["right"], record["sizes"]
    demand(record["part"] == "round" and len(images) > 0, "a line is no round of its tests")
    demand(len(set(images)) == len(images) == len(right) == len(sizes), "an image is drawn for twice in a round")
    for image, hits, draws in zip(images, right, sizes, strict=True):
        demand(type(image) is int and image in units, "an image is not one of those that are certified")
        expected = [min(UNIT, samples - UNIT * (units[image] + unit)) for unit in range(len(draws))]
        demand(draws == expected and min(draws, default=0) > 0, "its draws do not follow each other")
        gained = integers(hits, (len(draws),), 0, UNIT, "a number of votes")
        demand(bool((gained <= np.array(draws)).all()), "an image has more votes than draws")
        units[image] += len(draws)
    demand(record["drawn"] == sum(map(sum, sizes)), "the draws of a line are not those of its images")
    check_seconds(record)
