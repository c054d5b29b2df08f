"""What the commands about models print under ``--json``, where that is more than a stage's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rushkit.report.figures import Report
from rushkit.report.publication import Published
from rushkit.report.tables.ranked import Ranked, Unranked
from rushkit.results.attacks import Attacks
from rushkit.results.evaluation import Evaluation

if TYPE_CHECKING:
    from rushkit.report.leaderboard import Board, Leaderboard
from rushkit.results.jsonable import Figures, spread


@dataclass(frozen=True)
class Demo(Figures):
    """What the demo found.

    Attributes:
        evaluate: Results of ``rushkit evaluate``.
        attack: Results of ``rushkit attack``.
        runs: Command -> the folder of its run.
        report: The page about all of it.
    """

    evaluate: Evaluation
    attack: Attacks
    runs: dict[str, str]
    report: Path


@dataclass(frozen=True)
class WrittenReport(Figures):
    """The figures of a report, and where it was written.

    Attributes:
        report: The contents of report.json.
        files: Format -> the file.
        figures: The files for a paper; none where they were not asked for.
    """

    report: Report = field(metadata=spread())
    files: dict[str, str]
    figures: list[str]


@dataclass(frozen=True)
class PublishedModels(Figures):
    """The models that were published."""

    published: list[Published]


@dataclass(frozen=True)
class RankedModel(Figures):
    """A model in a ranking.

    Attributes:
        rank: Its rank; models of equal strict accuracy share it.
        name: Its name.
        accuracy: What the strict protocol leaves of it at most, as the verifier scored it.
        low: Lower end of the 95 % interval.
        high: Upper end of the interval.
        images: Number of images.
        weights: Hash of its weights.
    """

    rank: int
    name: str
    accuracy: float
    low: float
    high: float
    images: int
    weights: str

    @classmethod
    def of(cls, rank: int, row: Ranked) -> RankedModel:
        """Return what is printed of a row of a ranking."""
        share = row.attack.majority
        return cls(rank, row.name, share.accuracy, share.low, share.high, row.attack.record.images, row.weights)


@dataclass(frozen=True)
class RankedBall(Figures):
    """The ranking of one ball on one split.

    Attributes:
        title: Data set, split and ball.
        models: The models, the most robust first.
    """

    title: str
    models: list[RankedModel]

    @classmethod
    def of(cls, board: Board) -> RankedBall:
        """Return what is printed of a ranking."""
        return cls(board.title, [RankedModel.of(rank, row) for rank, row in board.placed])


@dataclass(frozen=True)
class WrittenLeaderboard(Figures):
    """The rankings of published models.

    Attributes:
        boards: A ranking for each ball and split.
        unranked: The entries that are not ranked, and why.
        page: The page that was written.
    """

    boards: list[RankedBall]
    unranked: tuple[Unranked, ...]
    page: Path

    @classmethod
    def of(cls, made: Leaderboard, page: Path) -> WrittenLeaderboard:
        """Return what is printed of a leaderboard."""
        return cls(list(map(RankedBall.of, made.boards)), made.unranked, page)
