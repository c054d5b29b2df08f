"""Which run has the best figure: runs ranked by a figure, among those that were measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushkit.errors import UsageError, did_you_mean
from rushkit.report.jsonable import Figures
from rushkit.report.listing import Listed
from rushkit.report.numbers import LESS_IS_BETTER, NAMES, Number
from rushkit.run.lineage import ancestors, parents


@dataclass(frozen=True)
class Ranked(Figures):
    """A run in a ranking.

    Attributes:
        run: Name of its folder.
        id: The shortest name that means it alone.
        model: Id of the model that it measured; its own if it measured none.
        recipe: Its recipe.
        noise: Its noise, in words.
        number: The figure.
    """

    run: str
    id: str
    model: str
    recipe: str
    noise: str
    number: Number


@dataclass(frozen=True)
class Ranking(Figures):
    """Runs that were measured alike, the best first.

    Attributes:
        by: The name of the figure.
        what: On what and how it was measured.
        rows: The runs.
    """

    by: str
    what: str
    rows: list[Ranked]


def rankings(rows: Sequence[Listed], by: str) -> list[Ranking]:
    """Return a ranking for each way in which a figure was measured, that of the most runs first.

    Raises:
        UsageError: no figure is called so, or no run has it.
    """
    if by not in NAMES:
        raise UsageError(f"--by {by} is no figure", did_you_mean(by, NAMES) or f"choose one of: {', '.join(NAMES)}")
    ids = {row.run.path.name: row.id for row in rows}
    above = parents([row.run for row in rows])
    stages = {row.run.path.name: row.run.stage for row in rows}
    groups: dict[str, list[Ranked]] = {}
    for row in rows:
        name = row.run.path.name
        line = [name, *ancestors(name, above)]
        model = next((one for one in line if stages[one] in ("finetune", "pretrain")), name)
        for number in row.numbers:
            if number.name == by:
                ranked = Ranked(name, row.id, ids[model], row.run.recipe, row.noise, number)
                groups.setdefault(number.what, []).append(ranked)
    if not groups:
        there = sorted({number.name for row in rows for number in row.numbers}, key=NAMES.index)
        hint = f"there are: {', '.join(there)}" if there else "`rushkit runs list` shows what there is"
        raise UsageError(f"no run has the figure {by}", hint)
    sign = 1 if by in LESS_IS_BETTER else -1
    made = [
        Ranking(by, what, sorted(ranked, key=lambda one: sign * one.number.value)) for what, ranked in groups.items()
    ]
    return sorted(made, key=lambda ranking: -len(ranking.rows))
