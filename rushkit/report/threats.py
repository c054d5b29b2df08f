"""What is left under threats beside a single ball: several balls together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rushkit.report.jsonable import Figures
from rushkit.results.attacks import Attacks, variant_words
from rushkit.results.unions import UnionFigures, UnionRow
from rushkit.results.words import accuracy_words, plain_noise


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
