"""``rushkit finetune``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes, complete_targets
from rushkit.cli.options import (
    Changes,
    Debug,
    DryRun,
    Every,
    From,
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
    open_source,
    runs_root,
    training_changes,
)
from rushkit.distributed.launch import launch
from rushkit.errors import UsageError, shell_line

NAME = "finetune"
EXAMPLE = "Example: rushkit finetune --from cifar10 --to stl10"


def command(
    context: typer.Context,
    source: From = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="A recipe or a data set to transfer to.",
            autocompletion=complete_targets,
        ),
    ] = None,
    from_scratch: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Start from random weights under this recipe: a supervised baseline. Needs finetune.freeze=none.",
            autocompletion=complete_recipes,
        ),
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
    """Train a linear head on noisy images, on the pre-trained encoder (eq. 12); with --to, on other data."""
    check_resume(resume, run_folder, {"--from": source, "--to": target, "--recipe": from_scratch})
    launch(nproc, context)
    changes = training_changes(changes, NAME, every, keep, tensorboard)
    from rushkit.cli.training import dry_run_table, finished, parent_checkpoint, refuse_dry_resume, reopen
    from rushkit.recipe.components import check_components
    from rushkit.recipe.load import derive_recipe, load_recipe, transfer_recipe
    from rushkit.setup.model import image_size_of, recipe_of
    from rushkit.setup.start import machine_of, start_run
    from rushkit.training.finetune import finetune, finetuning_job, supervised_recipe

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    if resume:
        refuse_dry_resume(dry_run)
        recipe, run = reopen("finetune", None, run_folder, changes, runs_root(changes), speaker)
        # A supervised baseline builds on nothing.
        checkpoint = parent_checkpoint(run) if run.data.get("parent") else None
    else:
        if from_scratch is not None:
            if source is not None or target is not None:
                raise UsageError(
                    "--recipe starts from random weights: --from and --to do not go with it", "leave one out"
                )
            checkpoint, recipe = None, supervised_recipe(load_recipe(from_scratch, changes, components=True))
        else:
            checkpoint = open_source(source, changes, "pretrain", speaker)
            recipe = recipe_of(checkpoint)
            if target is not None:
                recipe = transfer_recipe(recipe, target, image_size_of(checkpoint))
            recipe = derive_recipe(recipe, changes)
        if dry_run:
            check_components(recipe)
            job, _, _ = finetuning_job(recipe, checkpoint, machine_of(recipe))
            output.result(*dry_run_table(job, recipe))
            return
        run = start_run("finetune", recipe, speaker, parent=str(checkpoint.path) if checkpoint else None)
    with run:
        results = finetune(recipe, checkpoint, run)
    finished(output, run, results, shell_line("rushkit", "evaluate", "--from", run.path))
