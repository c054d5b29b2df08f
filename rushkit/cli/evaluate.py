"""``rushkit evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.given import Measured
from rushkit.cli.options import MOST, Changes, Computing, Output, Ranks, Resuming, Samples, Skip, Split, numbers
from rushkit.cli.source import check_flags, resolve_classifier, runs_root
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, shorten

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override
    from rushkit.recipe.schema import Recipe
    from rushkit.results.evaluation import Evaluation
    from rushkit.run.checkpoint import Checkpoint
    from rushkit.run.folder import Run
    from rushkit.run.speaker import Speaker

NAME = "evaluate"
EXAMPLE = "Example: rushkit evaluate --from cifar10 --samples 1,64"


@dataclass(frozen=True)
class Options:
    """The images, the draws of each, and what is done to the images."""

    samples: Samples = None
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, max=MOST, help="At most N images; 0 for all.")
    ] = None
    skip: Skip = None
    split: Split = None
    corruptions: Annotated[
        str | None,
        typer.Option(
            "--corruptions",
            metavar="all|NAME,...",
            help="Common corruptions too: all, or such as fog,snow.",
        ),
    ] = None
    strengths: Annotated[
        str | None,
        typer.Option("--strengths", metavar="S,...", help="Strengths of the corruptions; default: 1,2,3,4,5."),
    ] = None
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            autocompletion=complete_runs,
            help="An evaluation under the same corruptions, of which the mean corruption error (mCE) is a share.",
        ),
    ] = None
    shift: Annotated[
        bool, typer.Option("--shift", help="The worst rotation and translation of each image too, on a grid.")
    ] = False
    rotation: Annotated[
        str | None, typer.Option("--rotation", metavar="DEGREES", help="Largest rotation of the grid; default: 30.")
    ] = None
    translation: Annotated[
        str | None,
        typer.Option(
            "--translation", metavar="PIXELS", help="Largest translation of the grid; default: 3/32 of the side."
        ),
    ] = None
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid", metavar="R,X,Y", help="Numbers of rotations and of translations along each axis; default: 31,5,5."
        ),
    ] = None

    def keys(self) -> list[Override]:
        """Return the keys of the recipe that the flags change; None changes nothing."""
        return [
            ("evaluate.samples", numbers(self.samples, "--samples"), "--samples"),
            ("evaluate.limit", self.limit, "--limit"),
            ("evaluate.skip", self.skip, "--skip"),
            ("evaluate.split", self.split, "--split"),
            ("evaluate.corruptions", _kinds(self.corruptions), "--corruptions"),
            ("evaluate.strengths", numbers(self.strengths, "--strengths"), "--strengths"),
            ("evaluate.shift", self.shift or None, "--shift"),
            ("evaluate.rotation", self.rotation, "--rotation"),
            ("evaluate.translation", self.translation, "--translation"),
            ("evaluate.grid", numbers(self.grid, "--grid"), "--grid"),
        ]

    def flags(self) -> dict[str, object]:
        """Return the flags that only a new run takes."""
        return {"--baseline": self.baseline, **{flag: value for _, value, flag in self.keys()}}

    def check(self, recipe: Recipe) -> None:
        """Raise UsageError for a flag on corruptions or shifts that are not measured."""
        needs = {
            "--corruptions all": (bool(recipe.evaluate.corruptions), ("--strengths", "--baseline")),
            "--shift": (recipe.evaluate.shift, ("--rotation", "--translation", "--grid")),
        }
        given = [flag for flag, value in self.flags().items() if value is not None]
        for needed, (measured, flags) in needs.items():
            if not measured and (alone := next((flag for flag in given if flag in flags), None)):
                raise UsageError(f"{alone} without {needed.partition(' ')[0]}", f"add {needed}, or leave {alone} out")


def _kinds(text: str | None) -> list[str] | None:
    """``"fog,snow"`` -> ["fog", "snow"]. Raises UsageError for an empty name."""
    if text is None:
        return None
    names = [name.strip().lower() for name in text.split(",")]
    if not all(names):
        raise UsageError(
            f"--corruptions {shorten(text)!r} has an empty name",
            "for example --corruptions all, or --corruptions fog,snow",
        )
    return names


@verb
def command(
    *,
    measured: Measured,
    options: Options,
    changes: Changes = None,
    resuming: Resuming,
    computing: Computing,
    ranks: Ranks,
    output: Output,
) -> None:
    """Standard accuracy of a fine-tuned model for each number of noise draws, by vote and by mean."""
    changes = computing.changes(changes)
    resuming.check({**options.flags(), **measured.flags()})
    measured.check(resuming.resume)
    if not resuming.resume:
        check_flags(changes, options.keys())
    ranks.launch()
    from rushkit.evaluation.evaluate import evaluate
    from rushkit.report.terminal.tables import record_table

    speaker = output.speaker()
    if resuming.resume:
        recipe, checkpoint, run, baseline = _stopped(measured, resuming, changes, speaker)
    else:
        recipe, checkpoint, run, baseline = _new(measured, options, changes, speaker)
    with run:
        results = evaluate(recipe, checkpoint, run, baseline)
    output.result(results, record_table(results))
    speaker.say(f"run: {run.path}")


def _new(
    measured: Measured, options: Options, changes: list[str] | None, speaker: Speaker
) -> tuple[Recipe, Checkpoint, Run, Evaluation | None]:
    from rushkit.evaluation.baseline import baseline_of, evaluation_at
    from rushkit.run.asked import EvaluationAsked
    from rushkit.run.named import Wish, run_named
    from rushkit.setup.start import start_run

    recipe, checkpoint = resolve_classifier(measured, changes, speaker, options.keys())
    # Before the folder is made, so that a mistake leaves none.
    options.check(recipe)
    baseline = None
    if options.baseline is not None:
        named, note = run_named(options.baseline, runs_root(changes), (Wish((NAME,)), Wish((NAME,), ())))
        if note:
            speaker.warn(note)
        baseline = evaluation_at(named.path)
        baseline_of(baseline, recipe)
    path = None if baseline is None else str(Path(baseline.run).absolute())
    return (
        recipe,
        checkpoint,
        start_run(NAME, recipe, speaker, checkpoint, EvaluationAsked(baseline=path).facts()),
        baseline,
    )


def _stopped(
    measured: Measured, resuming: Resuming, changes: list[str] | None, speaker: Speaker
) -> tuple[Recipe, Checkpoint, Run, Evaluation | None]:
    from rushkit.evaluation.baseline import evaluation_at
    from rushkit.run.asked import EvaluationAsked
    from rushkit.setup.resume import Stopped, measured_checkpoint, reopen

    measured.name()
    recipe, run = reopen(Stopped(NAME, runs_root(changes), resuming.run_folder), changes, speaker)
    checkpoint, asked = measured_checkpoint(recipe, run), EvaluationAsked.of(run)
    return recipe, checkpoint, run, None if asked.baseline is None else evaluation_at(Path(asked.baseline))
