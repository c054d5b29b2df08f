"""What ``rushkit runs`` prints under ``--json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rushkit.recipe.toml import Toml
from rushkit.report.beside import FigureRow
from rushkit.report.listing import Listed
from rushkit.report.numbers import Number
from rushkit.report.ranking import Ranked, Ranking
from rushkit.report.significance import Significance
from rushkit.report.worst import Worst
from rushkit.results.jsonable import LEFT_OUT, Figures, called, spread
from rushkit.results.run_file import RunFile


@dataclass(frozen=True)
class ListedRun(Figures):
    """A run in a list.

    Attributes:
        run: Its folder.
        id: The shortest name that means it alone.
        verb: The command that made it; empty where the process died before it said so.
        recipe: Its recipe's name.
        status: running, finished, failed, interrupted; ``killed`` where no process works on it any more; ``broken``
            where run.json cannot be read.
        started: When, in ISO form and UTC; empty where unknown.
        noise: The noise of its recipe, in words.
        seed: Seed of all draws; null where that is not recorded.
        bytes: Size of its folder.
        figures: All its figures as numbers.
        figure: The main one in words.
    """

    run: str
    id: str
    verb: str
    recipe: str
    status: str
    started: str
    noise: str
    seed: int | None
    bytes: int
    figures: list[Number]
    figure: str

    @classmethod
    def of(cls, row: Listed, figure: str) -> ListedRun:
        """Return a row of the list, with its main figure in words."""
        run = row.run
        about = (run.verb, run.recipe, run.status, run.started, row.noise, run.about.seed)
        return cls(str(run.path), row.id, *about, row.bytes, row.numbers, figure)


@dataclass(frozen=True)
class RunList(Figures):
    """The runs of a folder.

    Attributes:
        runs: The runs, in the order that was asked for.
        bytes: The size of all of them.
    """

    runs: list[ListedRun]
    bytes: int


@dataclass(frozen=True)
class ShownRun(Figures):
    """A run: all of its run.json, and what follows from what lies around it.

    Attributes:
        about: Its run.json.
        parent_run: Name of the run in the same folder that it builds on; null for none.
        children: Names of the runs that build on it.
        measured: A line for each run that measured it, for a model.
        card: The text that comes with a run that is shipped with rushkit.
        figures: Its main figures in words.
        numbers: All its figures as numbers.
        bytes: Size of its folder.
        next: What one would do with it -> the command.
    """

    about: RunFile = field(metadata=spread())
    parent_run: str | None
    children: list[str]
    measured: list[str]
    figures: list[str]
    numbers: list[Number]
    bytes: int
    next: dict[str, str]
    card: str | None = field(default=None, metadata=LEFT_OUT)


@dataclass(frozen=True)
class ToldRuns(Figures):
    """What is told of each of several runs.

    Attributes:
        verb, recipe, status, started, machine: What run.json says.
        figure: The main figure in words.
    """

    verb: list[str]
    recipe: list[str]
    status: list[str]
    started: list[str]
    machine: list[str]
    figure: list[str]


@dataclass(frozen=True)
class ComparedRuns(Figures):
    """Runs side by side, in the order that was asked for.

    Attributes:
        runs: Their folders.
        ids: The shortest names that mean them.
        names: What tells them apart: values of recipe keys, or ids.
        recipes: Recipe key in which they differ -> its value for each.
        certificates: A sentence for each two runs whose certificates were not made alike.
        figures: Every figure, for each run that was measured alike.
        worst: What strict attacks on the same model and images leave together.
        significance: McNemar's test of the pairs that were asked for.
        certified_by: How each was certified; null for one that was not. Absent where none was, like the next.
        together: What holds for all certified images of each together.
        told: What run.json says of each, and its main figure.
    """

    runs: list[str]
    ids: list[str]
    names: list[str]
    recipes: Mapping[str, Sequence[Toml]]
    certificates: list[str]
    figures: list[FigureRow]
    worst: list[Worst]
    significance: list[Significance]
    certified_by: list[str | None] | None = field(metadata={**called("certified by"), **LEFT_OUT})
    together: list[str | None] | None = field(metadata=LEFT_OUT)
    told: ToldRuns = field(metadata=spread())


@dataclass(frozen=True)
class BestRuns(Figures):
    """Runs ranked by a figure.

    Attributes:
        by: The name of the figure.
        best: The best run of the ranking of the most runs.
        rankings: A ranking for each way in which the figure was measured.
    """

    by: str
    best: Ranked
    rankings: list[Ranking]


@dataclass(frozen=True)
class ExportedRuns(Figures):
    """What was written of runs as CSV.

    Attributes:
        runs: Their folders.
        files: The files.
    """

    runs: list[Path]
    files: list[Path]


@dataclass(frozen=True)
class RemovedRun(Figures):
    """A run that was deleted.

    Attributes:
        run: Its folder.
        bytes: The size that it had.
    """

    run: Path
    bytes: int


@dataclass(frozen=True)
class RemovedRuns(Figures):
    """The runs that were deleted."""

    deleted: list[RemovedRun]


@dataclass(frozen=True)
class LeftoverRun(Figures):
    """A run that stopped without results and that nothing builds on.

    Attributes:
        run: Its folder.
        status: How it stopped.
        bytes: Size of its folder.
        resumable: Whether ``--resume`` could go on with it.
    """

    run: Path
    status: str
    bytes: int
    resumable: bool


@dataclass(frozen=True)
class LeftoverRuns(Figures):
    """The runs that ``runs clean`` found.

    Attributes:
        runs: The runs.
        deleted: Whether they were deleted, and not only listed.
    """

    runs: list[LeftoverRun]
    deleted: bool
