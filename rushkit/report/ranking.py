"""Which run has the best figure: runs ranked by a figure, among those that were measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rushkit.errors import UsageError, did_you_mean
from rushkit.report.listing import Listed
from rushkit.report.numbers import LESS_IS_BETTER, NAMES, Number
from rushkit.report.places import shared_places
from rushkit.results.jsonable import Figures
from rushkit.results.words import listed
from rushkit.run.lineage import ancestors, parents


@dataclass(frozen=True)
class Ranked(Figures):
    """A run in a ranking.

    Attributes:
        rank: Its rank; runs of one figure share it.
        run: Name of its folder.
        id: The shortest name that means it alone.
        model: Id of the model that it measured; its own if it measured none.
        recipe: Its recipe.
        noise: Its noise, in words.
        number: The figure.
    """

    rank: int
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
        what: On what, how and on how many images it was measured.
        rows: The runs.
    """

    by: str
    what: str
    rows: list[Ranked]


def rankings(rows: Sequence[Listed], by: str) -> list[Ranking]:
    """Return a ranking for each way and number of images in which a figure was measured.

    That of the most runs comes first, of equals that of the most images. Few images are never ranked beside many: a
    figure of theirs is the best by chance.

    Raises:
        UsageError: no figure is called so, or no run has it.
    """
    if by not in NAMES:
        raise UsageError(f"--by {by} is no figure", did_you_mean(by, NAMES) or f"choose one of: {', '.join(NAMES)}")
    ids = {row.run.path.name: row.id for row in rows}
    above = parents([row.run for row in rows])
    stages = {row.run.path.name: row.run.stage for row in rows}
    sign = 1 if by in LESS_IS_BETTER else -1
    groups: dict[tuple[str, int], list[tuple[float, Listed, str, Number]]] = {}
    for row in rows:
        name = row.run.path.name
        line = [name, *ancestors(name, above)]
        model = next((one for one in line if stages[one] in ("finetune", "pretrain")), name)
        for number in row.numbers:
            if number.name == by:
                groups.setdefault((number.what, number.images or 0), []).append(
                    (sign * number.value, row, ids[model], number)
                )
    if not groups:
        there = sorted({number.name for row in rows for number in row.numbers}, key=NAMES.index)
        hint = f"there are: {', '.join(there)}" if there else "`rushkit runs list` shows what there is"
        raise UsageError(f"no run has the figure {by}", hint)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), -group[0][1]))
    return [
        Ranking(by, listed(what, f"n = {images}" if images else ""), _ranked(measured))
        for (what, images), measured in ordered
    ]


def _ranked(measured: list[tuple[float, Listed, str, Number]]) -> list[Ranked]:
    """Return runs by the first of each tuple, the least first; those of one figure share a rank."""
    ordered = sorted(measured, key=lambda one: one[0])
    return [
        Ranked(rank, row.run.path.name, row.id, model, row.run.recipe, row.noise, number)
        for rank, (_, row, model, number) in zip(shared_places([one[0] for one in ordered]), ordered, strict=True)
    ]
