"""``rushkit attack``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from rushkit.cli.launch import launch
from rushkit.cli.options import (
    Changes,
    Debug,
    From,
    Json,
    Nproc,
    Output,
    Quiet,
    Resume,
    RunFolder,
    Samples,
    Verbose,
    numbers,
    resolve_classifier,
    runs_root,
)

NAME = "attack"
EXAMPLE = "Example: rushkit attack --type pgd --eps 8/255 --protocol both --limit 100"


class Protocol(StrEnum):
    """Which protocols run."""

    PAPER = "paper"
    STRICT = "strict"
    BOTH = "both"


def command(
    context: typer.Context,
    source: From = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="An attack's name; else those of the recipe.")
    ] = None,
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units, such as 8/255.")] = None,
    norm: Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1.")] = None,
    protocol: Annotated[
        Protocol, typer.Option("--protocol", help="paper reproduces the paper's figures; strict is what may be quoted.")
    ] = Protocol.BOTH,
    samples: Samples = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Images to attack; 0 for all.")] = None,
    changes: Changes = None,
    resume: Resume = False,
    run_folder: RunFolder = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Robust accuracy of a fine-tuned model: the paper's protocol, and beside it what is left under a strict one."""
    launch(nproc, context)
    from rushkit.cli.training import reopen
    from rushkit.recipe.load import change_attacks
    from rushkit.report.tables import attack_table
    from rushkit.run.checkpoint import load_checkpoint
    from rushkit.stages.attack import attack
    from rushkit.stages.protocols import ProtocolName
    from rushkit.stages.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    protocols: tuple[ProtocolName, ...] = ("paper", "strict")
    if resume:
        recipe, run = reopen("attack", None, run_folder, changes, runs_root(changes), speaker)
        checkpoint = load_checkpoint(str(run.data["parent"]))
        protocols = tuple(run.data.get("protocols", protocols))
    else:
        recipe, checkpoint = resolve_classifier(source, changes, speaker)
        recipe = change_attacks(
            recipe, kind, norm=norm, eps=eps, samples=numbers(samples, "--samples"), limit=limit, changes=changes or []
        )
        if protocol != Protocol.BOTH:
            protocols = ("paper",) if protocol == Protocol.PAPER else ("strict",)
        run = start_run("attack", recipe, speaker, parent=str(checkpoint.path))
        run.update(protocols=list(protocols))
    with run:
        results = attack(recipe, checkpoint, run, protocols)
    output.result({**results, "run": str(run.path)}, attack_table(results))
    speaker.say(f"run: {run.path}")
