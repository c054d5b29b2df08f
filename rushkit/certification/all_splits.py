"""Certify by counting all noisy versions of each image, for noises with finitely many: the result is certain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import Certificates
from rushkit.certification.counts import ImageCounts, gather_counts
from rushkit.certification.draws import Sampler
from rushkit.certification.procedure import Conclusion, Procedure, Verdict
from rushkit.certification.tasks import Task, group_tasks
from rushkit.errors import UsageError
from rushkit.noises import FiniteNoise
from rushkit.noises.additive import from_l1
from rushkit.results.certification import Mode
from rushkit.results.logs import CountsLine, Splits


@dataclass(frozen=True)
class AllSplits(Procedure):
    """A count over all noisy versions of each image, whose certificates are certain (Levine & Feizi 2021).

    Attributes:
        noise: The claim's noise.
    """

    noise: FiniteNoise
    mode: ClassVar[Mode] = "splits"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> Iterator[Task]:
        """Yield a task for all versions of each group of images; there are no selection draws."""
        return group_tasks("splits", images, samples)

    @property
    def draws_per_image(self) -> int:
        """The number of versions."""
        return self.claim.samples

    @property
    def words(self) -> str:
        """The number of versions."""
        return f"all {self.claim.samples} splits of each image, no chance of error"

    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Yield a line for each group of images."""
        for task in islice(self.tasks(len(sampler.split), 0, self.claim.samples), len(lines), None):
            started = time.perf_counter()
            counts = sampler.count_splits(self.noise, task.rows)
            yield Splits(
                images=sampler.images_of(task.rows),
                labels=sampler.labels_of(task.rows),
                votes=counts.votes.tolist(),
                scores=counts.scores.tolist(),
                drawn=task.draws,
                seconds=time.perf_counter() - started,
            )

    def conclude(self, lines: Sequence[CountsLine]) -> Conclusion:
        """Certify all images in the log; each has all its votes."""
        counts, _ = gather_counts(lines, self.claim.samples)
        if not len(counts.images):
            raise UsageError("no image has all its votes yet", "let the run finish with --resume")
        return Conclusion(counts, self.certificates(counts))

    def certificates(self, counts: ImageCounts) -> Certificates:
        """Certify from the votes over all splits: p is known exactly, so the procedure never abstains."""
        votes = np.sort(counts.selection, axis=1)
        return Certificates(
            predicted=counts.vote_class,
            p_lower=votes[:, -1] / self.claim.samples,
            p_upper=votes[:, -2] / self.claim.samples,
            radius=from_l1(self.noise.deterministic_radius(counts.selection), self.claim.norm, self.claim.dim),
        )

    def count_image(self, sampler: Sampler, advance: Callable[[int], object]) -> ImageCounts:
        """Count all versions of the sampler's only image; ``advance`` is called with their number."""
        counts = ImageCounts.of_one(sampler.count_splits(self.noise, range(1)))
        advance(self.claim.samples)
        return counts

    def verdict(self, counts: ImageCounts) -> Verdict:
        """Return the class with the most votes, its share of the votes, and its radius, for a single image."""
        top = int(counts.vote_class[0])
        share = float(counts.selection[0, top] / self.claim.samples)
        return Verdict(top, top, share, share, float(self.certificates(counts).radius[0]))

    def majority_radius(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return the radius of a share of half: the count compares the two largest shares, which may be smaller."""
        return self._alone(certificates)
