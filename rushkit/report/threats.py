"""What is left under threats beside a single ball: several balls together, corruptions, rotations and translations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from rushkit.results.attacks import Attacks, variant_words
from rushkit.results.evaluation import Evaluation
from rushkit.results.jsonable import Figures, in_json, spread
from rushkit.results.threats import CorruptionMean, Corruptions, ShiftRow, Shifts
from rushkit.results.unions import UnionFigures, UnionRow
from rushkit.results.words import accuracy_words, corruption_error_words, listed, low_words, noise_words, plain_noise
from rushkit.rounding import as_asked, counted

# The names of the sets whose parameters are used.
_SETS = {"cifar10-c": "CIFAR-10-C", "imagenet-c": "ImageNet-C"}
_OWN = (
    "Corruptions are computed by rushkit from their published definitions, with the parameters of {}; they are not "
    "the official files"
)
_FROST = (
    ", and frost is a texture of our own in place of the published photographs: its figures, and means with it, are "
    "not comparable with published ones"
)


@dataclass(frozen=True)
class MeasuredUnion(Figures):
    """What attacks in balls of different norms leave together.

    Attributes:
        run: Name of their run.
        data: The data set.
        noise: The model's noise.
        record: The row of results.json.
        attacks: Each attack, with its ball.
    """

    run: str
    data: str
    noise: dict[str, object]
    record: UnionRow
    attacks: list[str]

    @property
    def majority(self) -> UnionFigures:
        """Its figures under the majority vote."""
        return self.record.rules["majority"]

    def words(self) -> str:
        """Return ``"l-inf 8/255 or l2 0.5, strict, m = 64: 41.0 [38.1, 44.0] %"``."""
        row = self.record
        return f"{row.ball_words()}, {variant_words(row)}, m = {row.samples}: {accuracy_words(self.majority)} %"


def unions_of_run(run: str, results: Attacks) -> list[MeasuredUnion]:
    """Return the unions of one run's attacks."""
    noise = plain_noise(results.noise)
    attacks = results.attacks
    return [
        MeasuredUnion(run, results.data, noise, union, [attacks[place].in_ball() for place in union.rows])
        for union in results.unions
    ]


def latest_unions(unions: Iterable[MeasuredUnion]) -> list[MeasuredUnion]:
    """Return one row for each model's noise, balls, protocol and m: of those on the most images the lowest strict one.

    Of other protocols it is the newest. Rows come in the order of the runs, oldest first.
    """
    kinds: dict[object, list[MeasuredUnion]] = {}
    for union in unions:
        row = union.record
        about = row.split, variant_words(row), row.samples, row.ball_words(), union.data, repr(union.noise)
        kinds.setdefault(about, []).append(union)
    return [_representative(alike) for alike in kinds.values()]


def _representative(unions: Sequence[MeasuredUnion]) -> MeasuredUnion:
    most = max(union.record.images for union in unions)
    largest = [union for union in reversed(unions) if union.record.images == most]
    strict = largest[0].record.protocol == "strict"
    return min(largest, key=lambda union: union.majority.accuracy) if strict else largest[0]


def union_gaps(results: Attacks) -> list[str]:
    """Return why attacks of several norms have no union, where they have none: a sentence for each protocol and m."""
    norms = {row.norm for row in results.attacks} | {row.norm for row in results.failed}
    if len(norms) < 2 or not results.attacks:
        return []
    joined = {(union.protocol, union.samples) for union in results.unions}
    gaps = []
    for protocol, samples in dict.fromkeys((row.protocol, row.samples) for row in results.attacks):
        if (protocol, samples) in joined:
            continue
        failed = [row for row in results.failed if (row.protocol, row.samples) == (protocol, samples)]
        rows = [row for row in results.attacks if (row.protocol, row.samples) == (protocol, samples)]
        if failed:
            why = f"{failed[0].in_ball()} failed"
        elif len({row.norm for row in rows}) > 1:
            why = "its attacks differ in images, votes, version or effort"
        else:
            why = f"only {rows[0].in_ball()} ran under it"
        gaps.append(f"no accuracy under several balls together for {protocol}, m = {samples}: {why}")
    return gaps


@dataclass(frozen=True)
class MeasuredCorruptions(Figures):
    """Accuracy under common corruptions.

    Attributes:
        run: Name of its run.
        data: Data set and split.
        noise: The model's noise.
        record: The part of results.json.
        precision: Precision of the passes.
    """

    run: str
    data: str
    noise: dict[str, object]
    record: Corruptions = field(metadata=spread(without={"outcomes": True}))
    precision: str

    @property
    @in_json
    def images(self) -> int:
        """The number of images."""
        return len(self.record.outcomes.indices)

    @property
    def shown(self) -> CorruptionMean:
        """The m and rule that a table by kind is about: the vote of the most draws."""
        return _by_the_most_draws(self.record.means)

    def about(self) -> str:
        """Return what was measured: ``"cifar10/test, noise uniform scale 0.3, 200 images"``."""
        return listed(
            f"{self.data}, noise {noise_words(self.noise)}, {counted(self.images, 'image')}", low_words(self.precision)
        )

    def sentences(self) -> list[str]:
        """Return what must be said with the figures."""
        frost = _FROST if "frost" in self.record.kinds else ""
        said = [f"{_OWN.format(_SETS[self.record.parameters])}{frost}."]
        if (base := self.record.baseline) is not None:
            vote = f"its {base.rule} of m = {base.samples}"
            said.append(
                f"mCE: the mean over kinds of the error as a share of that of {base.run}, {vote}; it has 100 %. "
                "Its interval is over the images, which both models were measured on."
            )
        return said


@dataclass(frozen=True)
class MeasuredShifts(Figures):
    """Accuracy under rotations and translations; the attributes are those of ``MeasuredCorruptions``."""

    run: str
    data: str
    noise: dict[str, object]
    record: Shifts = field(metadata=spread(without={"outcomes": True}))
    precision: str

    @property
    @in_json
    def images(self) -> int:
        """The number of images."""
        return len(self.record.outcomes.indices)

    @property
    def shown(self) -> ShiftRow:
        """The m and rule that a table by rotation is about: the vote of the most draws."""
        return _by_the_most_draws(self.record.rows)

    def about(self) -> str:
        """Return what was searched: ``"cifar10/test, ..., 31 x 5 x 5 points within 30 degrees and 3 pixels"``."""
        one = self.record
        grid = f"{' x '.join(map(str, one.grid))} points"
        within = f"within {as_asked(one.rotation)} degrees and {as_asked(one.translation)} pixels"
        where = f"{self.data}, noise {noise_words(self.noise)}, {counted(self.images, 'image')}"
        return listed(where, f"{grid} {within}", low_words(self.precision))

    def sentences(self) -> list[str]:
        """Return what must be said with the figures."""
        return [
            "worst: right at the image's worst point of the grid, by a fresh vote. A finer grid may leave less.",
            "at every point: right at all points by the votes of the search; with noise it is too low, since the "
            "least of many noisy votes is low by chance.",
        ]


Drawn = TypeVar("Drawn", CorruptionMean, ShiftRow)
Measured = TypeVar("Measured", MeasuredCorruptions, MeasuredShifts)


def _by_the_most_draws(rows: Sequence[Drawn]) -> Drawn:
    votes = [row for row in rows if row.rule == "majority"] or rows
    return max(votes, key=lambda row: row.samples)


def corruptions_of_run(run: str, results: Evaluation) -> list[MeasuredCorruptions]:
    """Return what one run measured under corruptions: one or none."""
    if results.corruptions is None:
        return []
    noise = plain_noise(results.noise)
    return [MeasuredCorruptions(run, results.data, noise, results.corruptions, results.precision)]


def shifts_of_run(run: str, results: Evaluation) -> list[MeasuredShifts]:
    """Return what one run measured under rotations and translations: one or none."""
    if results.shifts is None:
        return []
    return [MeasuredShifts(run, results.data, plain_noise(results.noise), results.shifts, results.precision)]


def latest(measured: Iterable[Measured]) -> list[Measured]:
    """Return for each data set and noise the newest measurement on the most images."""
    kept: dict[object, Measured] = {}
    for one in measured:
        key = one.data, repr(one.noise)
        if key not in kept or one.images >= kept[key].images:
            kept[key] = one
    return list(kept.values())


def threat_figures(results: Evaluation) -> list[str]:
    """Return the main figures under corruptions and shifts, a line for each m and rule."""
    lines = []
    for corrupted in corruptions_of_run("", results):
        one = corrupted.record
        what = f"mean of {len(one.kinds)} corruptions at {len(one.strengths)} strengths"
        for mean in one.means:
            mce = "" if mean.mce is None else f", mCE {corruption_error_words(mean.mce)} %"
            share = f"{accuracy_words(mean)} %{mce}, n = {corrupted.images}"
            lines.append(f"{what}, m = {mean.samples}, {mean.rule}: {share}")
    for moved in shifts_of_run("", results):
        what = f"worst of {moved.record.size} rotations and translations"
        for row in moved.record.rows:
            lines.append(f"{what}, m = {row.samples}, {row.rule}: {accuracy_words(row)} %, n = {row.images}")
    return lines
