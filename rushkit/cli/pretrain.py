"""``rushkit pretrain``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes
from rushkit.cli.options import Changes, Output, Ranks, Resuming, Training
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shell_line

NAME = "pretrain"
EXAMPLE = "Example: rushkit pretrain --recipe cifar10 --set pretrain.epochs=100"


@verb
def command(
    *,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="A recipe's name, or the path of a TOML file.", autocompletion=complete_recipes),
    ] = None,
    changes: Changes = None,
    resuming: Resuming,
    training: Training,
    ranks: Ranks,
    output: Output,
) -> None:
    """Pre-train an encoder without labels: SimCLR with smoothing noise on one view (eq. 11)."""
    resuming.check()
    training.check(resuming)
    if not resuming.resume and recipe is None:
        raise UsageError("which recipe? --recipe is missing", "for example: rushkit pretrain --recipe cifar10")
    ranks.launch()
    from rushkit.cli.trained import dry_run_table, trained_words
    from rushkit.recipe.load import load_recipe
    from rushkit.setup.resume import Stopped, reopen
    from rushkit.setup.start import machine_of, start_run
    from rushkit.training.dry_run import dry_run
    from rushkit.training.pretrain import pretrain, pretraining_job

    changes, speaker = training.changes(NAME, changes), output.speaker()
    if resuming.resume:
        stopped = Stopped(NAME, runs_root(changes), resuming.run_folder, recipe)
        resolved, run = reopen(stopped, changes, speaker)
    else:
        resolved = load_recipe(str(recipe), changes, components=True)
        if training.dry_run:
            job, _ = pretraining_job(resolved, machine_of(resolved))
            sizes = dry_run(job)
            output.result(sizes, dry_run_table(NAME, resolved.name, sizes))
            return
        run = start_run(NAME, resolved, speaker)
    with run:
        results = pretrain(resolved, run)
    output.result(results, trained_words(results, run.path, shell_line("rushkit", "finetune", "--from", run.path)))
