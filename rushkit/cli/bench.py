"""``rushkit bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import MOST, Changes, Output
from rushkit.cli.verb import verb

NAME = "bench"
EXAMPLE = "Example: rushkit bench --recipe cifar10"


@verb
def command(
    *,
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe's name, or the path of a TOML file.")] = "cifar10",
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=MOST, help="About how long to measure.")] = 20.0,
    changes: Changes = None,
    output: Output,
) -> None:
    """How fast this machine does a recipe's work, beside the bare model's speed; and how long the recipe takes."""
    from rich.console import Group
    from rich.table import Table

    from rushkit.bench import bench
    from rushkit.recipe.load import load_recipe
    from rushkit.rounding import duration

    measured = bench(load_recipe(recipe, changes or [], components=True), seconds, output.speaker())
    clock = "processor time" if measured.machine.startswith("cpu") else "time"
    table = Table("part", "speed", "bare model", f"share of the bare speed, by {clock}")
    for row in measured.rows:
        speeds = (f"{speed:,.1f} {row.unit}" for speed in (row.per_second, row.bare_per_second))
        # Making views is no pass of the model, so it is no share of one.
        table.add_row(row.part, *speeds, "" if row.part == "views" else f"{100 * row.fraction:.0f} %")
    memory = f"peak memory {measured.memory_bytes / 2**30:.2f} GiB at batch {measured.batch}"
    if measured.batch != measured.recipe_batch:
        memory += f"; the recipe's batch is {measured.recipe_batch}"
    lines = [
        "bare model: the same passes without views, noise and votes; beside views, those that its training steps take",
        memory,
    ]
    if measured.estimate is None:
        lines.append("no estimate: the data is not here; `rushkit data list` says what is")
    else:
        whole, epoch = duration(measured.estimate.seconds), duration(measured.estimate.seconds_an_epoch)
        epochs = f"{measured.estimate.epochs} epochs of {measured.recipe}"
        lines.append(f"{epochs}: {whole} on this device, {epoch} an epoch")
    output.result(measured.to_json(), Group(table, *lines))
