"""Certify from a fixed number of draws: CERTIFY and PREDICT of Cohen, Rosenfeld & Kolter 2019, and the mean rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from rushkit.certificates import (
    ABSTAIN,
    Certificates,
    MeanSums,
    Randomized,
    certify_counts,
    certify_means,
    predict_counts,
)
from rushkit.certification.counts import ImageCounts, gather_counts
from rushkit.certification.draws import Sampler
from rushkit.certification.procedure import Conclusion, Procedure, Verdict, bound_words, count_selection
from rushkit.certification.tasks import Task, fixed_tasks, marks
from rushkit.errors import UsageError
from rushkit.results.certification import Mode
from rushkit.results.logs import CountsLine, Estimation, Selection
from rushkit.statistics import clopper_pearson_interval


@dataclass(frozen=True)
class FixedSamples(Procedure):
    """CERTIFY of Cohen, Rosenfeld & Kolter 2019: some draws choose the class, a fixed number of others bound it."""

    mode: ClassVar[Mode] = "fixed"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> Iterator[Task]:
        """Yield the tasks of ``fixed_tasks``."""
        return fixed_tasks(images, selection, samples)

    @property
    def draws_per_image(self) -> int:
        """The draws that choose the class and those that bound it."""
        return self.selection + self.claim.samples

    @property
    def words(self) -> str:
        """The number of draws, and the bound."""
        return f"{self.claim.samples} draws an image, {bound_words(self.claim)}"

    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Yield the lines group by group; one group of images is finished before the next begins."""
        mean_classes = _mean_classes(lines)
        for task in islice(self.tasks(len(sampler.split), self.selection, self.claim.samples), len(lines), None):
            if task.part == "selection":
                line: CountsLine = count_selection(sampler, task)
                mean_classes |= _mean_classes([line])
            else:
                line = _count_estimation(sampler, task, mean_classes)
            yield line

    def conclude(self, lines: Sequence[CountsLine]) -> Conclusion:
        """Certify the images whose draws are finished."""
        counts, done = gather_counts(lines, self.claim.samples)
        counts = counts.take(np.flatnonzero(done == self.claim.samples))
        if not len(counts.images):
            raise UsageError(
                f"no image has all {self.claim.samples} draws yet", "let the run finish with --resume, or ask for fewer"
            )
        return Conclusion(counts, self.certificates(counts))

    def check_logged(self, samples: int) -> None:
        """Raise UsageError if the counts were not logged after this number of draws."""
        if self.claim.samples not in (known := marks(samples)):
            raise self._not_logged(f"from {', '.join(map(str, known))}")

    def certificates(self, counts: ImageCounts) -> Certificates:
        """Certify from a fixed number of draws, by the claim's rule and bound."""
        claim = self.claim
        match claim.bound:
            case "clopper-pearson" | "betting" | "randomized" as bound:
                return certify_counts(
                    counts.selection,
                    counts.votes,
                    claim.noise,
                    claim.norm,
                    claim.dim,
                    claim.alpha,
                    Randomized(counts.uniforms) if bound == "randomized" else bound,
                    claim.two_class,
                )
            case "empirical-bernstein" | "hoeffding" as bound:
                sums = MeanSums(counts.mean_class, counts.scores, counts.squares, claim.samples)
                return certify_means(sums, claim.noise, claim.norm, claim.dim, claim.alpha, bound)
            case "one-sided-betting" | "exhaustive":
                raise AssertionError("another procedure has this bound")

    def count_image(self, sampler: Sampler, advance: Callable[[int], object]) -> ImageCounts:
        """Make all draws for the sampler's only image, and call ``advance`` with the number of draws."""
        selection = sampler.count_task(Task("selection", range(1), 0, self.selection))
        advance(self.selection)
        estimation = sampler.count_task(Task("estimation", range(1), 0, self.claim.samples))
        advance(self.claim.samples)
        return ImageCounts.of_one(selection, estimation, sampler.uniforms_of(range(1))[0])

    def verdict(self, counts: ImageCounts) -> Verdict:
        """Return the class of PREDICT, from the estimation draws, and the radius of CERTIFY, for a single image.

        It abstains if the estimation draws favour another class than the selection draws: the bounds always concern
        ``top``, the class that was chosen before the draws that bound its probability.
        """
        claim, certificates = self.claim, self.certificates(counts)
        certified = int(certificates.predicted[0])
        if claim.rule == "mean":
            p_lower = float(certificates.p_lower[0])
            return Verdict(certified, int(counts.mean_class[0]), p_lower, 1.0, float(certificates.radius[0]))
        top, winner = int(counts.vote_class[0]), int(predict_counts(counts.votes, claim.alpha)[0])
        predicted = winner if winner == top else ABSTAIN
        low, high = clopper_pearson_interval(counts.votes[0, top], claim.samples, claim.alpha)
        radius = float(certificates.radius[0]) if predicted == certified else 0.0
        return Verdict(predicted, top, float(low), float(high), radius)


def _count_estimation(sampler: Sampler, task: Task, mean_classes: dict[int, int]) -> Estimation:
    """Make and count estimation draws; keep only the confidences in the class that the mean rule would certify."""
    started = time.perf_counter()
    counts = sampler.count_task(task)
    images = sampler.images_of(task.rows)
    # Logging the confidences of all classes would take too much disk space.
    rows, classes = np.arange(len(images)), [mean_classes[image] for image in images]
    return Estimation(
        images=images,
        start=task.start,
        stop=task.stop,
        votes=counts.votes.tolist(),
        scores=counts.scores[rows, classes].tolist(),
        squares=counts.squares[rows, classes].tolist(),
        drawn=task.draws,
        seconds=time.perf_counter() - started,
    )


def _mean_classes(lines: Sequence[CountsLine]) -> dict[int, int]:
    """Return index of an image -> the class with the largest mean softmax in its selection draws."""
    return {
        image: int(np.argmax(scores))
        for line in lines
        if isinstance(line, Selection)
        for image, scores in zip(line.images, line.scores, strict=True)
    }
