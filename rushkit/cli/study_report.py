"""``rushkit study report``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.options import Json, Output, RunsDir

NAME = "report"
EXAMPLE = "Example: rushkit study report digits --format html --format tex"


class Format(StrEnum):
    """The files that a report is written as."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"
    CSV = "csv"
    LATEX = "tex"


def command(
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a TOML file.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder to write into; default: studies/NAME in the folder of runs."),
    ] = None,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="A format to write; may be repeated. Default: all.")
    ] = None,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """The table of a study: every row over its seeds, with intervals, published figures and differences."""
    from rich.console import Group
    from rich.text import Text

    from rushkit.documents.studies import WrittenStudyReport
    from rushkit.report.study.make import study_report
    from rushkit.report.study.terminal import study_tables
    from rushkit.report.study.write import FORMATS, write_study
    from rushkit.study.places import Places

    output = Output(json)
    report = study_report(study, runs_dir, output.speaker().warn)
    folder = out or Places(Path(runs_dir)).study_folder(report.study)
    asked = [kind for kind in FORMATS if not formats or kind in [one.value for one in formats]]
    paths = write_study(report, folder, asked)
    written = {path.suffix.removeprefix("."): str(path) for path in paths}
    lines = Text("\n".join(f"written: {path}" for path in paths))
    output.result(WrittenStudyReport(report, written).plain(), Group(study_tables(report), lines))
