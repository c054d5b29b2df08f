"""``rushkit evaluate``."""

from __future__ import annotations

from rushkit.cli.options import Changes, From, Output, Ranks, Samples, numbers
from rushkit.cli.source import check_flags, resolve_classifier
from rushkit.cli.verb import verb

NAME = "evaluate"
EXAMPLE = "Example: rushkit evaluate --from cifar10 --samples 1,64"


@verb
def command(
    *, source: From = None, samples: Samples = None, changes: Changes = None, ranks: Ranks, output: Output
) -> None:
    """Standard accuracy of a fine-tuned model under each number of noise draws, by vote and by mean."""
    flags = [("evaluate.samples", numbers(samples, "--samples"), "--samples")]
    check_flags(changes, flags)
    ranks.launch()
    from rushkit.evaluation.evaluate import evaluate
    from rushkit.report.terminal.tables import evaluation_table
    from rushkit.setup.start import start_run

    speaker = output.speaker()
    recipe, checkpoint = resolve_classifier(source, changes, speaker, flags)
    with start_run(NAME, recipe, speaker, parent=str(checkpoint.path)) as run:
        results = evaluate(recipe, checkpoint, run)
    output.result(results, evaluation_table(results))
    speaker.say(f"run: {run.path}")
