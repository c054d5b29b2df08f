"""``rushkit evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.given import Measured
from rushkit.cli.options import MOST, Changes, Computing, Output, Ranks, Samples, Skip, Split, numbers
from rushkit.cli.source import check_flags, resolve_classifier
from rushkit.cli.verb import verb

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override

NAME = "evaluate"
EXAMPLE = "Example: rushkit evaluate --from cifar10 --samples 1,64"


@dataclass(frozen=True)
class Options:
    """The images, and the draws of each."""

    samples: Samples = None
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, max=MOST, help="At most N images; 0 for all.")
    ] = None
    skip: Skip = None
    split: Split = None


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
    """Standard accuracy of a fine-tuned model for each number of noise draws, by vote and by mean."""
    changes = computing.changes(changes)
    flags: list[Override] = [
        ("evaluate.samples", numbers(options.samples, "--samples"), "--samples"),
        ("evaluate.limit", options.limit, "--limit"),
        ("evaluate.skip", options.skip, "--skip"),
        ("evaluate.split", options.split, "--split"),
    ]
    measured.check()
    check_flags(changes, flags)
    ranks.launch()
    from rushkit.evaluation.evaluate import evaluate
    from rushkit.report.terminal.tables import evaluation_table
    from rushkit.setup.start import start_run

    speaker = output.speaker()
    recipe, checkpoint = resolve_classifier(measured, changes, speaker, flags)
    with start_run(NAME, recipe, speaker, checkpoint) as run:
        results = evaluate(recipe, checkpoint, run)
    output.result(results, evaluation_table(results))
    speaker.say(f"run: {run.path}")
