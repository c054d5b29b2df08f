"""``rushkit predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.certify import Alpha, Norm
from rushkit.cli.options import Changes, Debug, From, Json, Nproc, Output, Quiet, Verbose, resolve_classifier
from rushkit.distributed.launch import launch
from rushkit.errors import DataError, first_few

NAME = "predict"
EXAMPLE = "Example: rushkit predict photo.png holiday/ --norm l1"
# Enough for a class; certify.samples, which bound a radius as closely as they can, take a CPU minutes an image.
SAMPLES = 1000


def command(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    source: From = None,
    norm: Norm = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Draws of noise an image.")] = SAMPLES,
    alpha: Alpha = None,
    changes: Changes = None,
    nproc: Nproc = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Classify images: a class or "abstain", bounds on its probability, and the radius that is certified.

    An abstention is an answer. Exit code 1 if an image cannot be read; the others are classified.
    """
    launch(nproc, context)
    from rushkit.certification.predict import predict
    from rushkit.recipe.components import check_components
    from rushkit.report.certified import prediction_table

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    flags = [
        ("certify.norm", norm and norm.value, "--norm"),
        ("certify.samples", samples, "--samples"),
        ("certify.alpha", alpha, "--alpha"),
    ]
    recipe, checkpoint = resolve_classifier(source, changes, speaker, flags)
    check_components(recipe)
    results = predict(recipe, checkpoint, images, speaker)
    output.result(results, prediction_table(results))
    if unreadable := results["unreadable"]:
        count = len(unreadable) + len(results["predictions"])
        named = first_few([each["image"] for each in unreadable], 5)
        raise DataError(
            f"{len(unreadable)} of {count} images cannot be read: {named}",
            "repair them, or leave them out; the others are classified above",
        )
