"""The draws of a certification: task by task, each a line for the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rushkit.certification.claim import Claim
from rushkit.certification.counts import Task, all_tasks, selection_tasks
from rushkit.certification.sequential import SequentialState, next_round
from rushkit.certification.votes import UNIT, Counts, Piece, all_splits, count_votes, noisy_unit, unit_sizes
from rushkit.data.memory import Split
from rushkit.distributed import ranks
from rushkit.noises import Noise
from rushkit.setup.components import to_float


@dataclass(frozen=True)
class Job:
    """What a certification draws from.

    Attributes:
        model: (N, C, H, W) -> (N, K) logits.
        noise: The smoothing distribution.
        split: The labelled images to certify.
        indices: (N,) of each image in the split that it was chosen from: they name its draws.
        seed: Of every draw.
        classes: K.
        batch: Images in one pass.
        device: Where the model is.
        pause: Called before each unit of draws; what it raises stops the work and costs the line being drawn.
    """

    model: nn.Module
    noise: Noise
    split: Split
    indices: Tensor
    seed: int
    classes: int
    batch: int
    device: torch.device
    pause: Callable[[], None] = lambda: None

    def image(self, row: int) -> Tensor:
        """(C, H, W) float32 in [0, 1], on the device."""
        return to_float(self.split.images[row].to(self.device))

    def draw(self, row: int, part: str, unit: int, size: int) -> Tensor:
        """(size, C, H, W) noisy copies of an image: the draws of one unit."""
        self.pause()
        return noisy_unit(self.noise, self.image(row), size, self.seed, f"certify {part}", int(self.indices[row]), unit)

    def count(self, pieces: Iterable[Piece], rows: int) -> Counts:
        """What the model says of noisy images, by row; the sums over all ranks."""
        return count_votes(self.model, pieces, rows, self.classes, self.batch, self.device)

    def images(self, rows: range) -> list[int]:
        """Indices of some images, as the log holds them."""
        return self.indices[rows.start : rows.stop].tolist()

    def labels(self, rows: range) -> list[int]:
        """Their labels."""
        assert self.split.labels is not None
        return self.split.labels[rows.start : rows.stop].tolist()


def draw_records(
    job: Job, claim: Claim, selection: int, radii: list[float], records: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The log's next lines, the same on every rank.

    Args:
        job: What is drawn from.
        claim: What is certified.
        selection: Draws that choose the class.
        radii: What sequential tests test.
        records: The lines so far; each new one has to be appended here before the next one is asked for.
    """
    images, done = len(job.split), len(records)
    if claim.mode == "splits":
        for task in selection_tasks(images, claim.samples)[done:]:
            yield _timed(partial(_count_splits, job, task))
        return
    if claim.mode == "fixed":
        classes = _mean_classes(records)
        for task in all_tasks(images, selection, claim.samples)[done:]:
            record = _timed(partial(_count_task, job, task, classes))
            classes |= _mean_classes([record])
            yield record
        return
    for task in selection_tasks(images, selection)[done:]:
        yield _timed(partial(_count_task, job, task, {}))
    state = SequentialState.replayed(claim, radii, records)
    while True:
        started = time.perf_counter()
        drawn = next_round(state, job.draw, job.count, job.batch)
        if drawn is None:
            return
        drawn["seconds"] = time.perf_counter() - started
        state.apply(drawn)
        yield drawn


def _timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    record = work()
    return {**record, "seconds": time.perf_counter() - started}


def _count_task(job: Job, task: Task, classes: dict[int, int]) -> dict[str, Any]:
    # Only the last draw of all may end within a unit, so every task begins with a whole one.
    first, sizes = task.start // UNIT, unit_sizes(task.stop - task.start)
    units = [(place, row, unit) for place, row in enumerate(task.rows) for unit in range(len(sizes))]
    pieces = ((place, job.draw(row, task.part, first + unit, sizes[unit])) for place, row, unit in ranks.own(units))
    counts = job.count(pieces, len(task.rows))
    images, drawn = job.images(task.rows), (task.stop - task.start) * len(task.rows)
    if task.part == "selection":
        return {
            "part": task.part,
            "images": images,
            "labels": job.labels(task.rows),
            "votes": counts.votes.tolist(),
            "scores": counts.scores.tolist(),
            "drawn": drawn,
        }
    # Confidences of one class an image, the one that the mean rule would certify: those of all would fill the disk.
    rows, chosen = np.arange(len(images)), [classes[image] for image in images]
    return {
        "part": task.part,
        "images": images,
        "start": task.start,
        "stop": task.stop,
        "votes": counts.votes.tolist(),
        "scores": counts.scores[rows, chosen].tolist(),
        "squares": counts.squares[rows, chosen].tolist(),
        "drawn": drawn,
    }


def _count_splits(job: Job, task: Task) -> dict[str, Any]:
    rows = ranks.own(list(enumerate(task.rows)))
    pieces = ((place, noisy) for place, row in rows for noisy in all_splits(job.noise, job.image(row)))
    counts = job.count(pieces, len(task.rows))
    return {
        "part": "splits",
        "images": job.images(task.rows),
        "labels": job.labels(task.rows),
        "votes": counts.votes.tolist(),
        "scores": counts.scores.tolist(),
        "drawn": task.stop * len(task.rows),
    }


def _mean_classes(records: Sequence[dict[str, Any]]) -> dict[int, int]:
    """Index of an image -> the class that its selection draws are surest of on average."""
    return {
        image: int(np.argmax(scores))
        for record in records
        if record["part"] == "selection"
        for image, scores in zip(record["images"], record["scores"], strict=True)
    }
