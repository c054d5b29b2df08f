"""Whether the logged votes of a certification are plausible: beside fresh draws of some images, and among images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rushkit.certification.counts import ImageCounts
from rushkit.claims.counts import image_p_values, total_p_value
from rushkit.claims.implausible import apart_from_stopped, equal_counts_p_value, means_apart
from rushkit.claims.recount import Recount
from rushkit.claims.redraw import Redrawn
from rushkit.errors import first_few
from rushkit.results.logs import Round
from rushkit.results.notes import Status
from rushkit.votes import SCORE

Integers = NDArray[np.int64]
# A status, a sentence, and the figures in it.
Finding = tuple[Status, str, dict[str, float]]
# Probability that honest counts are called implausible by a check.
LEVEL = 1e-3
# Share of the votes of an image over all splits that rounding may give to another class.
_ROUNDING = 1e-3


def draws_agree(redone: Recount, redrawn: Redrawn) -> Finding:
    """Return whether fresh draws can have the probabilities of the logged votes.

    Fixed numbers of draws are compared by exact tests of two samples, image by image and all together; votes of
    sequential tests, which stop when their votes decide, by bounds that hold at any moment; counts over all splits
    must be equal but for rounding. Honest counts fail with probability LEVEL at most.
    """
    counts = redone.conclusion.counts.take(np.array(redrawn.rows))
    match redone.procedure.mode:
        case "splits":
            return _equal_splits(counts, redrawn)
        case "sequential":
            return _of_stopped_tests(redone, counts, redrawn)
        case "fixed":
            return _of_fixed_draws(redone, counts, redrawn)


def no_count_is_too_common(redone: Recount) -> Finding:
    """Return whether no count of votes is that of more images than independent draws can give."""
    if redone.procedure.mode != "fixed":
        return "skipped", "not checked: only votes of one number of draws can be compared between images", {}
    counts, draws = redone.conclusion.counts, redone.procedure.claim.samples
    votes = counts.votes[np.arange(len(counts.votes)), counts.vote_class]
    p_value = equal_counts_p_value(votes.tolist(), draws)
    figures = {"images": float(len(votes)), "p_value": p_value}
    if p_value < LEVEL:
        return "fail", f"too many images have one count of votes: p = {p_value:.2g}", figures
    return "pass", "no count of votes is that of more images than chance allows", figures


def _of_fixed_draws(redone: Recount, counts: ImageCounts, redrawn: Redrawn) -> Finding:
    draws, images = redone.procedure.claim.samples, len(redrawn.rows)
    compared = _compared_classes(redone, counts)
    share = LEVEL / (2 * len(compared) + (redone.procedure.claim.rule == "mean"))
    lowest, apart = 1.0, set[int]()
    for classes in compared:
        logged, fresh = _votes_for(counts.votes, classes), _votes_for(redrawn.counts.votes, classes)
        # The fewer draws come first: theirs is the distribution that is written out.
        p_values = image_p_values(fresh, redrawn.draws, logged, draws)
        total = total_p_value(fresh, redrawn.draws, logged, draws)
        lowest = min(lowest, total, float(p_values.min()) * images)
        apart |= {int(row) for row in np.flatnonzero(p_values < share / images)} | ({-1} if total < share else set())
    if redone.procedure.claim.rule == "mean":
        apart |= {int(row) for row in np.flatnonzero(_means_apart(counts, redrawn, draws, share / images))}
    return _finding(counts, redrawn, sorted(apart), {"p_value": min(1.0, lowest)})


def _compared_classes(redone: Recount, counts: ImageCounts) -> list[Integers]:
    """Return the classes whose votes are compared, (N,) each: they follow from the draws that select, and no others."""
    if not redone.procedure.claim.two_class:
        return [counts.vote_class]
    order = np.argsort(-counts.selection, axis=1, kind="stable")
    return [order[:, 0], order[:, 1]]


def _means_apart(counts: ImageCounts, redrawn: Redrawn, draws: int, level: float) -> NDArray[np.bool_]:
    rows, classes = np.arange(len(redrawn.rows)), counts.mean_class
    sums = redrawn.counts.scores[rows, classes] / SCORE
    squares = redrawn.counts.squares[rows, classes] / SCORE**2
    return means_apart((counts.scores, counts.squares, draws), (sums, squares, redrawn.draws), level)


def _of_stopped_tests(redone: Recount, counts: ImageCounts, redrawn: Redrawn) -> Finding:
    images = dict.fromkeys(counts.images.tolist(), 0)
    votes, trials = dict(images), dict(images)
    for line in redone.logged.lines:
        if isinstance(line, Round):
            for image, right, sizes in zip(line.images, line.right, line.sizes, strict=True):
                if image in images:
                    votes[image] += sum(right)
                    trials[image] += sum(sizes)
    drawn = np.flatnonzero(np.array(list(trials.values())) > 0)
    stopped = [np.array(list(column.values()))[drawn] for column in (votes, trials)]
    fresh = np.array(_votes_for(redrawn.counts.votes, counts.vote_class))[drawn]
    level = LEVEL / max(1, len(drawn))
    apart = drawn[apart_from_stopped(stopped[0], stopped[1], fresh, redrawn.draws, level)]
    return _finding(counts, redrawn, apart.tolist(), {})


def _equal_splits(counts: ImageCounts, redrawn: Redrawn) -> Finding:
    moved = np.abs(counts.selection - redrawn.counts.votes).sum(axis=1) // 2
    apart = np.flatnonzero(moved > max(1, _ROUNDING * redrawn.draws)).tolist()
    return _finding(counts, redrawn, apart, {"moved": float(moved.max(initial=0))})


def _finding(counts: ImageCounts, redrawn: Redrawn, apart: Sequence[int], figures: dict[str, float]) -> Finding:
    figures = {"images": float(len(redrawn.rows)), "draws": float(redrawn.draws), **figures}
    if apart:
        named = [str(int(counts.images[row])) if row >= 0 else "all together" for row in apart]
        says = f"fresh draws do not have the probabilities of the logged votes: images {first_few(named, 5)}"
        return "fail", says, figures
    p_value = f", p = {figures['p_value']:.2g}" if "p_value" in figures else ""
    says = f"{redrawn.draws} fresh draws of each of {len(redrawn.rows)} images agree with the logged votes{p_value}"
    return "pass", says, figures


def _votes_for(votes: Integers, classes: Integers) -> list[int]:
    taken: list[int] = votes[np.arange(len(votes)), classes].tolist()
    return taken
