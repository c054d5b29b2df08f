"""``rushkit certify``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rushkit.cli.options import (
    Changes,
    Debug,
    From,
    Json,
    Nproc,
    Output,
    Quiet,
    Resume,
    RunFolder,
    Verbose,
    check_resume,
    resolve_classifier,
    runs_root,
)
from rushkit.distributed.launch import launch
from rushkit.paths import is_folder

if TYPE_CHECKING:
    from rushkit.run.folder import Run

NAME = "certify"
EXAMPLE = "Example: rushkit certify --norm l1 --samples 10000 --skip 20"


class NormName(StrEnum):
    """The norm of the ball."""

    L1 = "l1"
    L2 = "l2"
    LINF = "linf"


Norm = Annotated[NormName | None, typer.Option("--norm", help="The norm of the ball; else the recipe's (l2).")]
Alpha = Annotated[
    float | None, typer.Option("--alpha", help="Probability that an image's certificate is false; else 0.001.")
]
Draws = Annotated[int | None, typer.Option("--samples", metavar="N", help="Draws of noise an image.")]


def command(
    context: typer.Context,
    source: From = None,
    norm: Norm = None,
    samples: Draws = None,
    alpha: Alpha = None,
    radius: Annotated[
        list[str] | None,
        typer.Option(
            "--radius", metavar="R", help="Test this radius and stop early; may be given again. Else every radius."
        ),
    ] = None,
    from_counts: Annotated[
        str | None,
        typer.Option(
            "--from-counts", metavar="RUN", help="Redo the radii from the counts of this run, without the network."
        ),
    ] = None,
    skip: Annotated[int | None, typer.Option("--skip", metavar="K", help="Only every K-th image.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="At most N images; 0 for all.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Which images; else test.")] = None,
    changes: Changes = None,
    resume: Resume = False,
    run_folder: RunFolder = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Certified robustness of a fine-tuned model: radii within which no perturbation changes the smoothed class."""
    flags = [
        ("certify.norm", norm and norm.value, "--norm"),
        ("certify.samples", samples, "--samples"),
        ("certify.alpha", alpha, "--alpha"),
        ("certify.radii", radius or None, "--radius"),
        ("certify.skip", skip, "--skip"),
        ("certify.limit", limit, "--limit"),
        ("certify.split", split, "--split"),
    ]
    new = {"--from-counts": from_counts, "--from": source} | {flag: value for _, value, flag in flags}
    check_resume(resume, run_folder, new, "start a new run, or redo the radii of this one with --from-counts")
    launch(nproc, context)
    from rushkit.certification.certify import certify, claim_of, claim_of_counts, recertify, recipe_of_counts
    from rushkit.cli.training import parent_checkpoint, reopen
    from rushkit.recipe.load import derive_recipe
    from rushkit.setup.start import start_run

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    if resume:
        recipe, run = reopen("certify", None, run_folder, changes, runs_root(changes), speaker)
        with run:
            if "counts" in run.data:
                results = recertify(recipe, Path(str(run.data["counts"])), None, run)
            else:
                results = certify(recipe, parent_checkpoint(run), run)
            _draw(results, run)
    elif from_counts:
        counts = _run_path(from_counts, runs_root(changes))
        checkpoint = None if source is None else resolve_classifier(source, changes, speaker)[1]
        stored = recipe_of_counts(counts)
        recipe = derive_recipe(stored, changes or [], flags=flags)
        claim_of_counts(recipe, counts, checkpoint)
        with start_run("certify", recipe, speaker, parent=str(counts), asked={"counts": str(counts.resolve())}) as run:
            results = recertify(recipe, counts, checkpoint, run)
            _draw(results, run)
    else:
        recipe, checkpoint = resolve_classifier(source, changes, speaker, flags)
        # Mistakes show before there is a folder for them.
        claim_of(recipe, checkpoint)
        with start_run("certify", recipe, speaker, parent=str(checkpoint.path)) as run:
            results = certify(recipe, checkpoint, run)
            _draw(results, run)

    from rushkit.report.certified import certified_table

    output.result(results, certified_table(results))
    speaker.say(f"run: {run.path} (results.json, certificates.tsv, figures/certified.png)")


def _draw(results: dict[str, Any], run: Run) -> None:
    from rushkit.report.figures import certified_curve, save_figure

    if run.writes:
        save_figure(certified_curve(results), run.subfolder("figures"), "certified")


def _run_path(spec: str, root: str) -> Path:
    path = Path(spec)
    return path if is_folder(path) or not is_folder(Path(root) / spec) else Path(root) / spec
