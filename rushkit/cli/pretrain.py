"""``rushkit pretrain``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes
from rushkit.cli.options import (
    Changes,
    Debug,
    DryRun,
    Every,
    Json,
    Keep,
    Nproc,
    Output,
    Quiet,
    Resume,
    RunFolder,
    TensorBoard,
    Verbose,
    check_resume,
    runs_root,
    training_changes,
)
from rushkit.distributed.launch import launch
from rushkit.errors import UsageError, shell_line

NAME = "pretrain"
EXAMPLE = "Example: rushkit pretrain --recipe cifar10 --set pretrain.epochs=100"


def command(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="A recipe's name, or the path of a TOML file.", autocompletion=complete_recipes),
    ] = None,
    changes: Changes = None,
    resume: Resume = False,
    run_folder: RunFolder = None,
    every: Every = None,
    keep: Keep = None,
    tensorboard: TensorBoard = False,
    dry_run: DryRun = False,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Pre-train an encoder without labels: SimCLR with smoothing noise on one view (eq. 11)."""
    check_resume(resume, run_folder)
    launch(nproc, context)
    changes = training_changes(changes, NAME, every, keep, tensorboard)
    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    if not resume and recipe is None:
        raise UsageError("which recipe? --recipe is missing", "for example: rushkit pretrain --recipe cifar10")

    from rushkit.cli.training import dry_run_table, finished, refuse_dry_resume, reopen
    from rushkit.recipe.load import load_recipe
    from rushkit.setup.start import machine_of, start_run
    from rushkit.training.pretrain import pretrain, pretraining_job

    if resume:
        refuse_dry_resume(dry_run)
        found, run = reopen("pretrain", recipe, run_folder, changes, runs_root(changes), speaker)
    else:
        found = load_recipe(str(recipe), changes, components=True)
        if dry_run:
            job, _ = pretraining_job(found, machine_of(found))
            output.result(*dry_run_table(job, found))
            return
        run = start_run("pretrain", found, speaker)
    with run:
        results = pretrain(found, run)
    finished(output, run, results, shell_line("rushkit", "finetune", "--from", run.path))
