"""Measure accuracy under the common corruptions of Hendrycks & Dietterich 2019, by the same votes as without them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from rushkit.corruptions import Parameters, check_images, corrupted, parameters_of
from rushkit.distributed import ranks
from rushkit.evaluation.baseline import Baseline
from rushkit.evaluation.blocks import CORRUPTIONS, check_columns, joined, put, square_side, summed, threat_subject
from rushkit.recipe.schema import Corruption, Recipe
from rushkit.results.evaluation import AccuracyRow
from rushkit.results.intervals import accuracy_row, mean_interval
from rushkit.results.logs import CorruptionBlock, ThreatSubject
from rushkit.results.threats import ByKind, CorruptionMean, CorruptionOutcomes, CorruptionRow, Corruptions
from rushkit.run.folder import Run
from rushkit.run.log import Table
from rushkit.run.log_checks import demand
from rushkit.setup.components import to_float
from rushkit.setup.outcomes import BLOCK
from rushkit.setup.resumable import Line, Made, SharedLog, resumable
from rushkit.setup.subject import Subject

# Whose parameters the strengths have, in words.
PARAMETERS = {"cifar10-c": "CIFAR-10-C", "imagenet-c": "ImageNet-C"}


class _Item(NamedTuple):
    """A block of images under one corruption."""

    kind: Corruption
    strength: int
    start: int


def measure_corruptions(
    subject: Subject,
    recipe: Recipe,
    run: Run,
    clean: Sequence[AccuracyRow],
    baseline: Baseline | None = None,
) -> Corruptions:
    """Measure the accuracy under each kind of corruption of the recipe, at each strength, for each m and rule.

    The draws of noise are those of the evaluation without corruptions, image by image.

    Args:
        subject: The model and the N images.
        recipe: The sections noise, evaluate and system are used.
        run: The run that outcomes are written to; a stopped run is resumed.
        clean: The accuracy without corruptions, for each m and rule.
        baseline: What mean corruption errors are shares of; None: there are none.

    Raises:
        UsageError: images of other than 1 or 3 channels, smaller than 8x8, or not square.
        Interrupted: a signal asked to stop; finished work is kept.
    """
    settings, side = recipe.evaluate, square_side(subject, CORRUPTIONS)
    check_images(subject.classifier.channels, side)
    kinds, strengths = list(settings.corruptions), sorted(settings.strengths)
    about = threat_subject(subject, recipe, BLOCK).with_changes(kinds=kinds, strengths=strengths)
    starts = range(0, len(subject), BLOCK)
    items = [_Item(kind, strength, start) for kind in kinds for strength in strengths for start in starts]
    check = partial(_check, about=about, items=items, images=len(subject))
    log = SharedLog(run, "corruptions.jsonl", about.to_table(), check, units=lambda line: 0)
    left = items[len(log.lines) :]
    passes = sum(min(BLOCK, len(subject) - item.start) for item in left) * sum(about.samples)
    parameters = parameters_of(side)
    own = "; frost is a texture of our own, not the published photographs" if "frost" in kinds else ""
    run.speaker.say(
        f"corruptions: {len(kinds)} kinds at strengths {', '.join(map(str, strengths))} of "
        f"{PARAMETERS[parameters]}{own}; {passes} passes are left"
    )
    g = subject.smoothed(max(about.samples))

    def make(item: _Item) -> Made:
        rows = slice(item.start, item.start + BLOCK)
        keys, labels = subject.indices[rows], subject.labels[rows]
        images = corrupted(subject.split.images[rows], item.kind, item.strength, about.seed, keys)
        x, block = to_float(images.to(subject.machine.device)), _empty(item, len(labels))
        for m in about.samples:
            work.pause()
            tally = g.keyed_tally(x, keys, about.seed, f"evaluate {m}", m)
            for rule in about.rules:
                put(block.right, m, rule, tally.predict(rule).cpu() == labels)
            work.bar.advance(len(labels) * m * ranks.world())
        return Made(block.to_table())

    def kept(done: int) -> str:
        return f"the outcomes of {len(log.lines)} of {len(items)} blocks of corrupted images are kept"

    with resumable(run, log, verb="evaluate", label="corruptions", unit="passes", total=passes, kept=kept) as work:
        for _ in work.in_rounds(left, make):
            pass
    return _results(about, [CorruptionBlock(**line) for line in log.lines], clean, baseline, parameters)


def _empty(item: _Item, images: int) -> CorruptionBlock:
    positions = list(range(item.start, item.start + images))
    return CorruptionBlock(kind=item.kind, strength=item.strength, images=positions, right={})


def _check(subject: Line, records: list[Table], about: ThreatSubject, items: Sequence[_Item], images: int) -> None:
    """Raise ValueError unless the logged blocks are the first of these items."""
    demand(len(records) <= len(items), "there are more blocks than corrupted images")
    for record, item in zip(records, items, strict=False):
        block = CorruptionBlock.model_validate(record)
        rows = range(item.start, min(item.start + BLOCK, images))
        demand((block.kind, block.strength) == (item.kind, item.strength), "its corruptions do not follow each other")
        demand(block.images == list(rows), "its images do not follow each other")
        check_columns(block.right, about, len(rows), 1)


def _results(
    about: ThreatSubject,
    blocks: Sequence[CorruptionBlock],
    clean: Sequence[AccuracyRow],
    baseline: Baseline | None,
    parameters: Parameters,
) -> Corruptions:
    cells: dict[tuple[Corruption, int], list[CorruptionBlock]] = {}
    for block in blocks:
        cells.setdefault((block.kind, block.strength), []).append(block)
    right = {cell: joined(block.right for block in of_cell) for cell, of_cell in cells.items()}
    by_kind = {kind: summed([right[kind, strength] for strength in about.strengths]) for kind in about.kinds}
    outcomes: ByKind = {
        str(m): {rule: {kind: by_kind[kind][str(m)][rule] for kind in about.kinds} for rule in about.rules}
        for m in about.samples
    }
    rows = [
        CorruptionRow(kind=kind, strength=strength, samples=m, rule=rule, **accuracy_row(of_cell[str(m)][rule]))
        for (kind, strength), of_cell in right.items()
        for m in about.samples
        for rule in about.rules
    ]
    means = []
    for row in clean:
        of_kinds = outcomes[str(row.samples)][row.rule]
        share = sum(map(sum, of_kinds.values())) / len(cells)
        low, high = mean_interval(share, row.images)
        means.append(
            CorruptionMean(
                samples=row.samples,
                rule=row.rule,
                accuracy=share / row.images,
                low=low,
                high=high,
                clean=row.accuracy,
                mce=None if baseline is None else baseline.error_of(of_kinds, len(about.strengths)),
            )
        )
    return Corruptions(
        parameters=parameters,
        seed=about.seed,
        kinds=about.kinds,
        strengths=about.strengths,
        rows=rows,
        means=means,
        baseline=None if baseline is None else baseline.facts,
        outcomes=CorruptionOutcomes(indices=about.indices, right=outcomes),
    )
