"""What is said of a plan and of how its jobs stand: a line for each failure, and for results of another version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import rushkit
from rushkit.errors import shorten
from rushkit.study.plan import Plan
from rushkit.study.state import Standing, counts


def summary(plan: Plan, found: Mapping[str, Standing]) -> str:
    """Return how many jobs a study has, and in which states they are."""
    words = ", ".join(f"{number} {state}" for state, number in counts(found).items())
    return f"{plan.study}: {_jobs(len(found))}{f' ({words})' if words else ''}"


def cell_names(plan: Plan) -> dict[str, str]:
    """Return what each job is called: the row, the seed and the stage of the first cell that it fills."""
    names: dict[str, str] = {}
    for cell in plan.cells:
        names.setdefault(cell.job, f"{shorten(cell.row, 60)}, seed {cell.seed}, {cell.stage}")
    return names


def failure_lines(plan: Plan, found: Mapping[str, Standing], most: int) -> list[str]:
    """Return a line for each failed job, with its message and hint, up to a number of them."""
    names = cell_names(plan)
    failed = [(job, standing.failure) for job, standing in found.items() if standing.state == "failed"]
    lines = []
    for job, failure in failed[:most]:
        assert failure is not None
        hint = f" ({failure.hint})" if failure.hint else ""
        lines.append(f"failed: {names[job]}: {failure.message}{hint}")
    return lines + ([f"and {len(failed) - most} more; --json has all"] if len(failed) > most else [])


def version_lines(found: Mapping[str, Standing]) -> list[str]:
    """Return a line for each other version of rushkit that made results which are here."""
    others = Counter(standing.version for standing in found.values() if standing.is_of_another_version)
    return [
        f"{_jobs(number)} done by rushkit {shorten(version, 40)}, and this is {rushkit.__version__}: "
        "`rushkit study run --reuse` takes their results"
        for version, number in others.items()
    ]


def _jobs(number: int) -> str:
    return f"{number} job{'s' * (number != 1)}"
