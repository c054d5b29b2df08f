"""The counts of a certification: which draws are made in which order, and how their lines are added up.

Counts outlive verdicts: everything that a certificate says follows from them, for any alpha, norm or bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rushkit.data.memory import Split, limit
from rushkit.recipe.schema import Certify
from rushkit.votes import SCORE

COUNTS_FILE = "certify.jsonl"

# Images that are drawn for together, and draws between two lines of the log: what a kill can cost.
GROUP = 128
TASK_DRAWS = 10_000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Part = Literal["selection", "estimation"]


@dataclass(frozen=True)
class Task:
    """Draws that become one line of the log.

    Attributes:
        part: Whether they choose the class or bound its probability.
        rows: Positions among the images to certify.
        start: First draw of each image.
        stop: One after the last.
    """

    part: Part
    rows: range
    start: int
    stop: int


def chosen_indices(images: int, settings: Certify, ordered: bool = True) -> Tensor:
    """(N,) which images of a split are certified: every ``skip``-th, or as many of them as ``limit`` says.

    The limit takes the same images as that of an attack, where nothing is skipped; an attack leaves them unordered.
    """
    every = torch.arange(0, images, settings.skip)
    # Only the choice matters here: the images themselves may be empty.
    labels = limit(Split(torch.empty(len(every), 0, 0, 0, dtype=torch.uint8), every, "indices"), settings.limit).labels
    assert labels is not None
    return labels.sort().values if ordered else labels


def marks(samples: int) -> list[int]:
    """Numbers of draws at which counts are logged, up to ``samples``: 1, 2, 5 times a power of ten, from 100 on.

    From ``TASK_DRAWS`` on every multiple of it. Certificates can be redone for these numbers of draws.
    """
    small = [factor * 10**power for power in range(2, 5) for factor in (1, 2, 5)]
    known = [mark for mark in small if mark < TASK_DRAWS] + list(range(TASK_DRAWS, samples, TASK_DRAWS))
    return [mark for mark in known if mark < samples] + [samples]


def selection_tasks(images: int, selection: int) -> list[Task]:
    """The draws that choose the classes, group by group."""
    return [Task("selection", rows, 0, selection) for rows in _groups(range(images), GROUP)]


def all_tasks(images: int, selection: int, samples: int) -> list[Task]:
    """Every draw of a certification with a fixed number of them; a group of images is done before the next begins."""
    tasks = []
    for group in selection_tasks(images, selection):
        tasks.append(group)
        start = 0
        for mark in marks(samples):
            # Few draws of many images, or many of few.
            size = max(1, min(GROUP, TASK_DRAWS // (mark - start)))
            tasks += [Task("estimation", rows, start, mark) for rows in _groups(group.rows, size)]
            start = mark
    return tasks


def _groups(rows: range, size: int) -> list[range]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What is known of each image.

    Attributes:
        images: (N,) indices in the split.
        labels: (N,) true classes.
        selection: (N, K) votes that choose; for exhaustive counts the votes over all splits.
        selection_scores: (N, K) summed confidences of the same draws.
        votes: (N, K) votes that estimate.
        scores: (N,) summed confidence in ``mean_class`` over the latter draws.
        squares: (N,) sum of their squares.
        seconds: (N,) how long the image took.
    """

    images: Integers
    labels: Integers
    selection: Integers
    selection_scores: Floats
    votes: Integers
    scores: Floats
    squares: Floats
    seconds: Floats

    @property
    def mean_class(self) -> Integers:
        """(N,) the class that the selection draws are surest of on average."""
        return self.selection_scores.argmax(axis=1)

    def take(self, rows: NDArray[Any]) -> ImageCounts:
        """Some of the images."""
        return ImageCounts(**{name: values[rows] for name, values in vars(self).items()})


def gather_counts(records: Sequence[dict[str, Any]], samples: int) -> tuple[ImageCounts, Integers]:
    """The log's lines added up, image by image, as far as ``samples`` draws.

    Returns:
        The counts in the order of the images, and (N,) how many draws that estimate each image has.
    """
    chosen = [record for record in records if record["part"] != "estimation" and record["part"] != "round"]
    images = [image for record in chosen for image in record["images"]]
    place = {image: row for row, image in enumerate(images)}
    table = ImageCounts(
        images=np.array(images, dtype=np.int64),
        labels=np.array([label for record in chosen for label in record["labels"]], dtype=np.int64),
        selection=_rows(chosen, "votes"),
        selection_scores=_rows(chosen, "scores") / SCORE,
        votes=np.zeros_like(_rows(chosen, "votes")),
        scores=np.zeros(len(images)),
        squares=np.zeros(len(images)),
        seconds=np.zeros(len(images)),
    )
    done = np.zeros(len(images), dtype=np.int64)
    for record in records:
        rows = [place[image] for image in record["images"]]
        table.seconds[rows] += record["seconds"] / len(rows)
        if record["part"] == "estimation" and record["stop"] <= samples:
            done[rows] = record["stop"]
            table.votes[rows] += np.array(record["votes"], dtype=np.int64)
            table.scores[rows] += np.array(record["scores"], dtype=np.float64) / SCORE
            table.squares[rows] += np.array(record["squares"], dtype=np.float64) / SCORE**2
    order = np.argsort(table.images, kind="stable")
    return table.take(order), done[order]


def _rows(records: Sequence[dict[str, Any]], key: str) -> Integers:
    rows = [row for record in records for row in record[key]]
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1)
