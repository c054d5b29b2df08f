"""The model whose errors under corruptions those of another are a share of: the mean corruption error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rushkit.errors import UsageError
from rushkit.recipe.schema import Corruption, Recipe
from rushkit.results import read
from rushkit.results.evaluation import Evaluation
from rushkit.results.threats import CorruptionBaseline, CorruptionError, mean_corruption_error
from rushkit.setup.subject import Subject
from rushkit.statistics import mean_ratio_interval


@dataclass(frozen=True)
class Baseline:
    """What mean corruption errors are shares of.

    Attributes:
        facts: The run, its vote, and its errors.
        right: Kind -> (N,) at how many strengths the baseline has the image right.
    """

    facts: CorruptionBaseline
    right: Mapping[Corruption, Sequence[int]]

    def error_of(self, right: Mapping[Corruption, Sequence[int]], strengths: int) -> CorruptionError:
        """Return the mean corruption error of a model on the same images, with its interval.

        Args:
            right: Kind -> (N,) at how many strengths the model has the image right.
            strengths: How many strengths there are.
        """
        kinds = list(right)
        wrong = 1 - np.array([right[kind] for kind in kinds]).T / strengths
        errors = dict(zip(kinds, wrong.mean(axis=0).tolist(), strict=True))
        value = mean_corruption_error(errors, self.facts.errors)
        if len(wrong) < 2:
            return CorruptionError(value=value)
        theirs = 1 - np.array([self.right[kind] for kind in kinds]).T / strengths
        low, high = mean_ratio_interval(wrong, theirs)
        return CorruptionError(value=value, low=low, high=high)


def evaluation_at(folder: Path) -> Evaluation:
    """Return the results of the run of a baseline. Raises UsageError if it is no finished evaluation."""
    results = read(folder)
    if not isinstance(results, Evaluation):
        raise UsageError(
            f"{folder}, the run of --baseline, is no finished evaluation",
            "name a run of rushkit evaluate --corruptions all",
        )
    return results


def baseline_of(results: Evaluation, recipe: Recipe) -> Baseline:
    """Return the errors of the model that mean corruption errors are shares of: by its vote of the most draws.

    Args:
        results: An evaluation under corruptions, as it was read from its run.
        recipe: The recipe of the evaluation that is compared with it.

    Raises:
        UsageError: it lacks a kind or a strength, or makes no error under a kind.
    """
    wanted, run = recipe.evaluate, Path(results.run)
    measured = results.corruptions
    again = "measure it with the same --corruptions and --strengths, of the same images"
    if measured is None:
        raise UsageError(f"{run}, the run of --baseline, has no accuracy under corruptions", again)
    lacking = [kind for kind in wanted.corruptions if kind not in measured.kinds]
    if lacking or measured.strengths != sorted(wanted.strengths):
        what = lacking[0] if lacking else f"the strengths {', '.join(map(str, sorted(wanted.strengths)))}"
        raise UsageError(f"{run}, the run of --baseline, was not measured under {what}", again)
    votes = [mean for mean in measured.means if mean.rule == "majority"] or measured.means
    best = max(votes, key=lambda mean: mean.samples)
    errors = measured.errors_of(best.samples, best.rule)
    if flawless := next((kind for kind in wanted.corruptions if not errors[kind]), None):
        raise UsageError(
            f"{run}, the run of --baseline, makes no error under {flawless}: no share of that can be taken",
            "choose another baseline, or more images",
        )
    kept = {kind: errors[kind] for kind in wanted.corruptions}
    facts = CorruptionBaseline(run=run.name, samples=best.samples, rule=best.rule, errors=kept)
    return Baseline(facts, measured.outcomes.right[str(best.samples)][best.rule])


def check_same_images(results: Evaluation, subject: Subject) -> None:
    """Raise UsageError unless a baseline was measured on the images of a subject."""
    measured = results.corruptions
    if results.data != subject.split.name or (
        measured is not None and measured.outcomes.indices != subject.indices.tolist()
    ):
        images = 0 if measured is None else len(measured.outcomes.indices)
        raise UsageError(
            f"{results.run}, the run of --baseline, was measured on {images} images of {results.data}, and here are "
            f"{len(subject)} of {subject.split.name}: an error is a share of another one on the same images only",
            "measure both with the same --split, --limit and --skip",
        )
