"""``rushkit finetune``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_recipes, complete_targets
from rushkit.cli.options import Changes, Computing, From, Output, ReplacedRanks, Resuming, Training
from rushkit.cli.source import check_flags, open_source, runs_root
from rushkit.cli.verb import verb
from rushkit.errors import RushkitError, UsageError, shell_line

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker

NAME = "finetune"
EXAMPLE = "Example: rushkit finetune --from cifar10 --to stl10"


@dataclass(frozen=True)
class Options:
    """What is trained, and on what."""

    source: From = None
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="A recipe or a data set to transfer to.",
            autocompletion=complete_targets,
        ),
    ] = None
    from_scratch: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Start from random weights under this recipe, which must have finetune.freeze=none.",
            autocompletion=complete_recipes,
        ),
    ] = None

    def check(self) -> None:
        """Raise UsageError if random weights are asked for beside an encoder, or the target is unknown."""
        from rushkit.recipe.load import check_target

        if self.from_scratch is not None and (self.source is not None or self.target is not None):
            raise UsageError("--recipe starts from random weights: --from and --to do not go with it", "leave one out")
        if self.target is not None:
            check_target(self.target)


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
    """Train with labels: RUSH's head on a pre-trained encoder (eq. 12), or another method; with --to, on other data."""
    resuming.check({"--from": options.source, "--to": options.target, "--recipe": options.from_scratch})
    training.check(resuming)
    options.check()
    changes = computing.changes(training.changes(NAME, changes))
    if not resuming.resume:
        check_flags(changes)
    resuming, changes = ranks.go_on(resuming, changes)
    from rushkit.cli.trained import dry_run_table, trained_words
    from rushkit.setup.resume import Stopped, parent_if_any, reopen
    from rushkit.setup.start import ready_machine, start_run
    from rushkit.training.dry_run import dry_run
    from rushkit.training.finetune import finetune, finetuning_job

    speaker = output.speaker()
    if resuming.resume:
        recipe, run = reopen(Stopped(NAME, runs_root(changes), resuming.run_folder), changes, speaker)
        checkpoint = parent_if_any(run)
    else:
        recipe, checkpoint = _begin(options, changes, speaker)
        if training.dry_run:
            machine = ready_machine(NAME, recipe)
            job, _, _ = finetuning_job(recipe, checkpoint, machine)
            sizes = dry_run(job, machine)
            output.result(sizes.to_table(), dry_run_table(NAME, recipe.name, sizes))
            return
        run = start_run(NAME, recipe, speaker, parent=str(checkpoint.path) if checkpoint else None)
    with run:
        results = finetune(recipe, checkpoint, run)
    output.result(results, trained_words(results, run.path, shell_line("rushkit", "evaluate", "--from", run.path)))


def _begin(options: Options, changes: list[str], speaker: Speaker) -> tuple[Recipe, Checkpoint | None]:
    """Return the recipe and the checkpoint whose encoder it starts from; None for random weights."""
    from rushkit.recipe.load import derive_recipe, load_recipe, said_in_files
    from rushkit.setup.model import PSEUDO_LABELS, image_size_of, recipe_of
    from rushkit.training.finetune import supervised_recipe, tuned_recipe

    if options.from_scratch is not None:
        by_itself = said_in_files(options.from_scratch, "finetune.freeze") == "none"
        return supervised_recipe(load_recipe(options.from_scratch, changes), by_itself), None
    checkpoint = _encoder(options.source, changes, speaker)
    size = 0 if options.target is None else image_size_of(checkpoint)
    knows_clusters = checkpoint.meta.get("stage") == NAME and PSEUDO_LABELS in checkpoint.meta
    recipe = tuned_recipe(recipe_of(checkpoint), knows_clusters, options.target, size)
    return derive_recipe(recipe, changes), checkpoint


def _encoder(source: str | None, changes: list[str], speaker: Speaker) -> Checkpoint:
    """Load a pre-trained encoder, or one that was fine-tuned on the labels of a clustering, which is as good as one."""
    from rushkit.setup.model import PSEUDO_LABELS

    try:
        return open_source(source, changes, "pretrain", speaker)
    except UsageError:
        if source is None:
            raise
        with suppress(RushkitError):
            checkpoint = open_source(source, changes, NAME, speaker)
            if PSEUDO_LABELS in checkpoint.meta:
                return checkpoint
        raise
