"""The three ways to certify: a fixed number of draws, tests that stop early, and a count over all noisy versions.

A procedure knows what to draw, what follows from the counts, and what a reader must know. ``choose_procedure`` makes
the one that a recipe asks for.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import ABSTAIN, Certificates, MeanSums, certify_counts, certify_means, predict_counts
from rushkit.certification.claim import Bound, Claim, check_decides, check_theorem
from rushkit.certification.counts import ImageCounts, gather_counts
from rushkit.certification.draws import Sampler
from rushkit.certification.sequential import SequentialTests
from rushkit.certification.tasks import Task, fixed_tasks, group_tasks, marks
from rushkit.errors import UsageError
from rushkit.noises import FiniteNoise, Noise
from rushkit.noises.additive import from_l1
from rushkit.recipe.radius import check_eps
from rushkit.recipe.schema import Certify
from rushkit.results.certification import DrawsUsed, Mode
from rushkit.results.logs import CountsLine, Estimation, Selection, Splits
from rushkit.statistics import clopper_pearson_interval


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
        return np.minimum(certificates.radius, alone)


@dataclass(frozen=True)
class FixedSamples(Procedure):
    """CERTIFY of Cohen, Rosenfeld & Kolter 2019: some draws choose the class, a fixed number of others bound it."""

    mode: ClassVar[Mode] = "fixed"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> list[Task]:
        """Return ``fixed_tasks``."""
        return fixed_tasks(images, selection, samples)

    @property
    def draws_per_image(self) -> int:
        """The draws that choose the class and those that bound it."""
        return self.selection + self.claim.samples

    @property
    def words(self) -> str:
        """The number of draws, and the bound."""
        return f"{self.claim.samples} draws an image, {_bound_words(self.claim)}"

    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Yield the lines group by group; a group of images is done before the next begins."""
        mean_classes = _mean_classes(lines)
        for task in self.tasks(len(sampler.split), self.selection, self.claim.samples)[len(lines) :]:
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
        """Raise UsageError where the counts were not logged after so many draws."""
        if self.claim.samples not in (known := marks(samples)):
            raise self._not_logged(f"from {', '.join(map(str, known))}")

    def certificates(self, counts: ImageCounts) -> Certificates:
        """Certify from a fixed number of draws, by the claim's rule and bound."""
        claim = self.claim
        match claim.bound:
            case "clopper-pearson" | "betting" as bound:
                return certify_counts(
                    counts.selection,
                    counts.votes,
                    claim.noise,
                    claim.norm,
                    claim.dim,
                    claim.alpha,
                    bound,
                    claim.two_class,
                )
            case "empirical-bernstein" | "hoeffding" as bound:
                sums = MeanSums(counts.mean_class, counts.scores, counts.squares, claim.samples)
                return certify_means(sums, claim.noise, claim.norm, claim.dim, claim.alpha, bound)
            case "exhaustive":
                raise AssertionError("draws bound nothing exhaustively")

    def count_image(self, sampler: Sampler, advance: Callable[[int], object]) -> ImageCounts:
        """Draw for the sampler's only image, each part at once; ``advance`` is called with the draws."""
        selection = sampler.count_task(Task("selection", range(1), 0, self.selection))
        advance(self.selection)
        estimation = sampler.count_task(Task("estimation", range(1), 0, self.claim.samples))
        advance(self.claim.samples)
        return ImageCounts.of_one(selection, estimation)

    def verdict(self, counts: ImageCounts) -> Verdict:
        """Return the class of PREDICT, from the draws that estimate, and the radius of CERTIFY, for a single image.

        It abstains where the draws that estimate name another class than those that choose: the bounds are always of
        ``top``, the class that was chosen before the draws that they count.
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


@dataclass(frozen=True)
class AllSplits(Procedure):
    """A count over all noisy versions of each image, which leaves nothing to chance (Levine & Feizi 2021).

    Attributes:
        noise: The claim's noise.
    """

    noise: FiniteNoise
    mode: ClassVar[Mode] = "splits"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> list[Task]:
        """Return a task for all versions of each group of images; nothing is selected."""
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
        for task in self.tasks(len(sampler.split), 0, self.claim.samples)[len(lines) :]:
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
        """Certify all images of the log: each has all its votes."""
        counts, _ = gather_counts(lines, self.claim.samples)
        if not len(counts.images):
            raise UsageError("no image has all its votes yet", "let the run finish with --resume")
        return Conclusion(counts, self.certificates(counts))

    def certificates(self, counts: ImageCounts) -> Certificates:
        """Certify from the votes over all splits: p is known, and no image is abstained on."""
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
        """Return the class with the most votes, its share of them, and its radius, for a single image."""
        top = int(counts.vote_class[0])
        share = float(counts.selection[0, top] / self.claim.samples)
        return Verdict(top, top, share, share, float(self.certificates(counts).radius[0]))

    def majority_radius(self, certificates: Certificates) -> NDArray[np.float64]:
        """Return the radius of a share of half: the count compares the two largest shares, which may be smaller."""
        return self._alone(certificates)


@dataclass(frozen=True)
class Sequential(Procedure):
    """Tests of a few radii by the betting e-process: each image is drawn for until all its tests are decided.

    Attributes:
        radii: The radii to test, pixel units.
    """

    radii: tuple[float, ...]
    mode: ClassVar[Mode] = "sequential"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> list[Task]:
        """Return the draws that choose the classes; the tests ask for the others."""
        return group_tasks("selection", images, selection)

    @property
    def draws_per_image(self) -> None:
        """None: the tests decide."""
        return

    @property
    def words(self) -> str:
        """The largest number of draws, and the bound."""
        return f"up to {self.claim.samples} draws an image, {_bound_words(self.claim)}"

    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Yield the lines that choose the classes, then rounds for the tests that are undecided."""
        known = list(lines)
        for task in self.tasks(len(sampler.split), self.selection, self.claim.samples)[len(lines) :]:
            known.append(count_selection(sampler, task))
            yield known[-1]
        tests = SequentialTests.replayed(self.claim, self.radii, known)
        while (line := tests.next_round(sampler)) is not None:
            tests.apply(line)
            yield line

    def conclude(self, lines: Sequence[CountsLine]) -> Conclusion:
        """Certify what the tests have decided so far."""
        if not self.radii:
            raise UsageError("these counts are of sequential tests, which need radii", "give --radius R")
        counts, _ = gather_counts(lines, self.claim.samples)
        tests = SequentialTests.replayed(self.claim, self.radii, lines)
        order = np.argsort(tests.images, kind="stable")
        certificates = Certificates(*(values[order] for values in vars(tests.certificates()).values()))
        trials = tests.trials[order]
        used = DrawsUsed(mean=float(tests.trials.mean()), most=int(trials.max()), images=trials.tolist())
        return Conclusion(counts, certificates, used, tests.open_ended)


PROCEDURES: dict[Mode, type[Procedure]] = {kind.mode: kind for kind in (FixedSamples, Sequential, AllSplits)}
_COUNT_BOUNDS: tuple[Bound, ...] = ("clopper-pearson", "betting")
_MEAN_BOUNDS: tuple[Bound, ...] = ("empirical-bernstein", "hoeffding")


def choose_procedure(settings: Certify, noise: Noise, dim: int, mode: Mode | None = None) -> Procedure:
    """Choose the procedure of a recipe's [certify] section, checked before anything is drawn.

    Args:
        settings: The section.
        noise: The smoothing distribution.
        dim: C * H * W.
        mode: The procedure that counts were made by; None: the one that fits the settings.

    Raises:
        NoCertificate: no theorem for the norm, or none for two classes.
        UsageError: settings that do not go together, too few draws to ever certify at this alpha, or a radius that no
            two images are apart.
    """
    for radius in settings.radii:
        check_eps(settings.norm, radius, dim, "radius")
    if mode is None and settings.radii and not _counts_all(settings, noise):
        mode = "sequential"
    if mode != "sequential":
        return choose_image_procedure(settings, noise, dim, mode)
    check_theorem(settings, noise, dim)
    claim = _claim(settings, noise, dim, _sequential_bound(settings), settings.alpha)
    check_decides(claim)
    return Sequential(claim, settings.selection, tuple(settings.radii))


def choose_image_procedure(
    settings: Certify, noise: Noise, dim: int, mode: Mode | None = None, predicts: bool = False
) -> FixedSamples | AllSplits:
    """Choose a procedure that gives every image its largest radius, whatever radii the settings would test.

    Args:
        settings: As for ``choose_procedure``.
        noise: The smoothing distribution.
        dim: C * H * W.
        mode: As for ``choose_procedure``.
        predicts: Whether a class is wanted beside the radius.

    Raises:
        NoCertificate, UsageError: as ``choose_procedure``.
    """
    check_theorem(settings, noise, dim)
    if mode != "fixed" and isinstance(noise, FiniteNoise) and _counts_all(settings, noise):
        claim = _claim(settings, noise, dim, "exhaustive", 0.0, predicts)
        return AllSplits(replace(claim, samples=noise.num_splits), 0, noise)
    if mode == "splits":
        raise UsageError("these counts are of all splits, for the majority vote", "leave certify.rule at its default")
    claim = _claim(settings, noise, dim, _fixed_bound(settings), settings.alpha, predicts)
    check_decides(claim)
    return FixedSamples(claim, settings.selection)


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


def _count_estimation(sampler: Sampler, task: Task, mean_classes: dict[int, int]) -> Estimation:
    """Make and count draws that bound the probability; of confidences only those that the mean rule would certify."""
    started = time.perf_counter()
    counts = sampler.count_task(task)
    images = sampler.images_of(task.rows)
    # The confidences of all classes would fill the disk.
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
    """Return by index the class of each image that its selection draws are surest of on average."""
    return {
        image: int(np.argmax(scores))
        for line in lines
        if isinstance(line, Selection)
        for image, scores in zip(line.images, line.scores, strict=True)
    }


def _counts_all(settings: Certify, noise: Noise) -> bool:
    return isinstance(noise, FiniteNoise) and settings.rule == "majority"


def _claim(settings: Certify, noise: Noise, dim: int, bound: Bound, alpha: float, predicts: bool = False) -> Claim:
    return Claim(
        noise=noise,
        norm=settings.norm,
        dim=dim,
        alpha=alpha,
        bound=bound,
        rule=settings.rule,
        two_class=settings.two_class,
        samples=settings.samples,
        predicts=predicts,
    )


def _fixed_bound(settings: Certify) -> Bound:
    if settings.two_class and settings.rule == "mean":
        raise UsageError("two_class counts votes, and rule is mean", "set one of certify.two_class and certify.rule")
    known = _COUNT_BOUNDS if settings.rule == "majority" else _MEAN_BOUNDS
    for bound in known:
        if settings.bound in (bound, "auto"):
            return bound
    raise UsageError(f"bound {settings.bound!r} does not go with the {settings.rule} rule", f"use {' or '.join(known)}")


def _sequential_bound(settings: Certify) -> Bound:
    if settings.rule == "mean" or settings.two_class or settings.bound not in ("auto", "betting"):
        raise UsageError(
            "--radius tests the majority vote of one class with the betting bound",
            "leave certify.rule, certify.two_class and certify.bound at their defaults, or leave --radius out",
        )
    return "betting"


def _bound_words(claim: Claim) -> str:
    return f"{claim.bound} bound on the {claim.rule} rule, alpha {claim.alpha:g}"
