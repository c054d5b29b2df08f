"""Sequential tests of "robust at radius R", which stop as soon as their draws decide; undecided images share batches.

The tests of an image are evaluated at fixed numbers of its draws (``looks``), and none of its draws is made before it
is known that they did not decide at the look before. Neither the other images nor the number of draws in a round change
its draws or the look at which it stops.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import ABSTAIN, Certificates, threshold_probability
from rushkit.certification.claim import Claim
from rushkit.certification.counts import gather_counts
from rushkit.certification.draws import Sampler
from rushkit.certification.procedure import Conclusion, Procedure, bound_words, count_selection
from rushkit.certification.tasks import TASK_DRAWS, Task, group_tasks, looks, next_look
from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.results.certification import DrawsUsed, Mode
from rushkit.results.logs import CountsLine, Round, Selection
from rushkit.sequential_test import SequentialTest
from rushkit.units import UNIT

Integers = NDArray[np.int64]
# The row of an image, the number of the first draw, and the number of draws.
Unit = tuple[int, int, int]


class SequentialTests:
    """The tests of all images at all radii.

    Args:
        claim: Noise, norm, alpha, and the largest number of draws that a test may take.
        radii: The radii to test; all claims about one image hold simultaneously.
        images: (N,) indices.
        classes: (N,) the classes that the selection draws chose.

    Attributes:
        radii: The J radii, in rising order.
        test: The tests, J for each image.
        done: (N,) draws that each image has.
    """

    def __init__(self, claim: Claim, radii: Sequence[float], images: Sequence[int], classes: Sequence[int]) -> None:
        self.radii = sorted(set(radii))
        self.images, self.classes = list(images), np.array(classes, dtype=np.int64)
        self.looks = looks(claim.samples)
        bars = [threshold_probability(claim.noise, radius, claim.norm, claim.dim) for radius in self.radii]
        self.test = SequentialTest(np.repeat(np.array(bars)[:, None], len(self.images), axis=1), claim.alpha)
        self.done = np.zeros(len(self.images), dtype=np.int64)
        # Votes for the class since the last look.
        self._right = np.zeros(len(self.images), dtype=np.int64)
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

    @property
    def undecided(self) -> Integers:
        """Rows of the images that need more draws and may still take them."""
        return np.flatnonzero(self.test.undecided & (self.done < self.looks[-1]))

    def apply(self, line: Round) -> None:
        """Count a round, and evaluate the tests of the images that it brought to a look."""
        rows = np.array([self._place[image] for image in line.images])
        self.done[rows] += [sum(sizes) for sizes in line.sizes]
        self._right[rows] += [sum(right) for right in line.right]
        rows = rows[np.isin(self.done[rows], self.looks)]
        gained, drawn = (np.zeros(len(self.images), dtype=np.int64) for _ in range(2))
        gained[rows], drawn[rows] = self._right[rows], self.done[rows] - self.test.trials[rows]
        self.test.update(gained, drawn)
        self._right[rows] = 0

    def next_round(self, sampler: Sampler) -> Round | None:
        """Draw and count for undecided images, each up to its next look; None if all are decided."""
        started = time.perf_counter()
        units = self._next_units(sampler.batch * ranks.world())
        if not units:
            return None
        dealt = ranks.own(list(enumerate(units)))
        pieces = ((place, sampler.draw(row, "estimation", start, size)) for place, (row, start, size) in dealt)
        votes = sampler.count(pieces, len(units)).votes
        right = [int(votes[place, self.classes[row]]) for place, (row, _, _) in enumerate(units)]
        by_row = [list(group) for _, group in groupby(zip(units, right, strict=True), key=lambda pair: pair[0][0])]
        return Round(
            images=[self.images[group[0][0][0]] for group in by_row],
            right=[[hits for _, hits in group] for group in by_row],
            sizes=[[size for (_, _, size), _ in group] for group in by_row],
            drawn=sum(size for _, _, size in units),
            seconds=time.perf_counter() - started,
        )

    def _next_units(self, batch: int) -> list[Unit]:
        """Return units of the first undecided images: about ``TASK_DRAWS`` draws, in whole batches if they suffice.

        An image gets no draw past its next look, so that none is made in vain; other images fill the batches.
        """
        most = -(-TASK_DRAWS // batch) * batch
        units: list[Unit] = []
        total = 0
        for row in self.undecided.tolist():
            start, look = int(self.done[row]), next_look(int(self.done[row]), self.looks)
            while start < look and total < most:
                size = min(UNIT, look - start)
                units.append((row, start, size))
                start, total = start + size, total + size
        whole = total // batch * batch
        while whole and total > whole and len(units) > 1:
            total -= units.pop()[2]
        return units

    def certificates(self) -> Certificates:
        """Return the largest radius that is certified for each image, and a lower bound that agrees with it."""
        certified = self.test.decision == 1
        p_lower = self.test.p_lower
        return Certificates(
            predicted=np.where(certified.any(axis=0), self.classes, ABSTAIN),
            p_lower=p_lower,
            p_upper=1.0 - p_lower,
            radius=np.max(np.where(certified, np.array(self.radii)[:, None], 0.0), axis=0),
        )


@dataclass(frozen=True)
class Sequential(Procedure):
    """Tests of a few radii by one-sided e-processes, with draws for each image until all its tests are decided.

    Attributes:
        radii: The radii to test, pixel units.
    """

    radii: tuple[float, ...]
    mode: ClassVar[Mode] = "sequential"

    @classmethod
    def tasks(cls, images: int, selection: int, samples: int) -> Iterator[Task]:
        """Yield the draws that choose the classes; the tests determine the others."""
        return group_tasks("selection", images, selection)

    @classmethod
    def looks(cls, samples: int) -> list[int]:
        """Return the numbers of draws after which the tests are evaluated."""
        return looks(samples)

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
        for task in islice(self.tasks(len(sampler.split), self.selection, self.claim.samples), len(lines), None):
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
        trials = tests.test.trials[order]
        used = DrawsUsed(mean=float(trials.mean()), most=int(trials.max()), images=trials.tolist())
        return Conclusion(counts, certificates, used, int(tests.test.undecided.sum()))

    def check_logged(self, samples: int) -> None:
        """Raise UsageError if the tests of a log of ``samples`` draws were not evaluated at this number of draws."""
        known = looks(samples)
        if (wanted := self.claim.samples) not in known:
            below = [look for look in known if look < wanted][-1:]
            raise self._not_logged(" or ".join(map(str, [*below, *[look for look in known if look > wanted][:1]])))
