"""Sequential certification: "robust at radius R" tested until the draws decide, undecided images packed together.

Every image is looked at after each unit of its draws. What the others do, and how many units one round holds, changes
neither its draws nor the moment at which its test stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rushkit.certificates import ABSTAIN, Certificates, SequentialTest, threshold_probability
from rushkit.certification.claim import Claim
from rushkit.certification.counts import GROUP
from rushkit.certification.votes import UNIT, Counts, Piece
from rushkit.distributed import ranks
from rushkit.statistics import betting_lower

Integers = NDArray[np.int64]
# (row, part, unit, size) -> (size, C, H, W) noisy copies.
Draw = Callable[[int, str, int, int], Tensor]
# Noisy images and the number of rows -> what the model says of them.
Count = Callable[[Iterable[Piece], int], Counts]


class SequentialState:
    """The tests of every image, at every radius.

    Args:
        claim: Noise, norm, alpha, and how many draws a test may take at most.
        radii: What is tested; tests of one image at several radii hold together, for all rest on one martingale.
        images: (N,) indices.
        chosen: (N,) classes that the selection draws chose.

    Attributes:
        tests: One for each radius, in rising order.
        units: (N,) units that each image has been drawn for.
    """

    def __init__(self, claim: Claim, radii: Sequence[float], images: Sequence[int], chosen: Sequence[int]) -> None:
        self.radii = sorted(set(radii))
        self.images, self.chosen = list(images), np.array(chosen, dtype=np.int64)
        self.samples, self.alpha = claim.samples, claim.alpha
        bars = [threshold_probability(claim.noise, radius, claim.norm, claim.dim) for radius in self.radii]
        self.tests = [SequentialTest(bar, claim.alpha, len(self.images)) for bar in bars]
        self.units = np.zeros(len(self.images), dtype=np.int64)
        self._place = {image: row for row, image in enumerate(self.images)}

    @classmethod
    def replayed(cls, claim: Claim, radii: Sequence[float], records: Sequence[dict[str, Any]]) -> SequentialState:
        """The state that the lines of a log lead to."""
        selected = [record for record in records if record["part"] == "selection"]
        images = [image for record in selected for image in record["images"]]
        chosen = [int(np.argmax(votes)) for record in selected for votes in record["votes"]]
        state = cls(claim, radii, images, chosen)
        for record in records:
            if record["part"] == "round":
                state.apply(record)
        return state

    def size(self, unit: int) -> int:
        """Draws of a unit: all are whole but the last that a test may take."""
        return min(UNIT, self.samples - unit * UNIT)

    @property
    def undecided(self) -> Integers:
        """Rows of the images that need more draws and may have them."""
        open_tests = np.any([test.undecided for test in self.tests], axis=0)
        return np.flatnonzero(open_tests & (self.units * UNIT < self.samples))

    def apply(self, record: dict[str, Any]) -> None:
        """Count a round; draws beyond what a test may take are left out."""
        rows = [self._place[image] for image in record["images"]]
        longest = max(len(right) for right in record["right"])
        for step in range(longest):
            gained, drawn = (np.zeros(len(self.images), dtype=np.int64) for _ in range(2))
            for row, right, sizes in zip(rows, record["right"], record["sizes"], strict=True):
                if step < len(right) and self.units[row] * UNIT + sizes[step] <= self.samples:
                    gained[row], drawn[row] = right[step], sizes[step]
                    self.units[row] += 1
            for test in self.tests:
                test.update(gained, drawn)

    def certificates(self) -> Certificates:
        """What is certified: the largest radius of each image whose test said so."""
        certified = np.stack([test.decision == 1 for test in self.tests])
        # The bound of the test that took most draws.
        trials = np.stack([test.trials for test in self.tests])
        last = trials.argmax(axis=0), np.arange(len(self.images))
        successes = np.stack([test.successes for test in self.tests])[last]
        p_lower = np.asarray(betting_lower(successes, trials[last], self.alpha))
        return Certificates(
            predicted=np.where(certified.any(axis=0), self.chosen, ABSTAIN),
            p_lower=p_lower,
            p_upper=1.0 - p_lower,
            radius=np.max(np.where(certified, np.array(self.radii)[:, None], 0.0), axis=0),
        )

    @property
    def trials(self) -> Integers:
        """(N,) draws that each image's tests took until all were decided."""
        return np.max([test.trials for test in self.tests], axis=0)

    @property
    def open_ended(self) -> int:
        """Images of which a test is undecided after all the draws that it may take."""
        return int(np.any([test.undecided for test in self.tests], axis=0).sum())


def next_round(state: SequentialState, draw: Draw, count: Count, batch: int) -> dict[str, Any] | None:
    """Draw for undecided images, as many units each as fill a batch; the log's line, or None where all is decided."""
    rows = state.undecided[:GROUP]
    if not len(rows):
        return None
    each = max(1, batch * ranks.world() // (UNIT * len(rows)))
    last = -(-state.samples // UNIT)
    units = [(int(row), unit) for row in rows for unit in range(state.units[row], min(state.units[row] + each, last))]
    own = ranks.own(list(enumerate(units)))
    pieces = ((place, draw(row, "estimation", unit, state.size(unit))) for place, (row, unit) in own)
    votes = count(pieces, len(units)).votes
    right: dict[int, list[int]] = {int(row): [] for row in rows}
    sizes: dict[int, list[int]] = {int(row): [] for row in rows}
    for place, (row, unit) in enumerate(units):
        right[row].append(int(votes[place, state.chosen[row]]))
        sizes[row].append(state.size(unit))
    return {
        "part": "round",
        "images": [state.images[row] for row in right],
        "right": list(right.values()),
        "sizes": list(sizes.values()),
        "drawn": sum(map(sum, sizes.values())),
    }
