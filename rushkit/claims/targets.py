"""Verify what a user names: an artifact, or the saved images of a run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from rushkit.claims.artifact import Artifact, read_artifact
from rushkit.claims.certificates import verify_certification
from rushkit.claims.evidence import (
    Missing,
    NamedModel,
    Originals,
    checkpoint_of_hash,
    model_of,
    originals_of,
    recipe_here,
)
from rushkit.claims.of_run import model_of_run, recipe_of_run, saved_rows
from rushkit.claims.pack import pack
from rushkit.claims.verify import verify
from rushkit.errors import DataError, UsageError
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Certification
from rushkit.results.records import read
from rushkit.results.verification import Verification, VerifiedAttack, VerifiedCertificates, worst
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.info import RunInfo
from rushkit.setup.start import machine_of

_NAME_DATA = (
    "RUSHKIT_DATA or --set system.data_dir says where the data set lies, --data PATH a folder or file of images"
)


def verify_file(
    path: str | Path, named: Checkpoint | None = None, changes: Changes = (), seed: int | None = None
) -> Verification:
    """Verify an artifact, without leaving a run.

    Example::

        verification = verify_file("claim.rushkit")
        print(verification.verdict, verification.attacks[0].sentence)

    Args:
        path: The artifact; it may be anybody's.
        named: The model; None: that in the file, or the one of the same hash among the runs and those that come with
            rushkit.
        changes: Changes to ``system``, such as ``["system.data_dir=images"]``.
        seed: Seed of the verifier's draws; None: one that nobody knew before.

    Raises:
        ArtifactError: it is no artifact, of another schema, or damaged.
        UsageError: its recipe names a component that is not here.
    """
    artifact = read_artifact(path)
    recipe, seed = recipe_here(artifact, path, changes), fresh_seed(seed)
    checked, _ = verify_artifact(artifact, recipe, named, seed)
    return verification_of(str(path), recipe, seed, [checked])


def verify_artifact(
    artifact: Artifact, recipe: Recipe, named: Checkpoint | None, seed: int
) -> tuple[VerifiedAttack, NamedModel | Missing]:
    """Verify an artifact that was read, by a recipe on this machine; return the model that it was verified with, too.

    The data set and the model are looked for; without one of them the checks that need it are not made.
    """
    machine = machine_of(recipe)
    try:
        model = model_of(artifact, named, recipe.system.runs_dir, machine)
        return verify(artifact, find_originals(artifact, recipe), model, recipe, machine, seed), model
    except UsageError as error:
        raise UsageError(f"the recipe of the claim does not run here: {error.message}", error.hint) from error


def find_originals(artifact: Artifact, recipe: Recipe) -> Originals | Missing:
    """Return the originals of an artifact, or why they are not here."""
    try:
        return originals_of(recipe, artifact.manifest.data.split.rpartition("/")[2], artifact.indices)
    except (DataError, UsageError) as error:
        return Missing(f"{error.message}", error.hint or _NAME_DATA)


def verify_run(
    run: RunInfo, named: Checkpoint | None = None, changes: Changes = (), seed: int | None = None
) -> Verification:
    """Verify the saved images of an attack, or a certification, without leaving a run.

    Args:
        run: A finished run of ``rushkit attack --save`` or ``rushkit certify``.
        named: The model; None: the one that the run measured.
        changes: Changes to ``system``.
        seed: Seed of the verifier's draws; None: one that nobody knew before.

    Raises:
        UsageError: no images were saved, or the model is code that is not named.
        DataError: results.json does not add up; the data set is not here, or is not the one that was attacked.
        CheckpointError: the model or the saved images are gone.
    """
    if isinstance(read(run.path), Certification):
        recipe, seed = recipe_of_run(run, changes), fresh_seed(seed)
        certified = named or certified_model(run, recipe.system.runs_dir)
        certificates = verify_certification(run.path, certified, seed, changes)
        return verification_of(str(run.path), recipe, seed, [], [certificates])
    rows, recipe, seed = saved_rows(run), recipe_of_run(run, changes), fresh_seed(seed)
    measured = named or model_of_run(run, recipe.system.runs_dir)
    machine, checked = machine_of(recipe), []
    for row in rows:
        artifact = pack(row, recipe, measured, run.path)
        model = model_of(artifact, measured, recipe.system.runs_dir, machine)
        originals = originals_of(recipe, row.split.rpartition("/")[2], artifact.indices)
        checked.append(verify(artifact, originals, model, recipe, machine, seed, is_file=False))
    return verification_of(str(run.path), recipe, seed, checked)


def certified_model(run: RunInfo, root: str | Path) -> Checkpoint | None:
    """Return the model that a run certified, wherever it lies now; None if it is gone.

    Args:
        run: A run with the results of a certification.
        root: The folder of runs.

    Raises:
        UsageError: the model is code of the user's.
    """
    if run.about.model is not None:
        return model_of_run(run, root)
    record = read(run.path)
    wanted = record.model if isinstance(record, Certification) else ""
    return checkpoint_of_hash(wanted, (root, run.path.parent), run.about.parent)


def verification_of(
    target: str,
    recipe: Recipe,
    seed: int,
    checked: list[VerifiedAttack],
    certificates: Sequence[VerifiedCertificates] = (),
) -> Verification:
    """Return the record of attacks and certifications that were verified together."""
    verdict = worst([*(one.verdict for one in checked), *(one.verdict for one in certificates)])
    return Verification(
        target=target,
        recipe=recipe.name,
        seed=seed,
        verdict=verdict,
        attacks=checked,
        certificates=list(certificates),
    )


def fresh_seed(seed: int | None = None) -> int:
    """Return a seed that the author of a claim cannot have known, unless one is given."""
    return secrets.randbits(31) if seed is None else seed
