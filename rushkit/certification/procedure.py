"""The interface of a certification procedure: it defines what to draw, and how to certify from the counts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import Certificates
from rushkit.certification.claim import Claim
from rushkit.certification.counts import ImageCounts
from rushkit.certification.draws import Sampler
from rushkit.certification.tasks import Task
from rushkit.errors import UsageError
from rushkit.results.certification import DrawsUsed, Mode
from rushkit.results.logs import CountsLine, Selection


@dataclass(frozen=True, eq=False)
class Conclusion:
    """The certificates that follow from the counts.

    Attributes:
        counts: Counts of the images that have all their draws, in order.
        certificates: Certificates of these images.
        draws_used: Draws that the sequential tests took.
        undecided: Number of images with an undecided sequential test.
    """

    counts: ImageCounts
    certificates: Certificates
    draws_used: DrawsUsed | None = None
    undecided: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict on one image that follows from its counts.

    Attributes:
        predicted: The class, or ABSTAIN.
        top: The class that the bounds are for.
        p_lower: Lower bound on its probability, or on its mean confidence.
        p_upper: Upper bound on the same.
        radius: Certified radius, pixel units; 0 if it abstains.
    """

    predicted: int
    top: int
    p_lower: float
    p_upper: float
    radius: float


@dataclass(frozen=True)
class Procedure(ABC):
    """A procedure that proves a claim.

    Attributes:
        claim: The claim that the certificates make.
        selection: Number of draws that choose the class of an image.
    """

    claim: Claim
    selection: int
    mode: ClassVar[Mode]

    @classmethod
    @abstractmethod
    def tasks(cls, images: int, selection: int, samples: int) -> Iterator[Task]:
        """Yield the draws that are known in advance, in order; each task becomes a line of the log."""

    @classmethod
    def looks(cls, samples: int) -> list[int]:
        """Return the numbers of draws after which tests are evaluated; none where there are no tests."""
        del samples
        return []

    @property
    @abstractmethod
    def draws_per_image(self) -> int | None:
        """The number of draws for each image; None if it depends on the counts."""

    @property
    @abstractmethod
    def words(self) -> str:
        """A description of the procedure, for the first line of output."""

    @abstractmethod
    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Draw and count what is left after the lines of a log, and yield the next lines, the same on every rank.

        Args:
            sampler: The images and the model.
            lines: The log so far.
        """

    @abstractmethod
    def conclude(self, lines: Sequence[CountsLine]) -> Conclusion:
        """Certify from the lines of a log.

        Raises:
            UsageError: no image has all its draws.
        """

    def at(self, alpha: float) -> Self:
        """Return the same procedure with another probability, for each image, that its certificate is false."""
        return replace(self, claim=replace(self.claim, alpha=alpha))

    def check_logged(self, samples: int) -> None:
        """Raise UsageError if a log of ``samples`` draws per image lacks the counts that this procedure needs."""
        if self.claim.samples > samples:
            raise self._not_logged(f"up to {samples}")

    def _not_logged(self, choice: str) -> UsageError:
        return UsageError(
            f"the counts have no {self.claim.samples} draws an image",
            f"choose --samples {choice}, or certify anew",
        )

    def majority_radius(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return (N,) radii within which the class has at least half of the noise; a top class may have less."""
        return self._alone(certificates) if self.claim.two_class else certificates.radius

    def _alone(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return (N,) radii, limited to the radius that the bound on the class alone gives."""
        claim = self.claim
        alone = np.asarray(claim.noise.certified_radius(certificates.p_lower, claim.norm, claim.dim))
        radii: NDArray[np.float64] = np.minimum(certificates.radius, alone)
        return radii


def count_selection(sampler: Sampler, task: Task) -> Selection:
    """Make and count the draws that choose the classes of some images."""
    started = time.perf_counter()
    counts = sampler.count_task(task)
    return Selection(
        images=sampler.images_of(task.rows),
        labels=sampler.labels_of(task.rows),
        uniforms=sampler.uniforms_of(task.rows),
        votes=counts.votes.tolist(),
        scores=counts.scores.tolist(),
        drawn=task.draws,
        seconds=time.perf_counter() - started,
    )


def bound_words(claim: Claim) -> str:
    """Return a description of the bound of a claim, for the first line of output."""
    return f"{claim.bound} bound on the {claim.rule} rule, alpha {claim.alpha:g}"
