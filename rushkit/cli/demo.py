"""``rushkit demo``."""

from __future__ import annotations

from typing import Any

from rushkit.cli.options import Changes, Debug, Json, Output, Quiet, Verbose

NAME = "demo"
EXAMPLE = "Example: rushkit demo"


def command(
    changes: Changes = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False, debug: Debug = False
) -> None:
    """The whole method on the embedded digits, in minutes on two cores: pre-train, fine-tune, evaluate, attack."""
    from rich.console import Group

    from rushkit.errors import CheckpointError
    from rushkit.recipe.load import load_recipe
    from rushkit.report.tables import attack_table, evaluation_table
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.folder import Run
    from rushkit.stages.attack import attack
    from rushkit.stages.evaluate import evaluate
    from rushkit.stages.finetune import finetune
    from rushkit.stages.pretrain import pretrain
    from rushkit.stages.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    recipe = load_recipe("digits", changes or [])
    paths: dict[str, str] = {}

    def begin(verb: str, parent: Checkpoint | None) -> Run:
        run = start_run(verb, recipe, speaker, parent=str(parent.path) if parent else None)
        paths[verb] = str(run.path)
        return run

    def saved(run: Run) -> Checkpoint:
        found = run.checkpoints.load_latest()
        if found is None:
            raise CheckpointError(f"{run.path} has no checkpoint", "run the demo again")
        return found

    speaker.say("1/4 pre-train an encoder without labels, with noise on one view")
    with begin("pretrain", None) as run:
        pretrain(recipe, run)
    encoder = saved(run)
    speaker.say("2/4 fine-tune a linear head under noise")
    with begin("finetune", encoder) as run:
        finetune(recipe, encoder, run)
    model = saved(run)
    speaker.say("3/4 evaluate: one noisy look, and a vote of many")
    with begin("evaluate", model) as run:
        accuracy = evaluate(recipe, model, run)
    speaker.say("4/4 attack it, as the paper did and as strictly as we can")
    with begin("attack", model) as run:
        robustness = attack(recipe, model, run)
    results: dict[str, Any] = {"evaluate": accuracy, "attack": robustness, "runs": paths}
    written = "\n".join(f"{verb}: {path}" for verb, path in paths.items())
    output.result(results, Group(evaluation_table(accuracy), attack_table(robustness), f"\nwritten:\n{written}"))
