"""Verify a certification: its counts and radii made again, and some images drawn afresh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rushkit.certification.logged_counts import images_hash
from rushkit.claims.plausible import draws_agree, no_count_is_too_common
from rushkit.claims.recount import Recount, claimed_certificates, differences, recount
from rushkit.claims.redraw import Effort, Redrawn, images_here, redraw, subject_of
from rushkit.data.memory import Split
from rushkit.errors import CheckpointError, DataError, RushkitError, UsageError, first_few
from rushkit.recipe.overrides import Changes
from rushkit.recipe.schema import Recipe
from rushkit.results.certification import Certification
from rushkit.results.notes import Check, Status
from rushkit.results.statements import certificate_statement, chosen_words
from rushkit.results.verification import Verdict, VerifiedCertificates
from rushkit.run.checkpoint import Checkpoint
from rushkit.setup.components import build_noise

# Code -> what is wrong where the check fails; the first ones are those of attacks.
NAMES = {
    "RV04": "other-originals",
    "RV06": "labels-swapped",
    "RV07": "other-weights",
    "RV16": "file-altered",
    "RV19": "impossible-certificates",
    "RV20": "counts-too-good",
    "RV21": "counts-too-equal",
}
# Without these nothing was reproduced.
_NEEDED = ("RV16", "RV19", "RV20")


@dataclass(frozen=True)
class _Case:
    """A certification with all that it is checked against; a sentence stands where something is missing.

    Attributes:
        claimed: Its results.
        redone: What follows from the counts.
        images: The images of the data set.
        model: The model.
        redrawn: The answers to fresh draws.
    """

    claimed: Certification
    redone: Recount
    images: Split | str
    model: Checkpoint | str
    redrawn: Redrawn | str


def verify_certification(
    folder: Path,
    model: Checkpoint | None,
    seed: int,
    changes: Changes = (),
    effort: Effort | None = None,
) -> VerifiedCertificates:
    """Return what every check finds in a certification, and the verdict.

    The counts are checked as they are logged, the radii and shares follow from them by rushkit's own statistics, and a
    sample of images is drawn afresh: are the logged votes those of the same probabilities?

    Example::

        found = verify_certification(Path("runs/20300101-000000-certify-cifar10-0a1b2c"), checkpoint, seed=1)
        print(found.sentence)

    Args:
        folder: The folder of a finished run of ``rushkit certify``, or a published copy.
        model: The model that was certified; None: it is not at hand, and nothing is drawn.
        seed: Seed of the verifier's draws, which the author of the counts must not have known.
        changes: Changes to ``system``.
        effort: How much is drawn; None: as much as takes a minute on a small network.

    Raises:
        UsageError: the folder holds no certification, or names a component that is not here.
        DataError: results.json or the recipe is damaged.
    """
    return verify_claimed(*claimed_certificates(folder), folder, model, seed, changes, effort)


def verify_claimed(
    claimed: Certification,
    recipe: Recipe,
    folder: Path,
    model: Checkpoint | None,
    seed: int,
    changes: Changes = (),
    effort: Effort | None = None,
) -> VerifiedCertificates:
    """Do what ``verify_certification`` does with results and a recipe that were read, and the folder of the counts."""
    # A noise of a plugin that is not here is no fault of the claim.
    build_noise(recipe)
    try:
        redone = recount(folder, claimed, recipe)
    except RushkitError as error:
        broken = [_finding("RV16", "fail", error.message)]
        return _verified(claimed, recipe, [*broken, *(_skipped(code, "the counts") for code in _NEEDED[1:])])
    case = _gathered(claimed, recipe, redone, model, changes)
    if effort is None or effort.images:
        case = _drawn(case, recipe, changes, effort or Effort(), seed)
    return _verified(claimed, recipe, [check(case) for check in CHECKS])


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict that follows from the checks of a certification."""
    statuses = {check.code: check.status for check in checks}
    if "fail" in statuses.values():
        return "inconsistent"
    return "incomplete" if any(statuses[code] == "skipped" for code in _NEEDED) else "consistent"


def _gathered(
    claimed: Certification, recipe: Recipe, redone: Recount, model: Checkpoint | None, changes: Changes
) -> _Case:
    images: Split | str
    try:
        images = images_here(recipe, redone.logged.subject, changes)
    except (DataError, UsageError) as error:
        images = error.message
    named = model or f"no model of hash {redone.logged.subject.model[:12]} is at hand"
    return _Case(claimed, redone, images, named, "nothing was drawn afresh")


def _drawn(case: _Case, recipe: Recipe, changes: Changes, effort: Effort, seed: int) -> _Case:
    """Return the case with fresh draws, where the images and the model are at hand."""
    missing = next((one for one in (case.model, case.images) if isinstance(one, str)), "")
    if missing or isinstance(case.model, str) or isinstance(case.images, str):
        return _Case(case.claimed, case.redone, case.images, case.model, missing)
    if _indices(case.images) != case.claimed.outcomes.images:
        return _Case(case.claimed, case.redone, case.images, case.model, "the data set has other images")
    redrawn: Redrawn | str
    try:
        subject = subject_of(recipe, case.model, case.images, case.redone.logged.subject.precision, changes)
        redrawn = redraw(subject, case.redone.procedure.mode, effort, seed)
    except (CheckpointError, DataError, UsageError) as error:
        redrawn = error.message
    return _Case(case.claimed, case.redone, case.images, case.model, redrawn)


def _verified(claimed: Certification, recipe: Recipe, checks: list[Check]) -> VerifiedCertificates:
    section = recipe.certify
    selection = chosen_words(claimed.outcomes.images, section.split, section.limit, section.skip)
    shown = [row for row in claimed.certified if row.radius > 0 and row.count]
    verdict = verdict_of(checks)
    middle = shown[len(shown) // 2] if shown else None
    return VerifiedCertificates(
        data=claimed.data,
        selection=selection,
        norm=claimed.norm,
        images=claimed.images,
        model=claimed.model,
        verdict=verdict,
        checks=checks,
        sentence=_sentence(claimed, checks, verdict),
        claim=certificate_statement(claimed, selection, middle) if verdict == "consistent" else "",
    )


def _sentence(claimed: Certification, checks: Sequence[Check], verdict: Verdict) -> str:
    """Return ``"500 images, radii follow from the counts; 32 images drawn afresh agree: consistent"``."""
    by_code = {check.code: check for check in checks}
    radii = {"pass": "radii follow from the counts", "fail": "radii do not follow from the counts"}
    drawn = by_code["RV20"]
    again = {
        "pass": f"{drawn.figures.get('images', 0):.0f} images drawn afresh agree",
        "fail": "fresh draws do not agree",
        "skipped": "nothing drawn afresh",
    }
    fails = [f"{check.code} {check.name}" for check in checks if check.status == "fail"]
    reasons = f" ({'; '.join(fails)})" if fails else ""
    told = radii.get(by_code["RV19"].status, "radii were not made again")
    return f"{claimed.images} images, {told}; {again.get(drawn.status, 'fresh draws')}: {verdict}{reasons}"


def _finding(code: str, status: Status, says: str, **figures: float) -> Check:
    return Check(code=code, name=NAMES[code], status=status, says=says, figures={**figures})


def _skipped(code: str, missing: str) -> Check:
    return _finding(code, "skipped", f"not checked: {missing}")


def _log_is_whole(case: _Case) -> Check:
    """RV16: the log is chained line by line, and as long as results.json says."""
    seal = case.redone.logged.seal
    if seal != case.claimed.counts:
        return _finding("RV16", "fail", f"the counts have {seal.lines} lines, and not those of results.json")
    return _finding("RV16", "pass", f"{seal.lines} lines of counts, each bound to the one before", lines=seal.lines)


def _follows_from_the_counts(case: _Case) -> Check:
    """RV19: counts add up to the draws, and every radius and share follows from them."""
    found = differences(case.claimed, case.redone.results)
    if found:
        return _finding("RV19", "fail", first_few(found, 3, separator="; "), differences=len(found))
    says = "votes add up to the draws, and the radii and shares are those that follow from them, rounded down"
    return _finding("RV19", "pass", says, images=case.claimed.images)


def _originals_are_of_data(case: _Case) -> Check:
    """RV04: the images are those of the data set here."""
    if isinstance(case.images, str):
        return _skipped("RV04", case.images)
    logged = case.redone.logged.subject
    if _indices(case.images) != case.claimed.outcomes.images or case.images.of != logged.of:
        says = f"{case.images.name} has {case.images.of} images here, of which other ones would be certified"
        return _finding("RV04", "fail", says)
    assert case.images.labels is not None
    assert case.images.places is not None
    if images_hash(case.images.places, case.images.labels, case.images) != logged.images:
        return _finding("RV04", "fail", f"the images or labels of {case.images.name} here are others")
    return _finding("RV04", "pass", f"the {len(case.images)} images are those of {case.images.name} here")


def _labels_are_of_data(case: _Case) -> Check:
    """RV06: the labels are those of the data set here."""
    if isinstance(case.images, str):
        return _skipped("RV06", case.images)
    assert case.images.labels is not None
    here = dict(zip(_indices(case.images), case.images.labels.tolist(), strict=True))
    outcomes = case.claimed.outcomes
    other = [index for index, label in zip(outcomes.images, outcomes.labels, strict=True) if here.get(index) != label]
    if other:
        return _finding("RV06", "fail", f"{len(other)} labels are others here: {first_few([*map(str, other)])}")
    return _finding("RV06", "pass", "the labels are those of the data set here")


def _weights_are_named(case: _Case) -> Check:
    """RV07: the model is the one whose hash the counts name."""
    if isinstance(case.model, str):
        return _skipped("RV07", case.model)
    wanted = case.redone.logged.subject.model
    if case.model.hash == wanted:
        return _finding("RV07", "pass", f"the model has hash {wanted}")
    if case.model.meta.get(MADE_FROM) == wanted:
        return _skipped("RV07", f"that these weights were those of checkpoint {wanted[:12]} is their author's word")
    return _finding("RV07", "fail", f"the counts are of {wanted[:12]}, the model is {case.model.hash[:12]}")


def _draws_agree(case: _Case) -> Check:
    """RV20: fresh draws have the probabilities that the logged votes had."""
    if isinstance(case.redrawn, str):
        return _skipped("RV20", case.redrawn)
    status, says, figures = draws_agree(case.redone, case.redrawn)
    return _finding("RV20", status, says, **figures)


def _counts_differ(case: _Case) -> Check:
    """RV21: no count of votes is the same in more images than chance allows."""
    status, says, figures = no_count_is_too_common(case.redone)
    return _finding("RV21", status, says, **figures)


def _indices(images: Split) -> list[int]:
    places = torch.arange(len(images)) if images.places is None else images.places
    indices: list[int] = places.tolist()
    return indices


# The key of a published checkpoint's metadata that names the checkpoint that it was made from.
MADE_FROM = "made_from"
# Every check, in the order in which it is shown.
CHECKS: tuple[Callable[[_Case], Check], ...] = (
    _log_is_whole,
    _follows_from_the_counts,
    _originals_are_of_data,
    _labels_are_of_data,
    _weights_are_named,
    _draws_agree,
    _counts_differ,
)
