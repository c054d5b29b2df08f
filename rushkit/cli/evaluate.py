"""``rushkit evaluate``."""

from __future__ import annotations

import typer

from rushkit.cli.options import (
    Changes,
    Debug,
    From,
    Json,
    Nproc,
    Output,
    Quiet,
    Samples,
    Verbose,
    numbers,
    resolve_classifier,
)
from rushkit.distributed.launch import launch

NAME = "evaluate"
EXAMPLE = "Example: rushkit evaluate --from cifar10 --samples 1,64"


def command(
    context: typer.Context,
    source: From = None,
    samples: Samples = None,
    changes: Changes = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Standard accuracy of a fine-tuned model under each number of noise draws, by vote and by mean."""
    launch(nproc, context)
    from rushkit.evaluation.evaluate import evaluate
    from rushkit.report.tables import evaluation_table
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    flags = [("evaluate.samples", numbers(samples, "--samples"), "--samples")]
    recipe, checkpoint = resolve_classifier(source, changes, speaker, flags)
    with start_run("evaluate", recipe, speaker, parent=str(checkpoint.path)) as run:
        results = evaluate(recipe, checkpoint, run)
    output.result(results, evaluation_table(results))
    speaker.say(f"run: {run.path}")
