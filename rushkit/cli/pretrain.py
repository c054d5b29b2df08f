"""``rushkit pretrain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_recipes, complete_runs
from rushkit.cli.options import NAMES_A_RUN, Changes, Computing, Output, ReplacedRanks, Resuming, Training
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shell_line

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker

NAME = "pretrain"
EXAMPLE = "Example: rushkit pretrain --recipe cifar10 --epochs 100"


@dataclass(frozen=True)
class Options:
    """What is trained, and what it learns from."""

    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="A recipe's name, or the path of a TOML file.", autocompletion=complete_recipes),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help=f"The teacher of an objective that has one. {NAMES_A_RUN}, or a checkpoint.",
            autocompletion=complete_runs,
        ),
    ] = None


@verb
def command(
    *,
    options: Options,
    training: Training,
    changes: Changes = None,
    resuming: Resuming,
    computing: Computing,
    ranks: ReplacedRanks,
    output: Output,
) -> None:
    """Pre-train an encoder without labels: SimCLR with smoothing noise on one view (eq. 11), or another method."""
    resuming.check({"--from": options.teacher})
    training.check(resuming)
    if not resuming.resume and options.recipe is None:
        raise UsageError("which recipe? --recipe is missing", "for example: rushkit pretrain --recipe cifar10")
    resuming, changes = ranks.go_on(resuming, computing.changes(training.changes(NAME, changes)))
    from rushkit.cli.trained import dry_run_table, trained_words
    from rushkit.setup.resume import Stopped, parent_if_any, reopen
    from rushkit.setup.start import ready_machine, start_run
    from rushkit.training.dry_run import dry_run
    from rushkit.training.pretrain import neighbours, pretrain, pretraining_job
    from rushkit.training.teacher import load_teacher

    speaker = output.speaker()
    if resuming.resume:
        stopped = Stopped(NAME, runs_root(changes), resuming.run_folder, options.recipe)
        recipe, run = reopen(stopped, changes, speaker)
        teacher = parent_if_any(run)
    else:
        recipe, teacher = _begin(options, changes, speaker)
        if training.dry_run:
            machine = ready_machine(NAME, recipe)
            job, dataset = pretraining_job(recipe, machine, teacher=load_teacher(recipe, teacher))
            neighbours(recipe, dataset, job.split)
            sizes = dry_run(job, machine)
            output.result(sizes, dry_run_table(NAME, recipe.name, sizes))
            return
        run = start_run(NAME, recipe, speaker, parent=str(teacher.path) if teacher else None)
    with run:
        results = pretrain(recipe, run, teacher)
    output.result(results, trained_words(results, run.path, shell_line("rushkit", "finetune", "--from", run.path)))


def _begin(options: Options, changes: list[str], speaker: Speaker) -> tuple[Recipe, Checkpoint | None]:
    """Return the recipe and the checkpoint of the teacher; None for an objective without one."""
    from rushkit.recipe.load import load_recipe
    from rushkit.run.source import resolve_from
    from rushkit.training.labels import check_labels
    from rushkit.training.teacher import check_teacher

    recipe = load_recipe(str(options.recipe), changes)
    check_teacher(recipe, options.teacher)
    check_labels(recipe)
    if options.teacher is None:
        return recipe, None
    # A classifier has an encoder, too; a name that both have means the pre-trained one.
    teacher = resolve_from(options.teacher, recipe.system.runs_dir, ("pretrain", "finetune"), prefer="pretrain")
    return recipe, teacher.load(warn=speaker.warn)
