"""Verify a published model: every file, every artifact, and every certification that its claims name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rushkit.claims.artifact import Artifact, read_artifact
from rushkit.claims.certificates import verify_claimed
from rushkit.claims.evidence import recipe_here
from rushkit.claims.manifest import AttackFacts
from rushkit.claims.published import Published, read_published
from rushkit.claims.record import Measured
from rushkit.claims.redraw import Effort
from rushkit.claims.targets import verify_artifact
from rushkit.errors import RushkitError, shorten, showable
from rushkit.recipe.load import read_recipe
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.results import Results
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.certification import Certification
from rushkit.results.notes import Check
from rushkit.results.verification import VerifiedAttack, VerifiedCertificates

# What is drawn for a certification: enough to see other weights, in seconds.
EFFORT = Effort(images=8, draws=100)


@dataclass(frozen=True)
class CheckedAttack:
    """A row of an attack with saved images, and what its verification found."""

    results: Attacks
    row: AttackRow
    found: VerifiedAttack


@dataclass(frozen=True)
class CheckedCertification:
    """A certification, and what its verification found."""

    results: Certification
    found: VerifiedCertificates


@dataclass(frozen=True)
class Entry:
    """A folder that claims to be a published model.

    Attributes:
        folder: The folder.
        published: Its contents; None where they are not those that it names.
        records: The results and the recipe of each run that measured it.
        attacks: Its attacks with saved images.
        certifications: Its certifications with counts.
        problems: Why it does not verify, a sentence each; empty if nothing contradicts a claim.
    """

    folder: Path
    published: Published | None
    records: tuple[tuple[Results, Recipe], ...] = ()
    attacks: tuple[CheckedAttack, ...] = ()
    certifications: tuple[CheckedCertification, ...] = ()
    problems: tuple[str, ...] = ()


def verify_entry(folder: Path, seed: int, changes: Changes = ()) -> Entry:
    """Return what every check finds in a published model; nothing that is wrong with it raises.

    Args:
        folder: The folder, which may be anybody's: nothing of it is executed, and nothing is written there.
        seed: Seed of the verifier's draws.
        changes: Changes to ``system``.
    """
    published: Published | None = None
    try:
        published = read_published(folder)
        return _checked(published, seed, changes)
    except RushkitError as error:
        return Entry(folder, published, problems=(error.message,))
    except Exception as error:  # noqa: BLE001 - what somebody made of a folder may break anything
        why = shorten(showable(f"{type(error).__name__}: {error}"))
        return Entry(folder, published, problems=(f"it could not be checked: {why}",))


def _checked(published: Published, seed: int, changes: Changes) -> Entry:
    records: list[tuple[Results, Recipe]] = []
    attacks: list[CheckedAttack] = []
    certifications: list[CheckedCertification] = []
    for measured in published.claims.measured:
        record, recipe = measured.record(), read_recipe(measured.recipe, f"{published.folder.name}: a recipe")
        records.append((record, recipe))
        if isinstance(record, Attacks):
            attacks += _attacks(published, measured, record, seed, changes)
        if isinstance(record, Certification) and measured.counts:
            counts = published.folder / measured.counts
            found = verify_claimed(record, recipe, counts, published.checkpoint, seed, changes, EFFORT)
            certifications.append(CheckedCertification(record, found))
    problems = [
        *(problem for one in attacks for problem in _problems(one.row.words(), one.found.checks)),
        *(
            problem
            for one in certifications
            for problem in _problems(f"certificates, {one.results.norm}", one.found.checks)
        ),
    ]
    return Entry(published.folder, published, tuple(records), tuple(attacks), tuple(certifications), tuple(problems))


def _attacks(
    published: Published, measured: Measured, record: Attacks, seed: int, changes: Changes
) -> Iterator[CheckedAttack]:
    for name in measured.artifacts:
        path = published.folder / name
        artifact = read_artifact(path)
        row = _row_of(artifact, record)
        if row is None:
            raise RushkitError(f"{name} is of no attack that claims.json has: another outcome, budget or model")
        recipe = recipe_here(artifact, path, changes)
        if recipe.noise != record.noise:
            raise RushkitError(f"{name} was made under another noise than claims.json says")
        found, _ = verify_artifact(artifact, recipe, published.checkpoint, seed)
        yield CheckedAttack(record, row, found)


def _row_of(artifact: Artifact, record: Attacks) -> AttackRow | None:
    """Return the row that an artifact holds the images of: of the same attack, with the same outcome of each image."""
    facts = artifact.manifest.attack
    right = dict(zip(artifact.indices.tolist(), artifact.right.tolist(), strict=True))
    for row in record.attacks:
        outcomes = dict(zip(row.outcomes.indices, row.outcomes.right["majority"], strict=True))
        alike = AttackFacts.of(row, facts.seed) == facts and row.split == artifact.manifest.data.split
        if alike and outcomes == right:
            return row
    return None


def _problems(what: str, checks: list[Check]) -> Iterator[str]:
    return (f"{what}: {check.code} {check.name}: {check.says}" for check in checks if check.status == "fail")
