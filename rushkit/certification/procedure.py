"""What every way to certify has in common: it knows what to draw, and what follows from the counts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

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
    """What follows from the counts.

    Attributes:
        counts: Of the images that have all their draws, in their order.
        certificates: Theirs.
        draws_used: What sequential tests took.
        undecided: Images of which a sequential test is undecided.
    """

    counts: ImageCounts
    certificates: Certificates
    draws_used: DrawsUsed | None = None
    undecided: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the counts of one image say of it.

    Attributes:
        predicted: The class, or ABSTAIN.
        top: The class that the bounds are of.
        p_lower: Lower bound on its probability, or mean confidence.
        p_upper: Upper bound.
        radius: Certified radius, pixel units; 0 where it abstains.
    """

    predicted: int
    top: int
    p_lower: float
    p_upper: float
    radius: float


@dataclass(frozen=True)
class Procedure(ABC):
    """How a claim is proved.

    Attributes:
        claim: What the certificates say.
        selection: Draws of an image that choose its class.
    """

    claim: Claim
    selection: int
    mode: ClassVar[Mode]

    @classmethod
    @abstractmethod
    def tasks(cls, images: int, selection: int, samples: int) -> list[Task]:
        """Return the draws that are known beforehand, in their order; each task becomes a line of the log."""

    @property
    @abstractmethod
    def draws_per_image(self) -> int | None:
        """How many draws an image takes; None where the counts decide."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done, for the first line on the screen."""

    @abstractmethod
    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Draw and count what is left to do after some lines of the log; yields the next lines, the same on every rank.

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

    def check_logged(self, samples: int) -> None:
        """Raise UsageError where a log of ``samples`` draws an image cannot tell what this procedure needs."""
        if self.claim.samples > samples:
            raise self._not_logged(f"up to {samples}")

    def _not_logged(self, choice: str) -> UsageError:
        return UsageError(
            f"the counts have no {self.claim.samples} draws an image",
            f"choose --samples {choice}, or certify anew",
        )

    def majority_radius(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return (N,) radii within which the class has at least half of the noise; a class may lead with less."""
        return self._alone(certificates) if self.claim.two_class else certificates.radius

    def _alone(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return (N,) radii, each at most that which the bound on the class alone gives."""
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
        votes=counts.votes.tolist(),
        scores=counts.scores.tolist(),
        drawn=task.draws,
        seconds=time.perf_counter() - started,
    )


def bound_words(claim: Claim) -> str:
    """Return how a claim bounds the probability, for the first line on the screen."""
    return f"{claim.bound} bound on the {claim.rule} rule, alpha {claim.alpha:g}"
