"""``rushkit leaderboard``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import Changes, Output
from rushkit.cli.panels import OUTPUT
from rushkit.cli.source import check_flags
from rushkit.cli.verb import verb
from rushkit.paths import expand

NAME = "leaderboard"
EXAMPLE = "Example: rushkit leaderboard published --to leaderboard.html"


@verb
def command(
    *,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder of published models, each in a folder of it.")],
    page: Annotated[
        str, typer.Option("--to", metavar="FILE.html", rich_help_panel=OUTPUT, help="The page; one there is replaced.")
    ],
    changes: Changes = None,
    output: Output,
) -> None:
    """One static page that ranks published models by strict accuracy; each is verified, and who fails is not ranked."""
    from rich.text import Text

    from rushkit.claims.targets import fresh_seed
    from rushkit.documents.models import WrittenLeaderboard
    from rushkit.report.leaderboard import make_leaderboard
    from rushkit.report.tables.ranked import statement

    check_flags(changes)
    speaker = output.speaker()
    made = make_leaderboard(expand(folder), expand(page), fresh_seed(), changes or (), speaker.say)
    lines = [
        line
        for board in made.boards
        for line in (board.title, *(f"{place}. {statement(row)}" for place, row in board.placed))
    ]
    lines += [f"not ranked: {row.name}: {row.reasons[0]}" for row in made.unranked]
    lines.append(f"written: {expand(page)}")
    output.result(WrittenLeaderboard.of(made, expand(page)).plain(), Text("\n".join(lines)))
