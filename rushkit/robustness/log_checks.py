"""Check that logged outcomes of an attack are plausible: matching labels, and vote counts within range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rushkit.errors import UsageError
from rushkit.paths import read_file
from rushkit.results.logs import FurtherVotes
from rushkit.results.notes import Note
from rushkit.results.taken import check_votes
from rushkit.run.log import read_chained
from rushkit.run.log_checks import Record, check_seconds, demand, integers

# By what share rounding may lengthen a distance.
_ROUNDING = 1e-6


def check_attack(
    subject: Record, records: Sequence[Record], labels: Sequence[int], candidates: int, rounds: int = 0
) -> None:
    """Check the outcomes of an attack.

    Args:
        subject: The facts that the outcomes depend on.
        records: The logged blocks.
        labels: (N,) labels of the attacked images.
        candidates: Number of attacks to choose from.
        rounds: Number of rounds of a cascade; 0 for other attacks.

    Raises:
        ValueError: a record is not one that the attack could have written.
    """
    for record, rows in zip(records, _blocks(records, len(labels), subject["block"]), strict=True):
        demand(record["images"] == list(rows), "its images do not follow each other")
        demand(record["labels"] == list(labels[rows.start : rows.stop]), "a label is not that of its image")
        integers(record["chosen"], (len(rows),), -1, candidates - 1, "a chosen attack")
        _check_right(record, subject["worst by"], len(rows), subject["votes"])
        _check_taken(record, record["labels"], subject["votes"], subject.get("target"))
        _check_rescored(record.get("rescored", []), subject, record["labels"])
        for numbers in record.get("first_broken", {}).values():
            integers(numbers, (len(rows),), -2, rounds, "a round")
        for falls in record.get("last_fall", {}).values():
            _check_shares(falls, len(rows))
        if "queries" in record:
            integers(record["queries"], (len(rows),), -1, None, "a number of queries")
        _check_notes(record["notes"])
        integers(list(record["contributions"].values()), None, 0, len(rows), "a contribution")
        integers([record["image_forwards"], record["image_backwards"]], (2,), 0, None, "a number of passes")
        check_seconds(record)


def check_distances(subject: Record, records: Sequence[Record], labels: Sequence[int], eps: float) -> None:
    """Check the smallest distances of an attack up to the radius ``eps``; raise ValueError."""
    for record, rows in zip(records, _blocks(records, len(labels), subject["block"]), strict=True):
        demand(record["images"] == list(rows), "its images do not follow each other")
        demand(record["labels"] == list(labels[rows.start : rows.stop]), "a label is not that of its image")
        for column in ("distance", "held"):
            demand(isinstance(record[column], list) and len(record[column]) == len(rows), "a distance is missing")
        for distance in (*record["distance"], *record["held"]):
            known = distance is None or (type(distance) in (int, float) and 0 <= distance <= eps * (1 + _ROUNDING))
            demand(known, "a distance is none within the largest radius")
        demand(None not in record["held"], "a radius is missing")
        _check_notes(record["notes"])
        integers([record["image_forwards"], record["image_backwards"]], (2,), 0, None, "a number of passes")
        check_seconds(record)


def check_version(path: Path, subject: Record) -> None:
    """Refuse to go on with a log that was begun under another version or effort of its protocol.

    Args:
        path: The log; it need not exist.
        subject: What the outcomes depend on here.

    Raises:
        UsageError: its outcomes are those of another search, which no row may hold beside those of this one.
    """
    try:
        lines, _, _ = read_chained(read_file(path))
    except (OSError, ValueError):
        # There is no log, or it is damaged, which is reported when it is opened.
        return
    begun = lines[0].get("subject") if lines else None
    if not isinstance(begun, dict):
        return
    # Version 1 of strict did not name its version.
    before, here = ([one.get(key, 1) for key in ("version", "effort")] for one in (begun, subject))
    if before != here:
        raise UsageError(
            f"{path} was begun under version {before[0]} of its protocol, effort {before[1]}, and would go on under "
            f"version {here[0]}, effort {here[1]}; a row holds one of them",
            "start a new run, without --resume",
        )


def check_transfer(
    subject: Record, records: Sequence[Record], images: Sequence[int], labels: Sequence[int], rules: Sequence[str]
) -> None:
    """Check the votes of another model on the adversarial images at the (N,) positions ``images``; raise ValueError."""
    for record, rows in zip(records, _blocks(records, len(images), subject["block"]), strict=True):
        demand(record["images"] == list(images[rows.start : rows.stop]), "its images do not follow each other")
        _check_right(record, rules, len(rows), subject["votes"])
        _check_taken(record, labels[rows.start : rows.stop], subject["votes"])


def _check_notes(notes: object) -> None:
    demand(isinstance(notes, list), "its notes are no list")
    try:
        TypeAdapter(list[Note]).validate_python(notes)
    except ValidationError as error:
        raise ValueError("a note has no code or no text") from error


def _blocks(records: Sequence[Record], images: int, size: int) -> Iterable[range]:
    """Return the positions of the images of each record, in blocks of ``size``."""
    demand((len(records) - 1) * size < images, "it has more lines than there are images")
    return [range(start, min(start + size, images)) for start in range(0, len(records) * size, size)]


def _check_shares(shares: object, images: int) -> None:
    demand(isinstance(shares, list) and len(shares) == images, "a fall is missing")
    for share in shares:  # type: ignore[attr-defined]
        demand(type(share) in (int, float) and 0 <= share <= 1, "a fall is no share")


def _check_rescored(votes: object, subject: Record, labels: Sequence[int]) -> None:
    demand(isinstance(votes, list), "its further votes are no list")
    draws = [one.get("samples") if isinstance(one, dict) else None for one in votes]  # type: ignore[attr-defined]
    demand(draws == subject.get("score samples", []), "further votes are missing")
    for one in votes:  # type: ignore[attr-defined]
        _check_right(one, subject["worst by"], len(labels), subject["votes"])
        _check_taken(one, labels, subject["votes"], subject.get("target"))


def _check_right(record: Record, rules: Sequence[str], images: int, votes: int) -> None:
    for key in ("right", "clean_right"):
        demand(list(record[key]) == list(rules), "a rule of voting is missing")
        for counts in record[key].values():
            integers(counts, (images,), 0, votes, "a number of votes")


def _check_taken(record: Record, labels: Sequence[int], votes: int, target: int | None = None) -> None:
    """Check what the votes take the images for; logs that were begun before it was kept do not say."""
    keys = ("right", "clean_right", "taken_for", "clean_taken_for")
    said = FurtherVotes(samples=1, **{key: record[key] for key in keys if key in record})
    check_votes(said, labels, votes, target)
