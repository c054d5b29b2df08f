"""``rushkit demo``."""

from __future__ import annotations

from pathlib import Path

from rushkit.cli.options import Changes, Computing, Output
from rushkit.cli.verb import verb
from rushkit.place import take_place

NAME = "demo"
EXAMPLE = "Example: rushkit demo"
# A certificate in about a minute.
CERTIFY = ("--norm", "l1", "--samples", 1000, "--limit", 50)


@verb
def command(*, changes: Changes = None, computing: Computing, output: Output) -> None:
    """The whole method on the embedded digits, in minutes on two cores: train, evaluate, attack, report."""
    from rich.console import Group

    from rushkit.documents.models import Demo
    from rushkit.errors import CheckpointError, shell_line
    from rushkit.evaluation.evaluate import evaluate
    from rushkit.recipe.load import load_recipe
    from rushkit.report.families import gather
    from rushkit.report.terminal.found import found_words
    from rushkit.report.terminal.tables import record_table
    from rushkit.report.write import write_report
    from rushkit.robustness.attack import attack
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.folder import Run
    from rushkit.run.named import run_named
    from rushkit.setup.start import start_run
    from rushkit.training.finetune import finetune
    from rushkit.training.pretrain import pretrain

    take_place()
    speaker = output.speaker()
    recipe = load_recipe("digits", computing.changes(changes))
    paths: dict[str, str] = {}

    def begin(verb: str, parent: Checkpoint | None) -> Run:
        run = start_run(verb, recipe, speaker, parent=str(parent.path) if parent else None)
        paths[verb] = str(run.path)
        return run

    def saved(run: Run) -> Checkpoint:
        checkpoint = run.checkpoints.load_latest()
        if checkpoint is None:
            raise CheckpointError(f"{run.path} has no checkpoint", "run the demo again")
        return checkpoint

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
    # Kept, so that the report can show some.
    with begin("attack", model) as run:
        robustness = attack(recipe, model, run, save=True)
    _, files = write_report([gather(run_named(paths["finetune"], recipe.system.runs_dir)[0])], Path(paths["finetune"]))
    results = Demo(accuracy, robustness, paths, files[0])
    written = [f"{verb}: {path}" for verb, path in paths.items()]
    following = shell_line("rushkit", "certify", "--from", paths["finetune"], *CERTIFY)
    ending = ["", *found_words(accuracy, robustness), f"open: {files[0]}", f"next: {following}"]
    tables = record_table(accuracy), record_table(robustness)
    output.result(results.plain(), Group(*tables, "\n".join(["\nwritten:", *written, *ending])))
