"""The counts of a run of ``rushkit certify``, read back and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rushkit.certification.log_checks import check_counts, parse_lines, parse_subject
from rushkit.data.memory import Split
from rushkit.errors import DataError, UsageError
from rushkit.results.certification import Certification, Seal
from rushkit.results.logs import CountsLine, CountsSubject
from rushkit.results.records import RESULTS_FILE, read
from rushkit.run.log import damaged, read_log

COUNTS_FILE = "certify.jsonl"


@dataclass(frozen=True)
class LoggedCounts:
    """The counts of a certification.

    Attributes:
        subject: Everything that the counts depend on.
        lines: The lines of the log.
        seal: Number of lines in the file, and the hash of the last one.
    """

    subject: CountsSubject
    lines: list[CountsLine]
    seal: Seal


def read_counts(run_folder: Path) -> LoggedCounts:
    """Read the counts of a run; an incomplete last line is ignored, and the file is left unchanged.

    Raises:
        UsageError: the run has no counts.
        RushkitError: the file is damaged, or shorter than when the run finished.
    """
    path = run_folder / "counts" / COUNTS_FILE
    try:
        subject, lines, seal = read_log(path, check_counts)
    except OSError as error:
        raise UsageError(f"{run_folder} has no counts of a certification", "name a run of `rushkit certify`") from error
    counts = LoggedCounts(parse_subject(subject), parse_lines(lines), Seal.model_validate(seal))
    sealed = _sealed(run_folder)
    if sealed is not None and sealed != counts.seal:
        raise damaged(path, f"it has {counts.seal.lines} lines, and not the {sealed.lines} of {RESULTS_FILE}")
    return counts


def images_hash(indices: Tensor, labels: Tensor, split: Split) -> str:
    """Return the hash by which a log knows the images that its counts are of.

    Args:
        indices: (N,) int64, the images' indices, rising.
        labels: (N,) int64.
        split: The N images, in the same order.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in (indices, labels, split.digests()):
        digest.update(array.contiguous().numpy().data)
    return digest.hexdigest()


def _sealed(run_folder: Path) -> Seal | None:
    """Return the seal of the counts in results.json; None if the run has no results yet."""
    try:
        results = read(run_folder)
    except DataError:
        return None
    return results.counts if isinstance(results, Certification) else None
