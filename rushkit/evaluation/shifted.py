"""Measure accuracy under the worst rotation and translation of each image, by a search on a grid.

A grid beats first-order search there, since the loss has many maxima (Engstrom et al. 2019, arXiv:1712.02779).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.evaluation.blocks import SHIFT, check_columns, joined, put, square_side, summed, threat_subject
from rushkit.recipe.schema import Recipe, Rule
from rushkit.results.evaluation import AccuracyRow
from rushkit.results.intervals import accuracy_row
from rushkit.results.logs import ShiftBlock, ThreatSubject
from rushkit.results.threats import ShiftOutcomes, ShiftRow, Shifts
from rushkit.rounding import as_asked
from rushkit.run.folder import Run
from rushkit.run.log import Table
from rushkit.run.log_checks import demand
from rushkit.setup.resumable import Line, Made, SharedLog, resumable
from rushkit.setup.subject import Subject
from rushkit.smoothing import SmoothedClassifier
from rushkit.views.shift import Shift, shift_grid, shifted
from rushkit.votes import Tally

# Images of a block: a stop loses what was done of one.
BLOCK = 32
# Shifted images that are voted on in one call.
_TOGETHER = 256


def largest_translation(recipe: Recipe, side: int) -> float:
    """Return the largest translation of the grid in pixels, for images of a side.

    Raises:
        UsageError: it moves the images out of sight.
    """
    asked = recipe.evaluate.translation
    pixels = 3 / 32 * side if isinstance(asked, str) else asked
    if pixels >= side:
        raise UsageError(
            f"a translation by {as_asked(pixels)} pixels moves images of {side}x{side} out of sight",
            "for example --translation 3",
        )
    return pixels


def measure_shifts(subject: Subject, recipe: Recipe, run: Run, clean: Sequence[AccuracyRow]) -> Shifts:
    """Measure the accuracy of each m and rule under the worst point of a grid of rotations and translations.

    At every point an image is voted on by m draws, the same ones at each point, and its worst point is the one whose
    vote is lost, or nearest to it. A model with noise is voted on there once more by fresh draws, which alone count:
    the least of many noisy votes is low by chance.

    Args:
        subject: The model and the N images.
        recipe: The sections noise, evaluate and system are used.
        run: The run that outcomes are written to; a stopped run is resumed.
        clean: The accuracy without shifts, for each m and rule.

    Raises:
        UsageError: the translations move the images out of sight, or these are not square.
        Interrupted: a signal asked to stop; finished work is kept.
    """
    settings, side = recipe.evaluate, square_side(subject, SHIFT)
    translation = largest_translation(recipe, side)
    grid = shift_grid(settings.rotation, translation, settings.grid)
    about = threat_subject(subject, recipe, BLOCK).with_changes(
        rotation=settings.rotation, translation=translation, grid=settings.grid
    )
    check = partial(_check, about=about, points=len(grid))
    log = SharedLog(run, "shifts.jsonl", about.to_table(), check, units=lambda line: 0)
    images = len(subject) - log.images
    g = subject.smoothed(max(about.samples))
    fresh = 0 if g.deterministic else len(about.rules)
    passes = images * (len(grid) + fresh) * sum(about.samples)
    run.speaker.say(
        f"shift: rotations within {as_asked(settings.rotation)} degrees and translations within "
        f"{as_asked(translation)} pixels of {side}, {' x '.join(map(str, settings.grid))} = {len(grid)} points; "
        f"{passes} passes are left"
    )

    def make(start: int) -> Made:
        rows = slice(start, start + BLOCK)
        x, y = subject.batch(rows)
        search = _Search(g, about, grid, x, y, subject.indices[rows])
        block = ShiftBlock(images=list(range(start, start + len(x))), points={}, worst={}, held={}, right={})
        for m in about.samples:
            for first in range(0, len(grid), search.together):
                work.pause()
                looked = search.look(m, first)
                work.bar.advance(looked * m * ranks.world())
            search.conclude(m, block)
            work.bar.advance(len(x) * fresh * m * ranks.world())
        return Made(block.to_table())

    def kept(done: int) -> str:
        return f"the outcomes of {log.images} of {len(subject)} shifted images are kept"

    with resumable(run, log, verb="evaluate", label="shift", unit="passes", total=passes, kept=kept) as work:
        for _ in work.in_rounds(range(log.images, len(subject), BLOCK), make):
            pass
    return _results(about, [ShiftBlock(**line) for line in log.lines], clean)


class _Search:
    """The search for the worst point of each image of a block.

    Args:
        g: The model under its noise.
        about: The rules and the seed.
        grid: The points.
        x: (N, C, S, S) images in [0, 1].
        y: (N,) labels.
        keys: (N,) the images' indices.
    """

    def __init__(
        self, g: SmoothedClassifier, about: ThreatSubject, grid: Sequence[Shift], x: Tensor, y: Tensor, keys: Tensor
    ) -> None:
        self.g, self.about, self.grid = g, about, grid
        self.x, self.y, self.keys = x, y, keys
        self.together = max(1, _TOGETHER // len(x))
        self._scores: dict[Rule, list[Tensor]] = {rule: [] for rule in about.rules}

    def look(self, m: int, first: int) -> int:
        """Vote on the images at the next points of the grid, and return on how many shifted images."""
        points = self.grid[first : first + self.together]
        moved = torch.cat([shifted(self.x, point) for point in points])
        # The draws follow from the image's key: every point has the same.
        tally = self.g.keyed_tally(moved, self.keys.repeat(len(points)), self.about.seed, f"shift {m}", m)
        y = self.y.repeat(len(points))
        for rule, scores in self._scores.items():
            scores += score(tally, y, rule).reshape(len(points), -1).unbind()
        return len(moved)

    def conclude(self, m: int, block: ShiftBlock) -> None:
        """Enter what all points gave into a block, with a fresh vote at the worst point of each image."""
        for rule, scores in self._scores.items():
            of_points = torch.stack(scores)
            worst = of_points.argmin(dim=0)
            held = (of_points > 0).all(dim=0)
            right = held
            if not self.g.deterministic:
                moved = torch.stack(
                    [
                        shifted(image[None], self.grid[place])[0]
                        for image, place in zip(self.x, worst.tolist(), strict=True)
                    ]
                )
                tally = self.g.keyed_tally(moved, self.keys, self.about.seed, f"shift worst {m}", m)
                right = tally.predict(rule) == self.y
            put(block.points, m, rule, (of_points > 0).sum(dim=1))
            put(block.worst, m, rule, worst)
            put(block.held, m, rule, held)
            put(block.right, m, rule, right)
        self._scores = {rule: [] for rule in self._scores}


def score(tally: Tally, y: Tensor, rule: Rule) -> Tensor:
    """Return by how much each vote is won, (N,): above 0 where it is right, below 0 where it is wrong.

    By the vote it is the lead of the label over the best other class as a share of the draws, and of equal leads the
    one whose confidence is lower counts less; by the mean it is the lead in confidence.
    """
    right = tally.predict(rule) == y
    lead = _lead(tally.confidence, y) / tally.samples
    if rule == "majority":
        lead = _lead(tally.votes.to(lead.dtype), y) / tally.samples + lead / (4 * tally.samples)
    # A tie goes to the lowest class: then the sign of the lead does not say who has won.
    return torch.where(right, 4 + lead, lead - 4)


def _lead(sums: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the label minus the largest other one: (N, K), (N,) -> (N,)."""
    label = torch.zeros_like(sums, dtype=torch.bool).scatter_(1, y[:, None], True)
    return sums[label] - sums.masked_fill(label, -torch.inf).amax(dim=1)


def _check(subject: Line, records: list[Table], about: ThreatSubject, points: int) -> None:
    """Raise ValueError unless the logged blocks follow each other and hold what a search gives."""
    images = len(about.indices)
    for number, record in enumerate(records):
        block = ShiftBlock.model_validate(record)
        rows = range(number * BLOCK, min((number + 1) * BLOCK, images))
        demand(len(rows) > 0 and block.images == list(rows), "its images do not follow each other")
        check_columns(block.points, about, points, len(rows))
        check_columns(block.worst, about, len(rows), points - 1)
        for column in (block.held, block.right):
            check_columns(column, about, len(rows), 1)


def _results(about: ThreatSubject, blocks: Sequence[ShiftBlock], clean: Sequence[AccuracyRow]) -> Shifts:
    held, right = joined(block.held for block in blocks), joined(block.right for block in blocks)
    rows = []
    for row in clean:
        m, rule = str(row.samples), row.rule
        fresh = accuracy_row(right[m][rule])
        rows.append(
            ShiftRow(
                samples=row.samples,
                rule=rule,
                images=row.images,
                natural=row.accuracy,
                held=sum(held[m][rule]) / row.images,
                accuracy=fresh["accuracy"],
                low=fresh["low"],
                high=fresh["high"],
            )
        )
    assert about.rotation is not None
    assert about.translation is not None
    return Shifts(
        rotation=about.rotation,
        translation=about.translation,
        grid=about.grid,
        rows=rows,
        points=summed([block.points for block in blocks]),
        outcomes=ShiftOutcomes(
            indices=about.indices, worst=joined(block.worst for block in blocks), held=held, right=right
        ),
    )
