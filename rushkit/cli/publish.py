"""``rushkit publish``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Changes, Output
from rushkit.cli.panels import OUTPUT
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError
from rushkit.paths import expand

NAME = "publish"
EXAMPLE = "Example: rushkit publish cifar10 --to published"


@verb
def command(
    *,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help=f"Models, by any of their runs. {NAMES_A_RUN}. Runs of measurements: of their model only these.",
            autocompletion=complete_runs,
        ),
    ],
    folder: Annotated[
        str, typer.Option("--to", metavar="DIR", rich_help_panel=OUTPUT, help="Where the folder DIR/NAME is made.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", rich_help_panel=OUTPUT, help="Its name; else that of the recipe."),
    ] = None,
    license_name: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            rich_help_panel=OUTPUT,
            help="The licence of the weights, for the card, such as apache-2.0; else the card names none.",
        ),
    ] = None,
    changes: Changes = None,
    output: Output,
) -> None:
    """Write a model with all that was measured of it into a folder that others open and verify; nothing is uploaded."""
    from rich.text import Text

    from rushkit.documents.models import PublishedModels
    from rushkit.report.make import families_of
    from rushkit.report.publishing import check_name, name_of_model, named_measurements, publish

    speaker = output.speaker()
    families = families_of(runs, runs_root(changes), speaker.warn)
    if name is not None and len(families) > 1:
        raise UsageError(f"--name is that of one model, and these are {len(families)}", "leave --name out")
    recipes = [family.model.recipe for family in families]
    published = []
    for family, recipe in zip(families, recipes, strict=True):
        called = check_name(name) if name is not None else name_of_model(family, recipes.count(recipe) > 1)
        named = named_measurements(family, runs, runs_root(changes))
        published.append(publish(family, named, expand(folder) / called, license_name))
    for one in published:
        for sentence in one.left_out:
            speaker.warn(f"left out: {sentence}")
    lines = [
        f"published: {one.folder} (runs: {len(one.measured)}; artifacts: {one.artifacts}; certifications: "
        f"{one.certifications}; weights: {one.weights})"
        for one in published
    ]
    output.result(PublishedModels(published).plain(), Text("\n".join(lines)))
