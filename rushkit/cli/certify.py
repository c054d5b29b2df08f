"""``rushkit certify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.given import Measured
from rushkit.cli.options import Alpha, Changes, Computing, NormOfBall, Output, ReplacedRanks, Resuming, Skip, Split
from rushkit.cli.panels import CERTIFICATE
from rushkit.cli.source import check_flags, resolve_classifier, runs_root
from rushkit.cli.verb import verb

if TYPE_CHECKING:
    from rushkit.recipe.overrides import Override
    from rushkit.results.certification import Certification
    from rushkit.run.folder import Run
    from rushkit.run.speaker import Speaker

NAME = "certify"
EXAMPLE = "Example: rushkit certify --samples 10000 --skip 20"


@dataclass(frozen=True)
class Options:
    """Which certificates, of which images."""

    norm: NormOfBall = None
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", rich_help_panel=CERTIFICATE, help="Draws of noise an image.")
    ] = None
    alpha: Alpha = None
    radius: Annotated[
        list[str] | None,
        typer.Option(
            "--radius",
            metavar="R",
            help="Test this radius and stop early; may be repeated. Default: find the largest radius of each image.",
        ),
    ] = None
    from_counts: Annotated[
        str | None,
        typer.Option(
            "--from-counts",
            metavar="RUN",
            autocompletion=complete_runs,
            help="Redo the radii from the counts of this run, without the network.",
        ),
    ] = None
    skip: Skip = None
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="At most N images; 0 for all.")] = None
    split: Split = None

    def keys(self) -> list[Override]:
        """Return the keys of the recipe that the flags set."""
        return [
            ("certify.norm", self.norm and self.norm.value, "--norm"),
            ("certify.samples", self.samples, "--samples"),
            ("certify.alpha", self.alpha, "--alpha"),
            ("certify.radii", self.radius or None, "--radius"),
            ("certify.skip", self.skip, "--skip"),
            ("certify.limit", self.limit, "--limit"),
            ("certify.split", self.split, "--split"),
        ]

    def flags(self) -> dict[str, object]:
        """Return the flags that only a new run takes."""
        return {"--from-counts": self.from_counts} | {flag: value for _, value, flag in self.keys()}


@verb
def command(
    *,
    measured: Measured,
    options: Options,
    changes: Changes = None,
    resuming: Resuming,
    computing: Computing,
    ranks: ReplacedRanks,
    output: Output,
) -> None:
    """Certified robustness of a fine-tuned model: radii within which no perturbation changes the smoothed class."""
    hint = "start a new run, or redo the radii of this one with --from-counts"
    changes = computing.changes(changes)
    resuming.check({**options.flags(), **measured.flags()}, hint)
    measured.check(resuming.resume)
    if not resuming.resume:
        check_flags(changes, options.keys())
    resuming, changes = ranks.go_on(resuming, changes)
    from rushkit.certification.resume import resume_certification
    from rushkit.report.terminal.tables import record_table
    from rushkit.setup.resume import Stopped, reopen

    speaker = output.speaker()
    if resuming.resume:
        measured.name()
        recipe, run = reopen(Stopped(NAME, runs_root(changes), resuming.run_folder), changes, speaker)
        with run:
            results = resume_certification(recipe, run)
            _draw(results, run)
    elif options.from_counts:
        results, run = _from_counts(options, measured, changes, speaker)
    else:
        results, run = _from_model(options, measured, changes, speaker)
    output.result(results, record_table(results))
    speaker.say(f"run: {run.path} (results.json, certificates.tsv, figures/certified.png)")


def _from_model(
    options: Options, measured: Measured, changes: list[str] | None, speaker: Speaker
) -> tuple[Certification, Run]:
    from rushkit.certification.certify import certify, procedure_of
    from rushkit.setup.start import start_run

    recipe, checkpoint = resolve_classifier(measured, changes, speaker, options.keys())
    # Before the folder is made, so that a mistake leaves none.
    procedure_of(recipe, checkpoint)
    with start_run(NAME, recipe, speaker, checkpoint) as run:
        results = certify(recipe, checkpoint, run)
        _draw(results, run)
    return results, run


def _from_counts(
    options: Options, measured: Measured, changes: list[str] | None, speaker: Speaker
) -> tuple[Certification, Run]:
    from rushkit.certification.certify import check_radii, procedure_of_counts, recertify, recipe_of_counts
    from rushkit.recipe.load import derive_recipe
    from rushkit.run.asked import CertifyAsked
    from rushkit.run.named import Wish, run_named
    from rushkit.setup.start import start_run

    made = (Wish((NAME,)), Wish((NAME,), ()))
    named, note = run_named(str(options.from_counts), runs_root(changes), made)
    if note:
        speaker.warn(note)
    counts = named.path
    named_model = measured.source is not None or measured.model is not None
    checkpoint = resolve_classifier(measured, changes, speaker)[1] if named_model else None
    before = recipe_of_counts(counts)
    recipe = derive_recipe(before, changes or [], flags=options.keys())
    if not options.radius:
        check_radii(before, recipe, counts)
    procedure_of_counts(recipe, counts, checkpoint)
    asked = CertifyAsked(counts=str(counts.resolve()))
    with start_run(NAME, recipe, speaker, str(counts), asked.facts()) as run:
        results = recertify(recipe, counts, checkpoint, run)
        _draw(results, run)
    return results, run


def _draw(results: Certification, run: Run) -> None:
    from rushkit.report.pictures.of_runs import draw_certification

    if run.writes:
        draw_certification(results, run.subfolder("figures"))
