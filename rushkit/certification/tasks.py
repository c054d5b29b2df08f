"""Choose the images to certify, and divide their draws into tasks; each task becomes one line of the log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rushkit.data.memory import limit_indices

# Images in a group, and draws between two lines of the log, which bound the work that a kill can lose.
GROUP = 128
TASK_DRAWS = 10_000
# At alpha 0.05 six draws that all agree are the fewest that certify p > 1/2, at 0.001 twelve. The looks from 7 on pass
# through twelve, those from 6 on do not.
FIRST_LOOK = 7


# Draws that choose a class, draws that bound its probability, or a count over all splits.
Part = Literal["selection", "estimation", "splits"]


@dataclass(frozen=True)
class Task:
    """Draws that become one line of the log.

    Attributes:
        part: The purpose of the draws.
        rows: Positions among the images to certify.
        start: Number of the first draw of each image.
        stop: One past the last draw.
    """

    part: Part
    rows: range
    start: int
    stop: int

    @property
    def draws(self) -> int:
        """Total number of draws for all its images."""
        return (self.stop - self.start) * len(self.rows)


def certified_indices(images: int, limit: int, skip: int) -> Tensor:
    """Return the images to certify, (N,) int64 in rising order: every ``skip``-th, at most ``limit`` of them (0: all).

    If no images are skipped, a limit selects the same images as for an attack with this limit.
    """
    every = torch.arange(0, images, skip)
    places = limit_indices(len(every), limit)
    return every if places is None else every[places].sort().values


def marks(samples: int) -> list[int]:
    """Return the numbers of draws at which counts are logged: 1, 2 or 5 times a power of ten, from 100 to ``samples``.

    From ``TASK_DRAWS`` on they are its multiples. Certificates can be recomputed for each of these numbers of draws.
    """
    small = [factor * 10**power for power in range(2, 5) for factor in (1, 2, 5)]
    known = [mark for mark in small if mark < TASK_DRAWS] + list(range(TASK_DRAWS, samples, TASK_DRAWS))
    return [mark for mark in known if mark < samples] + [samples]


def looks(samples: int) -> list[int]:
    """Return the numbers of draws after which a sequential test is evaluated: 7, 9, 12, 15, 19, 24, 30, ..., samples.

    Each look comes a quarter later than the one before, from 100 draws on a tenth, rounded up to whole draws. They
    depend neither on alpha nor on the radii, so that counts serve for others too; with fewer ``samples`` they are the
    same up to the last one.
    """
    known, look = [], FIRST_LOOK
    while look < samples:
        known.append(look)
        look += -(-look // (4 if look < 100 else 10))
    return [*known, samples]


def next_look(done: int, known: Sequence[int]) -> int:
    """Return the first of the looks after ``done`` draws, which are fewer than the last look."""
    return known[bisect_right(known, done)]


def group_tasks(part: Part, images: int, draws: int) -> Iterator[Task]:
    """Yield tasks for the first ``draws`` draws of every image, a group of images at a time."""
    return (Task(part, rows, 0, draws) for rows in _groups(range(images), GROUP))


def fixed_tasks(images: int, selection: int, samples: int) -> Iterator[Task]:
    """Yield tasks for a fixed number of draws of every image; a group of images is finished before the next begins."""
    for group in group_tasks("selection", images, selection):
        yield group
        start = 0
        for mark in marks(samples):
            # A task has few draws of many images, or many draws of few.
            size = max(1, min(GROUP, TASK_DRAWS // (mark - start)))
            yield from (Task("estimation", rows, start, mark) for rows in _groups(group.rows, size))
            start = mark


def _groups(rows: range, size: int) -> Iterator[range]:
    return (rows[first : first + size] for first in range(0, len(rows), size))
