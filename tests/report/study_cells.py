"""A study whose jobs are done, or not, as a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rushkit.report.study.collect import Done, Table, collect
from rushkit.report.study.figures import StudyReport
from rushkit.results import Results
from rushkit.results.published import published_rows
from rushkit.study.job import Job, Stage
from rushkit.study.plan import Cell, Plan, Planned

COMMANDS: Mapping[str, Stage] = {"evaluate": "evaluate", "certify": "certify", "finetune": "finetune"}
# Row, seed, stage -> results, or a word for how the job stands.
Cells = Mapping[tuple[str, int, str], Results | str]


def table_of(cells: Cells, published: Mapping[str, Sequence[str]] | None = None, **radii: Sequence[float]) -> Table:
    jobs, done, states, places = {}, {}, {}, []
    for number, ((row, seed, stage), results) in enumerate(cells.items()):
        name = f"{number:064x}"
        jobs[name] = Planned(name, Job(stage=COMMANDS.get(stage, "attack"), recipe={}))
        places.append(Cell(row, seed, stage, name))
        if isinstance(results, str):
            states[name] = results
        else:
            done[name] = Done(results, f"runs/job-{name[:16]}")
    known = {row.key: row for row in published_rows()}
    labels = dict.fromkeys([row for row, _, _ in cells] + list(published or {}))
    beside = {label: [known[key] for key in (published or {}).get(label, ())] for label in labels}
    return Table(Plan("mine", jobs, tuple(places), title="My study"), beside, radii, done, states)


def report_of(cells: Cells, **more: Sequence[float]) -> StudyReport:
    return collect(table_of(cells, **more))
