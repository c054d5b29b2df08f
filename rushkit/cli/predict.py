"""``rushkit predict``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.certify import Alpha, Norm
from rushkit.cli.options import Changes, Debug, From, Json, Output, Quiet, Verbose, resolve_classifier

NAME = "predict"
EXAMPLE = "Example: rushkit predict photo.png holiday/ --norm l1"
# Enough for a class; certify.samples, which bound a radius as closely as they can, take a CPU minutes an image.
SAMPLES = 1000


def command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    source: From = None,
    norm: Norm = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Draws of noise an image.")] = SAMPLES,
    alpha: Alpha = None,
    changes: Changes = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Classify images: a class or "abstain", bounds on its probability, and the radius that is certified."""
    from rushkit.recipe.components import check_components
    from rushkit.report.certified import prediction_table
    from rushkit.stages.predict import predict

    output = Output(json, quiet, verbose)
    speaker = output.speaker()
    wanted = {"certify.norm": norm and norm.value, "certify.samples": samples, "certify.alpha": alpha}
    recipe, checkpoint = resolve_classifier(source, changes, speaker, **wanted)
    check_components(recipe)
    results = predict(recipe, checkpoint, images, speaker)
    output.result(results, prediction_table(results))
