"""``rushkit bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes
from rushkit.cli.options import MOST, Changes, Computing, Output
from rushkit.cli.verb import verb
from rushkit.rounding import counted

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
    from rich.console import Group
    from rich.table import Table

    from rushkit.bench import bench
    from rushkit.documents.machine import Speed
    from rushkit.recipe.load import load_recipe
    from rushkit.rounding import duration

    measured = bench(load_recipe(recipe, computing.changes(changes)), seconds, output.speaker(), batch or 0)
    clock = "processor time" if measured.machine.startswith("cpu") else "time"
    alike = any(row.alike is not None for row in measured.rows)
    table = Table("part", "precision", "batch", "speed", "bare, float32", f"share of it, by {clock}")
    if alike:
        table.add_column("share of bare passes in its precision")
    for row in measured.rows:
        speeds = (f"{speed:,.1f} {row.unit}" for speed in (row.per_second, row.bare_per_second))
        # Making views is no pass of the model, so it is no share of one.
        share = "" if row.part == "views" else f"{100 * row.fraction:.0f} %"
        beside = "" if row.fraction_alike is None else f"{100 * row.fraction_alike:.0f} %"
        table.add_row(row.part, row.precision, str(row.batch), *speeds, share, *([beside] if alike else []))
    memory = f"peak memory {measured.memory_bytes / 2**30:.2f} GiB at batch {measured.batch}"
    if measured.batch != measured.recipe_batch:
        memory += f"; the recipe's batch is {measured.recipe_batch}"
    lines = [
        "bare: the same passes of all networks on prepared inputs, without views, noise, loss and votes; beside views, "
        "those that its training steps take",
        memory,
    ]
    if measured.estimate is None:
        lines.append("no estimate: the data is not here; `rushkit data list` says what is")
    else:
        whole, epoch = duration(measured.estimate.seconds), duration(measured.estimate.seconds_an_epoch)
        epochs = f"{counted(measured.estimate.epochs, 'epoch')} of {measured.recipe}"
        lines.append(f"{epochs}: {whole} on this device, {epoch} an epoch")
    output.result(Speed.of(measured).plain(), Group(table, *lines))
