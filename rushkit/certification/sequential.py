"""Sequential tests of "robust at radius R", which stop as soon as their draws decide; undecided images share batches.

Each test is evaluated after every unit of its image's draws. Neither the other images nor the number of units in a
round change its draws or the point at which it stops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import ABSTAIN, Certificates, SequentialTest, threshold_probability
from rushkit.certification.claim import Claim
from rushkit.certification.counts import gather_counts
from rushkit.certification.draws import Sampler
from rushkit.certification.procedure import Conclusion, Procedure, bound_words, count_selection
from rushkit.certification.tasks import GROUP, Task, group_tasks
from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.results.certification import DrawsUsed, Mode
from rushkit.results.logs import CountsLine, Round, Selection
from rushkit.statistics import betting_lower
from rushkit.units import UNIT

Integers = NDArray[np.int64]


class SequentialTests:
    """The tests of all images at all radii.

    Args:
        claim: Noise, norm, alpha, and the largest number of draws that a test may take.
        radii: The radii to test; all tests of one image hold simultaneously, because they use one martingale.
        images: (N,) indices.
        classes: (N,) the classes that the selection draws chose.

    Attributes:
        tests: One for each radius, in rising order.
        units: (N,) units that each image has been drawn for.
    """

    def __init__(self, claim: Claim, radii: Sequence[float], images: Sequence[int], classes: Sequence[int]) -> None:
        self.radii = sorted(set(radii))
        self.images, self.classes = list(images), np.array(classes, dtype=np.int64)
        self.samples, self.alpha = claim.samples, claim.alpha
        bars = [threshold_probability(claim.noise, radius, claim.norm, claim.dim) for radius in self.radii]
        self.tests = [SequentialTest(bar, claim.alpha, len(self.images)) for bar in bars]
        self.units = np.zeros(len(self.images), dtype=np.int64)
        self._place = {image: row for row, image in enumerate(self.images)}

    @classmethod
    def replayed(cls, claim: Claim, radii: Sequence[float], lines: Sequence[CountsLine]) -> SequentialTests:
        """Return the tests in their state after the lines of a log."""
        selected = [line for line in lines if isinstance(line, Selection)]
        images = [image for line in selected for image in line.images]
        classes = [int(np.argmax(votes)) for line in selected for votes in line.votes]
        tests = cls(claim, radii, images, classes)
        for line in lines:
            if isinstance(line, Round):
                tests.apply(line)
        return tests

    def size(self, unit: int) -> int:
        """Return the number of draws in a unit: all units are whole, except the last one that a test may take."""
        return min(UNIT, self.samples - unit * UNIT)

    @property
    def undecided(self) -> Integers:
        """Rows of the images that need more draws and may still take them."""
        open_tests = np.any([test.undecided for test in self.tests], axis=0)
        return np.flatnonzero(open_tests & (self.units * UNIT < self.samples))

    def apply(self, line: Round) -> None:
        """Count a round, ignoring draws beyond the largest number that a test may take."""
        rows = [self._place[image] for image in line.images]
        longest = max(len(right) for right in line.right)
        for step in range(longest):
            gained, drawn = (np.zeros(len(self.images), dtype=np.int64) for _ in range(2))
            for row, right, sizes in zip(rows, line.right, line.sizes, strict=True):
                if step < len(right) and self.units[row] * UNIT + sizes[step] <= self.samples:
                    gained[row], drawn[row] = right[step], sizes[step]
                    self.units[row] += 1
            for test in self.tests:
                test.update(gained, drawn)

    def next_round(self, sampler: Sampler) -> Round | None:
        """Draw and count for undecided images, with enough units each to fill a batch; None if all are decided."""
        started = time.perf_counter()
        rows = self.undecided[:GROUP]
        if not len(rows):
            return None
        units_per_image = max(1, sampler.batch * ranks.world() // (UNIT * len(rows)))
        last = -(-self.samples // UNIT)
        units = [
            (int(row), unit)
            for row in rows
            for unit in range(self.units[row], min(self.units[row] + units_per_image, last))
        ]
        dealt = ranks.own(list(enumerate(units)))
        pieces = ((place, sampler.draw(row, "estimation", unit, self.size(unit))) for place, (row, unit) in dealt)
        votes = sampler.count(pieces, len(units)).votes
        right: dict[int, list[int]] = {int(row): [] for row in rows}
        sizes: dict[int, list[int]] = {int(row): [] for row in rows}
        for place, (row, unit) in enumerate(units):
            right[row].append(int(votes[place, self.classes[row]]))
            sizes[row].append(self.size(unit))
        return Round(
            images=[self.images[row] for row in right],
            right=list(right.values()),
            sizes=list(sizes.values()),
            drawn=sum(map(sum, sizes.values())),
            seconds=time.perf_counter() - started,
        )

    def certificates(self) -> Certificates:
        """Return the largest radius that is certified for each image."""
        certified = np.stack([test.decision == 1 for test in self.tests])
        # The bound comes from the test that took the most draws.
        trials = np.stack([test.trials for test in self.tests])
        last = trials.argmax(axis=0), np.arange(len(self.images))
        successes = np.stack([test.successes for test in self.tests])[last]
        p_lower = np.asarray(betting_lower(successes, trials[last], self.alpha))
        return Certificates(
            predicted=np.where(certified.any(axis=0), self.classes, ABSTAIN),
            p_lower=p_lower,
            p_upper=1.0 - p_lower,
            radius=np.max(np.where(certified, np.array(self.radii)[:, None], 0.0), axis=0),
        )

    @property
    def trials(self) -> Integers:
        """(N,) draws that each image's tests took until all were decided."""
        trials: Integers = np.max([test.trials for test in self.tests], axis=0)
        return trials

    @property
    def open_ended(self) -> int:
        """The number of images with a test that is still undecided after the largest number of draws."""
        return int(np.any([test.undecided for test in self.tests], axis=0).sum())


@dataclass(frozen=True)
class Sequential(Procedure):
    """Tests of a few radii by the betting e-process, with draws for each image until all its tests are decided.

    Attributes:
        radii: The radii to test, pixel units.
    """

    radii: tuple[float, ...]
    mode: ClassVar[Mode] = "sequential"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> list[Task]:
        """Return the draws that choose the classes; the tests determine the others."""
        return group_tasks("selection", images, selection)

    @property
    def draws_per_image(self) -> None:
        """None, because the number depends on the tests."""
        return

    @property
    def words(self) -> str:
        """The largest number of draws, and the bound."""
        return f"up to {self.claim.samples} draws an image, {bound_words(self.claim)}"

    def draw(self, sampler: Sampler, lines: Sequence[CountsLine]) -> Iterator[CountsLine]:
        """Yield the lines that choose the classes, then rounds for the undecided tests."""
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
