"""What a verification warns of or leaves open, where nothing need be forged, and what it finds without the data set."""

from __future__ import annotations

from dataclasses import replace

import torch
from claimed import Claim

from rushkit.claims.artifact import Artifact, write_artifact
from rushkit.claims.evidence import originals_of
from rushkit.claims.targets import verify_file
from rushkit.results.notes import Check
from rushkit.setup.components import to_float


def check_of(artifact: Artifact, path, code: str, *changes: str) -> Check:
    write_artifact(path / "a.rushkit", artifact)
    (attack,) = verify_file(path / "a.rushkit", changes=changes, seed=3).attacks
    return next(check for check in attack.checks if check.code == code)


def clean_images(claim: Claim) -> torch.Tensor:
    return to_float(originals_of(claim.recipe, "test", claim.artifact.indices).images)


def test_images_that_the_author_chose_are_said_to_be(fixed, tmp_path):
    selection = fixed.artifact.manifest.selection.with_changes(rule="chosen", limit=0)
    chosen = replace(fixed.artifact, manifest=fixed.artifact.manifest.with_changes(selection=selection))
    check = check_of(chosen, tmp_path, "RV05")
    assert (check.status, "chosen by the author" in check.says) == ("warn", True)


def test_images_that_the_attack_left_as_they_were_are_counted(fixed, tmp_path):
    rows = fixed.artifact.clean_right.nonzero().squeeze(1)[:3]
    images, right = fixed.artifact.images.clone(), fixed.artifact.right.clone()
    images[rows], right[rows] = clean_images(fixed)[rows], 1
    check = check_of(replace(fixed.artifact, images=images, right=right), tmp_path, "RV11")
    assert (check.status, check.figures["share"]) == ("warn", 3 / len(images))


def test_where_8_bit_is_not_claimed_rounding_says_how_many_leave_the_ball(fixed, tmp_path):
    """25.5 grey levels: where a pixel lies half a level beyond a whole one, rounding takes it to 26."""
    clean = clean_images(fixed)
    images = torch.where(clean < 0.5, clean + 0.1, clean - 0.1)
    check = check_of(replace(fixed.artifact, images=images), tmp_path, "RV03")
    assert (check.status, check.figures["leave_the_ball"]) == ("skipped", len(images))


def test_one_image_under_two_indices_is_found_without_the_data_set(fixed, tmp_path):
    originals = fixed.artifact.originals.clone()
    originals[1] = originals[0]
    recipe = fixed.artifact.manifest.recipe.replace('name = "digits"\n', 'name = "cifar10"\n')
    manifest = fixed.artifact.manifest.with_changes(recipe=recipe)
    twice = replace(fixed.artifact, originals=originals, manifest=manifest)
    check = check_of(twice, tmp_path, "RV05", f"system.data_dir={tmp_path}")
    assert (check.status, "two originals are one image" in check.says) == ("fail", True)
