"""``rushkit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Changes, Output
from rushkit.cli.source import runs_root
from rushkit.cli.verb import verb

NAME = "report"
EXAMPLE = "Example: rushkit report cifar10"


@verb
def command(
    *,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help=f"Runs of any stage; several are compared. {NAMES_A_RUN}. None: the newest model.",
            autocompletion=complete_runs,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write into; default: that of the first run.")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Show some images; needs the checkpoint and the data.")
    ] = True,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", metavar="DIR", help="Also write every chart as SVG and PDF, tables as LaTeX and CSV."
        ),
    ] = None,
    changes: Changes = None,
    output: Output,
) -> None:
    """One page on a model, with all that was measured of it: HTML, Markdown and JSON; several models side by side."""
    from rich.console import Group, RenderableType
    from rich.text import Text

    from rushkit.documents.models import WrittenReport
    from rushkit.report.make import families_of, folder_of
    from rushkit.report.summary import beside_headline
    from rushkit.report.terminal.tables import headlines_table, table_1_table
    from rushkit.report.write import write_report

    speaker = output.speaker()
    root = runs_root(changes)
    families = families_of(runs or [], root, speaker.warn)
    if not runs:
        speaker.say(f"the newest model: {families[0].model.path}")
    folder = out or folder_of(families[0], root)
    report, paths = write_report(families, folder, images, figures)
    # The page in its three forms, then the files of the figures.
    page, drawn = paths[:3], paths[3:]
    written = {path.suffix.removeprefix("."): str(path) for path in page}
    lines = [f"{model.name}: {line}" for model in report.models for line in beside_headline(model)]
    lines += [f"written: {path}" for path in paths]
    shown: list[RenderableType] = [headlines_table(report)]
    if (table := table_1_table(report)) is not None:
        shown.append(table)
    shown.append(Text("\n".join(lines)))
    output.result(WrittenReport(report, written, list(map(str, drawn))).plain(), Group(*shown))
