"""``rushkit audit``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.options import (
    MOST,
    Changes,
    Debug,
    From,
    Json,
    Nproc,
    Output,
    Quiet,
    Resume,
    RunFolder,
    Verbose,
    check_resume,
    resolve_classifier,
    runs_root,
)
from rushkit.distributed.last_words import leave_words
from rushkit.distributed.launch import launch
from rushkit.place import current_place

if TYPE_CHECKING:
    from rushkit.auditing.plan import Settings
    from rushkit.recipe.schema import Recipe

NAME = "audit"
EXAMPLE = "Example: rushkit audit --from cifar10 --limit 64 --eps 8/255"


def command(
    context: typer.Context,
    source: From = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, max=MOST, help="Images to look at; 0 for all, 64 where it is not given."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="M", min=1, max=MOST, help="Draws of noise a vote; else the recipe's most."),
    ] = None,
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units; else that of the recipe.")] = None,
    norm: Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1; else that of the recipe.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=MOST, help="Gradient steps; 20 else.")] = None,
    eot: Annotated[
        int | None, typer.Option("--eot", min=1, max=MOST, help="Draws of noise a gradient; 10 else.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", min=1, max=MOST, help="Queries of Square; 200 else.")
    ] = None,
    changes: Changes = None,
    resume: Resume = False,
    run_folder: RunFolder = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Is the robustness real? Checks with codes, each with its figures; exit code 1 if one fails."""
    asked = {"steps": steps, "eot": eot, "queries": queries, "limit": limit, "samples": samples}
    flags = {f"--{name}": value for name, value in {**asked, "eps": eps, "norm": norm, "from": source}.items()}
    check_resume(resume, run_folder, flags)
    launch(nproc, context)
    from rushkit.auditing.audit import audit, failed
    from rushkit.cli.training import parent_checkpoint, reopen
    from rushkit.recipe.attack_flags import change_attacks
    from rushkit.report.audit import audit_figure, audit_table
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    if resume:
        recipe, run = reopen("audit", None, run_folder, changes, runs_root(changes), speaker)
        checkpoint = parent_checkpoint(run)
        asked = {name: value if isinstance(value := run.data.get(name), int) else None for name in asked}
    else:
        recipe, checkpoint = resolve_classifier(source, changes, speaker)
        # The ball is that of the recipe's first attack.
        recipe = change_attacks(recipe, None if recipe.attack else "pgd", changes=changes or [], norm=norm, eps=eps)
        _settings(recipe, asked)
        run = start_run("audit", recipe, speaker, parent=str(checkpoint.path), asked=asked)
    with run:
        images = 64 if asked["limit"] is None else asked["limit"]
        results = audit(recipe, checkpoint, _settings(recipe, asked), run, images, asked["samples"] or 0)
        if run.writes:
            audit_figure(results, run.subfolder("figures") / "audit.png")
    output.result(results, audit_table(results))
    speaker.say(f"run: {run.path}")
    _leave(bool(failed(results)))


def _settings(recipe: Recipe, asked: dict[str, int | None]) -> Settings:
    from rushkit.auditing.audit import audit_settings

    ball, budgets = recipe.attack[0], {name: asked[name] for name in ("steps", "eot", "queries")}
    return audit_settings(ball.norm, ball.eps, recipe.system.seed, **budgets)


def _leave(failed: bool) -> None:
    """Exit with 1 where a check failed. Of several ranks rank 0 does, when it has said all that there is to say."""
    if not failed or current_place().rank:
        return
    # A verdict is no accident: the launcher need not explain the exit code.
    leave_words("cause", "", 1)
    raise typer.Exit(1)
