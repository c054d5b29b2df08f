"""The counts of each image, added up from the lines of a log. Certificates depend on these numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.certification.draws import Counts
from rushkit.results.logs import CountsLine, Estimation, Selection, Splits
from rushkit.votes import SCORE

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """Votes and confidences of N images.

    Attributes:
        images: (N,) indices in the split.
        labels: (N,) true classes.
        uniforms: (N,) uniform draws in (0, 1] for randomized bounds; 1 in a count over all splits.
        selection: (N, K) votes that choose the class; in a count over all splits, all votes.
        selection_scores: (N, K) summed confidences of the same draws.
        votes: (N, K) votes that bound the probability.
        scores: (N,) summed confidence in ``mean_class`` over the latter draws.
        squares: (N,) sum of their squares.
        seconds: (N,) seconds of work for each image.
    """

    images: Integers
    labels: Integers
    uniforms: Floats
    selection: Integers
    selection_scores: Floats
    votes: Integers
    scores: Floats
    squares: Floats
    seconds: Floats

    @classmethod
    def of_one(cls, selection: Counts, estimation: Counts | None = None, uniform: float = 1.0) -> ImageCounts:
        """Return the counts of a single image and its uniform draw, without index, label and time."""
        zero = np.zeros(1, dtype=np.int64)
        if estimation is None:
            estimation = Counts(*(np.zeros_like(selection.votes) for _ in range(3)))
        mean_class = int(selection.scores[0].argmax())
        return cls(
            images=zero,
            labels=zero,
            uniforms=np.array([uniform]),
            selection=selection.votes,
            selection_scores=selection.scores / SCORE,
            votes=estimation.votes,
            scores=estimation.scores[:, mean_class] / SCORE,
            squares=estimation.squares[:, mean_class] / SCORE**2,
            seconds=np.zeros(1),
        )

    @property
    def mean_class(self) -> Integers:
        """(N,) the class with the largest mean softmax in the selection draws."""
        classes: Integers = self.selection_scores.argmax(axis=1)
        return classes

    @property
    def vote_class(self) -> Integers:
        """(N,) the class with the most votes in the selection draws."""
        classes: Integers = self.selection.argmax(axis=1)
        return classes

    def take(self, rows: NDArray[Any]) -> ImageCounts:
        """Return the counts of the images in these rows."""
        return ImageCounts(**{name: values[rows] for name, values in vars(self).items()})


def gather_counts(lines: Sequence[CountsLine], samples: int) -> tuple[ImageCounts, Integers]:
    """Add up the lines of a log for each image, up to ``samples`` draws.

    Returns:
        The counts in the order of the images, and (N,) the number of estimation draws of each image.
    """
    selected = [line for line in lines if isinstance(line, Selection | Splits)]
    images = [image for line in selected for image in line.images]
    uniforms = [line.uniforms if isinstance(line, Selection) else [1.0] * len(line.images) for line in selected]
    place = {image: row for row, image in enumerate(images)}
    selection = _table([row for line in selected for row in line.votes])
    table = ImageCounts(
        images=np.array(images, dtype=np.int64),
        labels=np.array([label for line in selected for label in line.labels], dtype=np.int64),
        uniforms=np.array([uniform for line in uniforms for uniform in line], dtype=np.float64),
        selection=selection,
        selection_scores=_table([row for line in selected for row in line.scores]) / SCORE,
        votes=np.zeros_like(selection),
        scores=np.zeros(len(images)),
        squares=np.zeros(len(images)),
        seconds=np.zeros(len(images)),
    )
    done = np.zeros(len(images), dtype=np.int64)
    for line in lines:
        rows = [place[image] for image in line.images]
        table.seconds[rows] += line.seconds / len(rows)
        if isinstance(line, Estimation) and line.stop <= samples:
            done[rows] = line.stop
            table.votes[rows] += np.array(line.votes, dtype=np.int64)
            table.scores[rows] += np.array(line.scores, dtype=np.float64) / SCORE
            table.squares[rows] += np.array(line.squares, dtype=np.float64) / SCORE**2
    order = np.argsort(table.images, kind="stable")
    return table.take(order), done[order]


def _table(rows: list[list[int]]) -> Integers:
    return np.array(rows, dtype=np.int64).reshape(len(rows), -1)
