"""The smallest distances that break images, as a report has them: each with its run, of several runs one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rushkit.results.attacks import Attacks, variant_words
from rushkit.results.distances import SmallestRow
from rushkit.results.jsonable import Figures, in_json, spread
from rushkit.results.words import plain_noise


@dataclass(frozen=True)
class MeasuredDistances(Figures):
    """The smallest distances at which one attack broke images.

    Attributes:
        run: Name of its run.
        data: The data set.
        noise: The model's noise.
        record: The row of results.json.
    """

    run: str
    data: str
    noise: dict[str, object]
    record: SmallestRow = field(metadata=spread(without={"outcomes": True, "notes": True}))

    @property
    @in_json
    def notes(self) -> list[str]:
        """The sentences of its notes."""
        return [note.text for note in self.record.notes]

    @property
    @in_json
    def wrong_before(self) -> int:
        """How many images were wrong before the attack."""
        return self.record.outcomes.distance.count(0.0)

    @property
    @in_json
    def never_broken(self) -> int:
        """How many images no version broke."""
        return self.record.outcomes.distance.count(None)


def distances_of_run(run: str, results: Attacks) -> list[MeasuredDistances]:
    """Return the smallest distances that one run's attacks found."""
    noise = plain_noise(results.noise)
    return [MeasuredDistances(run, results.data, noise, row) for row in results.smallest]


def latest_distances(rows: Iterable[MeasuredDistances]) -> list[MeasuredDistances]:
    """Return of the rows of one attack, norm, largest radius, class, protocol and m the newest on the most images.

    Rows come in the order of the runs, oldest first.
    """
    latest: dict[object, MeasuredDistances] = {}
    for row in rows:
        one = row.record
        search = one.attack, one.norm, one.eps, one.target, one.eight_bit
        kind = (row.data, one.split, repr(row.noise), *search, variant_words(one), one.samples)
        if kind not in latest or one.images >= latest[kind].record.images:
            latest[kind] = row
    return list(latest.values())
