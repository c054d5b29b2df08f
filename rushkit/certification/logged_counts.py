"""The counts of a run of ``rushkit certify``, read back and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rushkit.certification.counts import COUNTS_FILE
from rushkit.certification.log_checks import check_counts
from rushkit.errors import UsageError
from rushkit.paths import read_file
from rushkit.results.records import RESULTS_FILE
from rushkit.run.log import damaged, read_log

# Where results.json says how many lines the counts have.
SEAL = "counts"


def read_counts(run_folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The subject, the lines and the seal of a run's counts; a torn last line is left out, and the file as it is.

    Raises:
        UsageError: the run has no counts.
        RushkitError: the file is damaged, or shorter than when the run finished.
    """
    path = run_folder / "counts" / COUNTS_FILE
    try:
        subject, records, seal = read_log(path, check_counts)
    except OSError as error:
        raise UsageError(f"{run_folder} has no counts of a certification", "name a run of `rushkit certify`") from error
    sealed = _sealed(run_folder)
    if sealed is not None and sealed != seal:
        raise damaged(path, f"it has {seal['lines']} lines, and not the {sealed.get('lines')} of {RESULTS_FILE}")
    return subject, records, seal


def _sealed(run_folder: Path) -> dict[str, Any] | None:
    """What results.json says of the counts; None where the run has not come to results."""
    try:
        sealed = json.loads(read_file(run_folder / RESULTS_FILE))[SEAL]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return sealed if isinstance(sealed, dict) else None
