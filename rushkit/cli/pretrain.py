"""``rushkit pretrain``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_recipes, complete_runs
from rushkit.cli.options import NAMES_A_RUN, Changes, Computing, Output, ReplacedRanks, Resuming, Training
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb
from rushkit.errors import RushkitError, UsageError, shell_line

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker
    from rushkit.training.starting import Start

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
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="RUN|FILE",
            help=f"Start from this encoder, with a schedule from its beginning. {NAMES_A_RUN}, or a file of weights.",
            autocompletion=complete_runs,
        ),
    ] = None
    extend: Annotated[
        str | None,
        typer.Option(
            "--extend",
            metavar="RUN",
            help="Go on with a finished training, up to --epochs in all, in a new run: with its recipe, its optimizer, "
            "and the rest of the longer schedule.",
            autocompletion=complete_runs,
        ),
    ] = None

    def new(self) -> dict[str, str | None]:
        """Return the options that a resumed run cannot take, by flag."""
        return {"--from": self.teacher, "--init": self.init, "--extend": self.extend}

    def check(self) -> None:
        """Raise UsageError unless one of --recipe and --extend says what is trained."""
        if self.extend is not None and (self.recipe is not None or self.init is not None):
            other = "--recipe" if self.recipe is not None else "--init"
            raise UsageError(
                f"--extend goes on with the recipe and the weights of its run: {other} does not go with it",
                "for another recipe from the weights of a run: --recipe NAME --init RUN",
            )
        if self.extend is None and self.recipe is None:
            raise UsageError("which recipe? --recipe is missing", "for example: rushkit pretrain --recipe cifar10")


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
    resuming.check(options.new())
    training.check(resuming)
    if not resuming.resume:
        options.check()
    resuming, changes = ranks.go_on(resuming, computing.changes(training.changes(NAME, changes)))
    from rushkit.cli.trained import dry_run_table, trained_words
    from rushkit.setup.resume import Stopped, parent_if_any, reopen
    from rushkit.setup.start import ready_machine, start_run
    from rushkit.training.dry_run import dry_run
    from rushkit.training.pretrain import neighbours, pretrain, pretraining_job
    from rushkit.training.starting import start_of
    from rushkit.training.teacher import load_teacher

    speaker = output.speaker()
    if resuming.resume:
        stopped = Stopped(NAME, runs_root(changes), resuming.run_folder, options.recipe)
        recipe, run = reopen(stopped, changes, speaker)
        teacher, start = parent_if_any(run), start_of(run)
    else:
        recipe, teacher, start = _begin(options, changes, speaker)
        if training.dry_run:
            machine = ready_machine(NAME, recipe)
            job, dataset = pretraining_job(recipe, machine, teacher=load_teacher(recipe, teacher), start=start)
            neighbours(recipe, dataset, job.split)
            sizes = dry_run(job, machine)
            output.result(sizes.to_table(), dry_run_table(NAME, recipe.name, sizes))
            return
        asked = None if start is None else start.facts()
        run = start_run(NAME, recipe, speaker, parent=str(teacher.path) if teacher else None, asked=asked)
    with run:
        results = pretrain(recipe, run, teacher, start)
    output.result(results, trained_words(results, run.path, shell_line("rushkit", "finetune", "--from", run.path)))


def _begin(options: Options, changes: list[str], speaker: Speaker) -> tuple[Recipe, Checkpoint | None, Start | None]:
    """Return the recipe, the checkpoint of the teacher, and what is started from; None for what there is not."""
    from rushkit.recipe.load import load_recipe
    from rushkit.training.labels import check_labels
    from rushkit.training.teacher import check_teacher

    named = options.teacher
    if options.extend is not None:
        recipe, start, named = _extension(options, changes, speaker)
    else:
        recipe, start = load_recipe(str(options.recipe), changes), None
    check_teacher(recipe, named)
    check_labels(recipe)
    if options.init is not None:
        start = _weights(options.init, recipe, speaker)
    teacher = None if named is None else _checkpoint(named, recipe.system.runs_dir, speaker)
    return recipe, teacher, start


def _checkpoint(named: str, runs_dir: str, speaker: Speaker) -> Checkpoint:
    """Return the checkpoint of an encoder that a flag names."""
    from rushkit.run.source import resolve_from

    # A classifier has an encoder, too; a name that both have means the pre-trained one.
    return resolve_from(named, runs_dir, ("pretrain", "finetune"), prefer="pretrain").load(warn=speaker.warn)


def _extension(options: Options, changes: list[str], speaker: Speaker) -> tuple[Recipe, Start, str | None]:
    """Return the recipe of a finished training for more epochs, its last checkpoint, and what names its teacher."""
    from rushkit.run.source import resolve_from
    from rushkit.training.starting import Start, check_same_teacher, extended_recipe

    source = resolve_from(options.extend, runs_root(changes), NAME)
    checkpoint = source.load(warn=speaker.warn)
    recipe = extended_recipe(checkpoint, changes, source.run.about.precision if source.run else "")
    named = options.teacher
    if source.run is not None:
        named = named or source.run.about.parent
        teacher = None if named is None else _checkpoint(named, recipe.system.runs_dir, speaker)
        check_same_teacher(source.run.about.hashes.get("parent"), teacher)
    return recipe, Start(checkpoint, goes_on=True), named


def _weights(named: str, recipe: Recipe, speaker: Speaker) -> Start:
    """Return the encoder that ``--init`` names: of a run, a checkpoint, or somebody else's file of weights."""
    from rushkit.exchange.plan import plan_import
    from rushkit.exchange.rules import Rules
    from rushkit.foreign.file import read_foreign
    from rushkit.paths import expand, is_file
    from rushkit.run.checkpoint import Checkpoint, checkpoint_hash
    from rushkit.run.names import POINTERS
    from rushkit.training.starting import Start

    path = expand(named)
    if not is_file(path) or path.name in POINTERS or checkpoint_hash(path):
        return Start(_checkpoint(named, recipe.system.runs_dir, speaker))
    foreign = read_foreign(path)
    try:
        plan = plan_import(recipe, foreign, Rules(), encoder_only=True)
    except RushkitError as error:
        flags = shell_line("rushkit", "import", path, "--encoder-only")
        hint = f"{error.hint}\nwhat flags must say is said by an import, whose run --init takes: {flags}"
        raise type(error)(error.message, hint) from error
    for note in plan.origin.notes:
        speaker.say(note)
    return Start(Checkpoint(dict(plan.tensors), plan.meta(), path), origin=plan.origin)
