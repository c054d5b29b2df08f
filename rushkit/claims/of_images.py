"""The checks of an artifact's file, images, labels and originals, which need no model."""

from __future__ import annotations

import torch

from rushkit.attacks.norms import rounding
from rushkit.claims.case import NORMS, Case, finding, not_checked
from rushkit.claims.chain import broken_at, original_hashes
from rushkit.claims.evidence import Missing, Originals, chosen_by
from rushkit.claims.words import selection_words
from rushkit.errors import first_few
from rushkit.recipe.radius import ball_words
from rushkit.results.notes import Check, Status

# By what a distance may exceed the radius: more than float32 rounds in a pixel.
_SLACK = 1e-6
# How far 255 times a pixel may be from a whole number.
_WHOLE = 1e-4
# The share of images at distance 0 that are right, from which the attack seems to have skipped some.
_UNMOVED = 0.05


def chain_holds(case: Case) -> Check:
    """Check the chain of hashes over all of the artifact."""
    if not case.is_file:
        return not_checked("RV00", "it was packed here, from a run")
    manifest = case.artifact.manifest
    if where := broken_at(manifest.chain, case.artifact.chain()):
        return finding("RV00", "fail", f"altered: the chain of hashes breaks at {where}")
    return finding("RV00", "pass", f"the hashes match; the claim's digest is {manifest.chain[-1]}")


def file_is_whole(case: Case) -> Check:
    """Say that the file was read with bounds: one that is not whole is refused before."""
    if not case.is_file:
        return not_checked("RV16", "it is a run, not a file")
    return finding("RV16", "pass", "the archive has its members once, uncompressed, and nothing beside them")


def names_are_harmless(case: Case) -> Check:
    """Say that names and texts were looked at: hostile ones are refused before."""
    if not case.is_file:
        return not_checked("RV17", "it is a run, not a file")
    return finding("RV17", "pass", "fixed names, no pickle, no control characters; nothing in it was executed")


def is_of_this_data(case: Case) -> Check:
    """Check that the data set here has the classes, the shape and the size that the artifact says."""
    data, originals = case.artifact.manifest.data, case.originals
    if isinstance(originals, Missing):
        return not_checked("RV18", originals)
    shape = list(originals.images.shape[1:])
    split = data.split
    name = split if originals.has_path else originals.name
    for what, here, said in (
        ("name", name, split),
        ("classes", list(originals.classes), data.classes),
        ("shape", shape, data.shape),
        ("number of images", originals.whole, data.images),
    ):
        if here != said:
            return finding(
                "RV18", "fail", f"another data set: the {what} of {originals.name} here is not that of the artifact"
            )
    same = "as here" if split == originals.name else f"here {originals.name}"
    return finding("RV18", "pass", f"schema {case.artifact.manifest.schema_version}, {split} {same}")


def lies_in_ball(case: Case) -> Check:
    """Check in float64 that each attacked image lies within the radius of its original."""
    if isinstance(case.originals, Missing):
        return not_checked("RV01", case.originals)
    if case.artifact.images.shape != case.originals.images.shape:
        return finding("RV01", "fail", "the originals have another shape")
    attack, distances = case.artifact.manifest.attack, case.distances
    most = attack.eps + max(_SLACK, rounding(attack.norm, case.artifact.images[0].numel()))
    # A NaN compares false, and is outside.
    outside = ~(distances[attack.norm] <= most)
    largest = {norm: float(distances[norm].nan_to_num(torch.inf).max()) for norm in NORMS}
    words = ", ".join(f"{norm} {largest[norm]:.5g}" for norm in NORMS)
    ball = ball_words(attack.norm, attack.eps)
    figures = {norm: value for norm, value in largest.items() if value < torch.inf}
    if outside.any():
        named = _indices(case, outside)
        return finding("RV01", "fail", f"outside the ball {ball}: {named}; largest distances {words}", **figures)
    return finding("RV01", "pass", f"all within {ball} in float64; largest distances {words}", **figures)


def lies_in_box(case: Case) -> Check:
    """Check that every pixel is finite and lies in [0, 1]."""
    images = case.artifact.images
    if case.in_box:
        return finding("RV02", "pass", f"all pixels in [{float(images.min()):.4g}, {float(images.max()):.4g}]")
    flat = images.flatten(1)
    wrong = ~(torch.isfinite(flat).all(dim=1) & (flat.amin(dim=1) >= 0) & (flat.amax(dim=1) <= 1))
    return finding("RV02", "fail", f"outside [0, 1], NaN or infinite: {_indices(case, wrong)}")


def is_eight_bit(case: Case) -> Check:
    """Check images that are claimed to have 8-bit pixels."""
    attack, images = case.artifact.manifest.attack, case.artifact.images
    if not case.in_box:
        return not_checked("RV03", "the pixels are outside [0, 1]")
    has_shape = isinstance(case.originals, Originals) and case.originals.images.shape == images.shape
    outside = int((~(case.rounded_distances <= attack.eps + _SLACK)).sum()) if has_shape else 0
    if not attack.eight_bit:
        moved = f"; rounded to grey levels {outside} of {len(images)} leave the ball" if has_shape else ""
        says = f"8-bit images are not claimed: these are float32, and rounded they may be right again{moved}"
        return finding("RV03", "skipped", says, leave_the_ball=float(outside))
    levels = images.double() * 255
    uneven = ((levels - levels.round()).abs() > _WHOLE).flatten(1).any(dim=1)
    if uneven.any():
        return finding("RV03", "fail", f"claimed to be of 8-bit pixels, and are not: {_indices(case, uneven)}")
    if outside:
        return finding("RV03", "fail", f"rounded to grey levels {outside} images lie outside the ball")
    return finding("RV03", "pass", "every pixel is a whole grey level, within the ball")


def originals_are_of_data(case: Case) -> Check:
    """Check the hash of each original against the image that the data set has at its index."""
    if isinstance(case.originals, Missing):
        return not_checked("RV04", case.originals)
    hashes = original_hashes(case.originals.images)
    other = (hashes != case.artifact.originals).any(dim=1)
    if not other.any():
        return finding("RV04", "pass", f"the originals are {case.originals.name}'s, image by image")
    where = "another data set: none" if other.all() else f"other images: {_indices(case, other)}; not all"
    return finding("RV04", "fail", f"{where} of the originals are those of {case.originals.name} at these indices")


def are_the_chosen_ones(case: Case) -> Check:
    """Check that images neither repeat nor lack, and that the stated rule chooses them."""
    artifact, selection = case.artifact, case.artifact.manifest.selection
    indices, whole = artifact.indices, artifact.manifest.data.images
    if not bool((indices[1:] > indices[:-1]).all()) or int(indices[0]) < 0 or int(indices[-1]) >= whole:
        return finding("RV05", "fail", "the indices do not rise within the split: images are repeated or missing")
    if isinstance(case.originals, Missing) and len(artifact.originals.unique(dim=0)) < len(artifact):
        return finding("RV05", "fail", "two originals are one image under two indices")
    if selection.rule != "chosen":
        limit, skip = (0, 1) if selection.rule == "all" else (selection.limit, selection.skip)
        if not torch.equal(chosen_by(limit, skip, whole), indices):
            return finding("RV05", "fail", f"selected: these are not {selection_words(artifact.manifest)}")
    status: Status = "warn" if selection.rule == "chosen" else "pass"
    return finding("RV05", status, f"{len(artifact)} images, {selection_words(artifact.manifest)}")


def labels_are_of_data(case: Case) -> Check:
    """Check each label against the data set's."""
    if not case.labels_fit:
        return finding("RV06", "fail", f"a label is none of the {len(case.artifact.manifest.data.classes)} classes")
    if isinstance(case.originals, Missing):
        return not_checked("RV06", case.originals)
    other = case.artifact.labels != case.originals.labels
    if other.any():
        return finding("RV06", "fail", f"other labels than the data set's: {_indices(case, other)}")
    return finding("RV06", "pass", "every label is the data set's")


def was_attacked(case: Case) -> Check:
    """Look for images that the attack never moved although the model is right on them."""
    if isinstance(case.originals, Missing) or case.artifact.images.shape != case.originals.images.shape:
        return not_checked("RV11", case.originals if isinstance(case.originals, Missing) else "other originals")
    artifact, attack = case.artifact, case.artifact.manifest.attack
    is_right = 2 * artifact.clean_right > attack.votes
    unmoved = is_right & (case.distances["linf"] == 0)
    share = float(unmoved.sum()) / len(artifact)
    says = f"{int(unmoved.sum())} of {int(is_right.sum())} images that were right are as they were"
    if attack.eps > 0 and is_right.any() and bool(unmoved[is_right].all()):
        return finding("RV11", "fail", f"nothing was attacked: {says}", share=share)
    return finding("RV11", "warn" if share >= _UNMOVED and attack.eps > 0 else "pass", says, share=share)


def _indices(case: Case, wrong: torch.Tensor) -> str:
    indices = [str(index) for index in case.artifact.indices[wrong].tolist()]
    return f"{len(indices)} of {len(wrong)} images, of index {first_few(indices, 5)}"
