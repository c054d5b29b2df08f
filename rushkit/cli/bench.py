"""``rushkit bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes
from rushkit.cli.options import MOST, Changes, Computing, Output
from rushkit.cli.verb import verb

NAME = "bench"
EXAMPLE = "Example: rushkit bench --recipe cifar10 --batch 128"


@verb
def command(
    *,
    recipe: Annotated[
        str,
        typer.Option("--recipe", autocompletion=complete_recipes, help="A recipe's name, or the path of a TOML file."),
    ] = "cifar10",
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=MOST, help="About how long to measure.")] = 20.0,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=2, max=MOST, help="Images in a training step; default: as many as the time allows."
        ),
    ] = None,
    changes: Changes = None,
    computing: Computing,
    output: Output,
) -> None:
    """How fast this machine does a recipe's work, compared with bare passes; and how long the recipe takes."""
    from rushkit.recipe.load import load_recipe
    from rushkit.report.terminal.tables import record_table
    from rushkit.speed.bench import bench

    measured = bench(load_recipe(recipe, computing.changes(changes)), seconds, output.speaker(), batch or 0)
    output.result(measured.plain(), record_table(measured))
