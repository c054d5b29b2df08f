"""Make the table of a study from its name: the Python interface of ``rushkit study report``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rushkit.errors import DataError
from rushkit.paths import read_file
from rushkit.recipe.load import default_runs_dir
from rushkit.report.study.collect import Done, Table, collect
from rushkit.report.study.figures import StudyReport
from rushkit.results import Results
from rushkit.results.published import published_rows
from rushkit.results.records import MAX_BYTES, RESULTS_FILE, parse
from rushkit.study.load import load_study
from rushkit.study.make import make_plan
from rushkit.study.state import State, standings

# To a reader of a table it is the same whether nothing or another job is in the way.
_WORDS: Mapping[State, str] = {"ready": "not run", "waiting": "not run"}


def study_report(
    study: str, runs: str | Path | None = None, warn: Callable[[str], None] = lambda _: None
) -> StudyReport:
    """Return the figures of a study's table: what is done of it, and how the rest stands.

    Example::

        report = study_report("table1-digits")
        print(report.lines[0].row, report.lines[0].cells[0].mean)

    Args:
        study: A study's name, or the path of its file.
        runs: The folder of runs; None: ``$RUSHKIT_RUNS``, else ``runs``.
        warn: Told of results that cannot be read, which count as missing.

    Raises:
        UsageError: every error of the study at once, each with file and line.
    """
    root = Path(runs or default_runs_dir())
    asked = load_study(study)
    plan = make_plan(asked, root)
    done: dict[str, Done] = {}
    states: dict[str, str] = {}
    versions: Counter[str] = Counter()
    for job, standing in standings(plan, root).items():
        states[job] = _WORDS.get(standing.state, standing.state)
        versions[standing.version] += standing.is_of_another_version
        if standing.results is None:
            continue
        try:
            done[job] = Done(_read(standing.results), str(standing.results))
        except DataError as error:
            warn(str(error))
            states[job] = "damaged"
    known = {row.key: row for row in published_rows()}
    published = {label: [known[key] for key in keys] for label, keys in plan.rows.items()}
    report = collect(Table(plan, published, asked.asked.report.by_norm, done, states))
    others = (f"{count} of the jobs were done by rushkit {version}" for version, count in versions.items() if count)
    return replace(report, notes=(*report.notes, *others))


def _read(place: Path) -> Results:
    """Return the results in a run folder, or in a kept file."""
    file = place / RESULTS_FILE if place.is_dir() else place
    try:
        return parse(read_file(file, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file} is damaged: {error}", "put back the file as it was written, or delete it and run the job"
        ) from error
