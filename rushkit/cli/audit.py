"""``rushkit audit``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import Changes, Debug, From, Json, Output, Quiet, Verbose, resolve_classifier

NAME = "audit"
EXAMPLE = "Example: rushkit audit --from cifar10 --limit 64 --eps 8/255"


def command(
    source: From = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Images to look at; 0 for all.")] = 64,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="M", min=1, help="Draws of noise a vote; else the recipe's most.")
    ] = None,
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units; else that of the recipe.")] = None,
    norm: Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1; else that of the recipe.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Gradient steps; 20 else.")] = None,
    eot: Annotated[int | None, typer.Option("--eot", min=1, help="Draws of noise a gradient; 10 else.")] = None,
    queries: Annotated[int | None, typer.Option("--queries", min=1, help="Queries of Square; 200 else.")] = None,
    changes: Changes = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Is the robustness real? Checks with codes, each with its figures; exit code 1 if one fails."""
    from rushkit.recipe.load import change_attacks
    from rushkit.report.audit import audit_figure, audit_table
    from rushkit.stages.audit import audit, audit_settings, failed
    from rushkit.stages.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    recipe, checkpoint = resolve_classifier(source, changes, speaker)
    # The ball is that of the recipe's first attack.
    recipe = change_attacks(recipe, None if recipe.attack else "pgd", changes=changes or [], norm=norm, eps=eps)
    ball = recipe.attack[0]
    settings = audit_settings(ball.norm, ball.eps, recipe.system.seed, steps=steps, eot=eot, queries=queries)
    with start_run("audit", recipe, speaker, parent=str(checkpoint.path)) as run:
        results = audit(recipe, checkpoint, settings, run, limit, samples or 0)
        audit_figure(results, run.subfolder("figures") / "audit.png")
    output.result(results, audit_table(results))
    speaker.say(f"run: {run.path}")
    if failed(results):
        raise typer.Exit(1)
