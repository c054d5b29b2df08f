"""The certificates of a run made again from its counts, with the statistics of rushkit, and where they differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rushkit.certification.certify import procedure_of_counts
from rushkit.certification.conclude import certification_of
from rushkit.certification.logged_counts import COUNTS_FILE, LoggedCounts
from rushkit.certification.procedure import Conclusion, Procedure
from rushkit.errors import DataError, UsageError
from rushkit.files import JSON
from rushkit.paths import is_file, open_file, read_text, reason
from rushkit.recipe.load import read_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Certification
from rushkit.results.records import load_json, read
from rushkit.run.names import COUNTS, RECIPE_FILE

# Where each of these figures lies, float64 of another machine may end in other digits.
_SLACK = 1e-9
_MOST_RECIPE, _MOST_SUBJECT = 1 << 20, 1 << 22
# More bytes, radii of all images, and images of a split than a certification has.
_MOST_BYTES, _MOST_RADII, _MOST_IMAGES = 1 << 30, 10**7, 10**7
_AGAIN = "get the whole folder again"
# What does not follow from the counts: texts, times, the folder, and what stood beside them.
_FREE = {"stage", "job", "recipe", "source", "covers", "assumptions", "empirical", "checks", "seconds"}


@dataclass(frozen=True)
class Recount:
    """The certificates that follow from the counts of a run.

    Attributes:
        procedure: The procedure of the run's recipe.
        logged: The counts.
        conclusion: What the procedure concludes from them.
        results: The results as they follow from that.
    """

    procedure: Procedure
    logged: LoggedCounts
    conclusion: Conclusion
    results: Certification


def claimed_certificates(folder: Path) -> tuple[Certification, Recipe]:
    """Return the results and the recipe of a finished certification, as its folder states them.

    Raises:
        UsageError: the folder is that of no finished certification.
        DataError: results.json is damaged.
    """
    claimed = read(folder)
    if not isinstance(claimed, Certification):
        raise UsageError(f"{folder} has no results of a certification", "name a finished run of `rushkit certify`")
    path = folder / RECIPE_FILE
    try:
        return claimed, read_recipe(read_text(path, _MOST_RECIPE), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", _AGAIN) from error


def recount(folder: Path, claimed: Certification, recipe: Recipe) -> Recount:
    """Make the certificates of a run again from its counts.

    Args:
        folder: The run's folder, or a copy; counts that lie with another run are looked for where the results say.
        claimed: Its results.
        recipe: Its recipe.

    Raises:
        RushkitError: the counts are missing, damaged, impossible, or not those of the recipe.
    """
    counts = folder if is_file(folder / COUNTS / COUNTS_FILE) else Path(claimed.source)
    _check_sizes(counts / COUNTS / COUNTS_FILE, claimed, recipe)
    procedure, logged = procedure_of_counts(recipe, counts)
    conclusion = procedure.conclude(logged.lines)
    results = certification_of(recipe, procedure, logged, conclusion, [], claimed.source)
    return Recount(procedure, logged, conclusion, results)


def _check_sizes(path: Path, claimed: Certification, recipe: Recipe) -> None:
    """Raise DataError for a log that would take far more memory than what it certifies: it may be anybody's."""
    radii = len(recipe.certify.radii) * claimed.images
    try:
        size = path.stat().st_size
        with open_file(path) as file:
            first = file.readline(_MOST_SUBJECT)
        subject = load_json(first)["subject"]  # type: ignore[index]
        split = subject["of"]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}", "name the run whose counts these are") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DataError(f"{path} is damaged: its first line is no subject", _AGAIN) from error
    if size > _MOST_BYTES or radii > _MOST_RADII or not isinstance(split, int) or split > _MOST_IMAGES:
        raise DataError(
            f"{path} claims more than can be checked: {size} bytes, {radii} radii, a split of {str(split)[:20]} images",
            _AGAIN,
        )


def differences(claimed: Certification, redone: Certification) -> list[str]:
    """Return each figure that does not follow from the counts: its place, what is claimed, and what follows."""
    before, after = (table_of(results) for results in (claimed, redone))
    return list(_differences("", before, after))


def table_of(results: Certification) -> dict[str, JSON]:
    """Return the figures of a certification that follow from its counts."""
    return {key: value for key, value in results.to_table().items() if key not in _FREE}


def _differences(place: str, claimed: JSON, redone: JSON) -> list[str]:
    if isinstance(claimed, dict) and isinstance(redone, dict) and claimed.keys() == redone.keys():
        return [one for key in claimed for one in _differences(f"{place}.{key}", claimed[key], redone[key])]
    if isinstance(claimed, list) and isinstance(redone, list) and len(claimed) == len(redone):
        pairs = enumerate(zip(claimed, redone, strict=True))
        return [one for number, pair in pairs for one in _differences(f"{place}.{number}", *pair)]
    if isinstance(claimed, int | float) and isinstance(redone, int | float):
        same = math.isclose(claimed, redone, rel_tol=_SLACK, abs_tol=_SLACK)
    else:
        same = claimed == redone
    return [] if same else [f"{place.removeprefix('.')}: {_brief(claimed)} is claimed, {_brief(redone)} follows"]


def _brief(value: JSON) -> str:
    if isinstance(value, list | dict):
        return f"{type(value).__name__} of {len(value)}"
    return str(value)[:40]
