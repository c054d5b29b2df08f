"""``rushkit probe``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.given import Measured
from rushkit.cli.options import MOST, Changes, Computing, Output, Ranks, Skip
from rushkit.cli.source import attack_flags, check_flags, open_source, resolve_classifier, runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError
from rushkit.named_code import FLAG, FRONT

if TYPE_CHECKING:
    from rushkit.recipe.schema import Recipe
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.speaker import Speaker

NAME = "probe"
EXAMPLE = "Example: rushkit probe --from cifar10 --limit 256"


@dataclass(frozen=True)
class Options:
    """Which images in which ball, and what the encoder is compared with."""

    supervised: Annotated[
        str | None,
        typer.Option(
            "--supervised",
            metavar="RUN",
            autocompletion=complete_runs,
            help="A run of finetune with finetune.freeze=none, to compare.",
        ),
    ] = None
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, max=MOST, help="Test images to look at; 0 for all.")
    ] = 256
    skip: Skip = None
    eps: Annotated[str, typer.Option("--eps", help="Radius of the ball in pixel units.")] = "8/255"
    norm: Annotated[str, typer.Option("--norm", help="The ball's norm: linf, l2 or l1.")] = "linf"
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, max=MOST, help="Steps of the ascent.")] = 20


@verb
def command(
    *,
    measured: Measured,
    options: Options,
    changes: Changes = None,
    computing: Computing,
    ranks: Ranks,
    output: Output,
) -> None:
    """How far an encoder's features move with the image, compared with a random and a supervised encoder of its shape.

    With --model the outputs of the module are measured, or the one that --output names, and no other encoder.
    """
    changes = computing.changes(changes)
    measured.check()
    if measured.fronts and measured.model is None:
        raise UsageError(f"{FRONT} stands before a classifier, and a probe looks at an encoder", "leave it out")
    if options.supervised is not None and measured.model is not None:
        raise UsageError(f"--supervised and {FLAG} do not go together", "a supervised encoder is of a run's shape")
    check_flags(changes, attack_flags(norm=options.norm.lower(), eps=options.eps))
    ranks.launch()
    from rushkit.evaluation.probe import Ball, probe
    from rushkit.recipe.attack_flags import change_attacks
    from rushkit.recipe.load import derive_recipe
    from rushkit.report.terminal.tables import record_table
    from rushkit.setup.model import recipe_of
    from rushkit.setup.start import start_run

    speaker = output.speaker()
    if measured.model is not None:
        recipe, checkpoint = resolve_classifier(measured, changes, speaker, purpose="features")
    else:
        checkpoint = _encoder(measured.source, changes, speaker)
        recipe = derive_recipe(recipe_of(checkpoint), changes)
    # The schema reads "8/255" and refuses anything that is no radius.
    kind, ball = None if recipe.attack else "pgd", {"norm": options.norm.lower(), "eps": options.eps}
    attack = change_attacks(recipe, kind, **ball).attack[0]
    supervised = None
    if measured.model is None:
        supervised = _supervised(options.supervised, recipe, runs_root(changes), speaker)
    with start_run(NAME, recipe, speaker, checkpoint) as run:
        results = probe(
            recipe,
            checkpoint,
            Ball(attack.norm, attack.eps, options.steps),
            run,
            options.limit,
            supervised,
            options.skip or 1,
        )
    output.result(results, record_table(results))
    speaker.say(f"run: {run.path}")


def _encoder(source: str | None, changes: list[str] | None, speaker: Speaker) -> Checkpoint:
    """Load a pre-trained encoder, or otherwise that of a fine-tuned model."""
    try:
        return open_source(source, changes, "pretrain", speaker)
    except UsageError:
        return open_source(source, changes, ("pretrain", "finetune"), speaker)


def _supervised(spec: str | None, recipe: Recipe, root: str, speaker: Speaker) -> Checkpoint | None:
    """Load the model to compare with. Where none is named, the speaker says how to make one."""
    from rushkit.evaluation.probe import how_to_supervise
    from rushkit.run.source import resolve_from

    if spec is None:
        speaker.say(f"no supervised encoder to compare with: {how_to_supervise(recipe)}")
        return None
    source = resolve_from(spec, root, "finetune")
    if source.run is not None and source.run.about.parent:
        speaker.warn(f"{source.run.path} began from {source.run.about.parent}, not from random weights")
    return source.load(warn=speaker.warn)
