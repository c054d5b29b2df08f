"""``rushkit predict``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.given import Measured
from rushkit.cli.options import Alpha, Changes, Computing, NormOfBall, Output, Ranks
from rushkit.cli.panels import CERTIFICATE
from rushkit.cli.source import check_flags, resolve_classifier
from rushkit.cli.verb import verb
from rushkit.errors import DataError, first_few

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override

NAME = "predict"
EXAMPLE = "Example: rushkit predict photo.png holiday/"
# Enough to tell the class. The recipe's certify.samples bound the radius closely, and take a CPU minutes for an image.
SAMPLES = 1000


@dataclass(frozen=True)
class Options:
    """Which certificate an image gets."""

    norm: NormOfBall = None
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", rich_help_panel=CERTIFICATE, help="Draws of noise an image.")
    ] = SAMPLES
    alpha: Alpha = None

    def keys(self) -> list[Override]:
        """Return the keys of the recipe that the flags set."""
        return [
            ("certify.norm", self.norm and self.norm.value, "--norm"),
            ("certify.samples", self.samples, "--samples"),
            ("certify.alpha", self.alpha, "--alpha"),
        ]


@verb
def command(
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    measured: Measured,
    options: Options,
    changes: Changes = None,
    computing: Computing,
    ranks: Ranks,
    output: Output,
) -> None:
    """Classify images: a class or "abstain", bounds on its probability, and the radius that is certified.

    An abstention is an answer. Exit code 1 if an image cannot be read; the others are classified.
    """
    changes = computing.changes(changes)
    measured.check()
    check_flags(changes, options.keys())
    ranks.launch()
    from rushkit.certification.predict import predict
    from rushkit.recipe.components import check_components
    from rushkit.report.terminal.tables import record_table

    speaker = output.speaker()
    recipe, checkpoint = resolve_classifier(measured, changes, speaker, options.keys(), "files")
    check_components(recipe)
    results = predict(recipe, checkpoint, images, speaker)
    output.result(results.to_table(), record_table(results))
    if unreadable := results.unreadable:
        count = len(unreadable) + len(results.predictions)
        names = first_few([entry.image for entry in unreadable], 5)
        raise DataError(
            f"{len(unreadable)} of {count} images cannot be read: {names}",
            "repair them, or leave them out; the others are classified above",
        )
