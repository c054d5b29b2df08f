"""``rushkit probe``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import MOST, Changes, Debug, From, Json, Nproc, Output, Quiet, Verbose, open_source, runs_root
from rushkit.distributed.launch import launch

NAME = "probe"
EXAMPLE = "Example: rushkit probe --from cifar10 --limit 256"


def command(
    context: typer.Context,
    source: From = None,
    supervised: Annotated[
        str | None,
        typer.Option("--supervised", metavar="RUN", help="A run of finetune with finetune.freeze=none, to compare."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, max=MOST, help="Test images to look at; 0 for all.")] = 256,
    eps: Annotated[str, typer.Option("--eps", help="Radius of the ball in pixel units.")] = "8/255",
    norm: Annotated[str, typer.Option("--norm", help="The ball's norm: linf, l2 or l1.")] = "linf",
    steps: Annotated[int, typer.Option("--steps", min=1, max=MOST, help="Steps of the ascent.")] = 20,
    changes: Changes = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """How far an encoder's features move with the image, beside a random and a supervised encoder of its shape."""
    launch(nproc, context)
    from rushkit.errors import UsageError
    from rushkit.evaluation.probe import Ball, how_to_supervise, probe
    from rushkit.recipe.attack_flags import change_attacks
    from rushkit.recipe.load import derive_recipe
    from rushkit.report.audit import probe_table
    from rushkit.run.find import resolve_from
    from rushkit.setup.model import recipe_of
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    try:
        checkpoint = open_source(source, changes, "pretrain", speaker)
    except UsageError:
        # Not pre-trained alone: the encoder of a fine-tuned model will do.
        checkpoint = open_source(source, changes, ("pretrain", "finetune"), speaker)
    recipe = derive_recipe(recipe_of(checkpoint), changes or [])
    # The schema reads "8/255" and refuses what is no radius.
    asked = change_attacks(recipe, None if recipe.attack else "pgd", norm=norm, eps=eps).attack[0]
    other = None
    if supervised is not None:
        named = resolve_from(supervised, runs_root(changes), "finetune")
        if named.run is not None and named.run.data.get("parent"):
            speaker.warn(f"{named.run.path} began from {named.run.data['parent']}, not from random weights")
        other = named.load(warn=speaker.warn)
    else:
        speaker.say(f"no supervised encoder to compare with: {how_to_supervise(recipe)}")
    ball = Ball(asked.norm, asked.eps, steps)
    with start_run("probe", recipe, speaker, parent=str(checkpoint.path)) as run:
        results = probe(recipe, checkpoint, ball, run, limit, other)
    output.result(results, probe_table(results))
    speaker.say(f"run: {run.path}")
