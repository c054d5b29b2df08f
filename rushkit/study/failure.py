"""Why the last attempt at a job failed: ``failure.json`` in the job's folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from rushkit import __version__
from rushkit.errors import RushkitError, shorten
from rushkit.files import write_error, write_json
from rushkit.paths import read_text
from rushkit.results.base import Number, Record
from rushkit.results.records import load_json
from rushkit.study.places import FAILURE_FILE

_MOST_BYTES = 1 << 16
_MOST_LETTERS = 4000


class Failure(Record):
    """A failed attempt.

    Attributes:
        type: The type of the exception; ``"Died"`` for a process that ended without a word.
        message: What went wrong.
        hint: What to do about it; empty where nothing is known.
        attempt: How many times the job had been claimed then.
        version: The version of rushkit that failed.
    """

    type: str
    message: str
    hint: str = ""
    attempt: Number = 1
    version: str = ""


def failure_of(error: BaseException, attempt: int) -> Failure:
    """Return the failure that an exception means."""
    if isinstance(error, RushkitError):
        message, hint = error.message, error.hint or ""
    else:
        message, hint = str(error) or type(error).__name__, ""
    return Failure(
        type=type(error).__name__,
        message=shorten(message, _MOST_LETTERS),
        hint=shorten(hint, _MOST_LETTERS),
        attempt=max(1, attempt),
        version=__version__,
    )


def write_failure(folder: Path, failure: Failure) -> None:
    """Write the failure of a job. Raises RushkitError if its folder cannot be written."""
    write_json(folder / FAILURE_FILE, failure.to_table())


def read_failure(folder: Path) -> Failure | None:
    """Return why a job's last attempt failed; None if it did not. A damaged file is a failure of unknown cause."""
    path = folder / FAILURE_FILE
    try:
        return Failure.model_validate(load_json(read_text(path, _MOST_BYTES)))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except (OSError, ValueError, RecursionError, ValidationError):
        return Failure(type="Unknown", message=f"{path} says why, and cannot be read")


def clear_failure(folder: Path) -> None:
    """Forget the last failure of a job. Raises RushkitError if its folder cannot be written."""
    try:
        with contextlib.suppress(FileNotFoundError):
            (folder / FAILURE_FILE).unlink()
    except OSError as error:
        raise write_error(folder / FAILURE_FILE, error) from error
