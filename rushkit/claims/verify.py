"""Verify a claim: score its images again, and check everything else in which it could be wrong or forged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rushkit.claims.artifact import Artifact
from rushkit.claims.case import Case
from rushkit.claims.evidence import Missing, NamedModel, Originals
from rushkit.claims.of_answers import (
    clean_outcomes_are_reproduced,
    outcomes_are_reproduced,
    reads_alike,
    rejections_are_wrong,
    votes_are_not_lucky,
    weights_are_named,
)
from rushkit.claims.of_attack import says_what_took_part
from rushkit.claims.of_images import (
    are_the_chosen_ones,
    chain_holds,
    file_is_whole,
    is_eight_bit,
    is_of_this_data,
    labels_are_of_data,
    lies_in_ball,
    lies_in_box,
    names_are_harmless,
    originals_are_of_data,
    was_attacked,
)
from rushkit.claims.of_model import answers_stand_alone, is_as_strong
from rushkit.claims.scoring import CLEAN_PASSES, PASSES, Judge, Scores
from rushkit.claims.words import claim_words, selection_words, sentence
from rushkit.errors import NumericsError
from rushkit.recipe.schema import Recipe
from rushkit.results.intervals import mean_interval
from rushkit.results.notes import Check
from rushkit.results.verification import Estimate, Verdict, VerifiedAttack
from rushkit.results.words import plain_noise
from rushkit.setup.components import build_noise
from rushkit.system import Machine

# Every check, in the order in which it is shown.
CHECKS: tuple[Callable[[Case], Check], ...] = (
    file_is_whole,
    names_are_harmless,
    is_of_this_data,
    chain_holds,
    lies_in_ball,
    lies_in_box,
    is_eight_bit,
    originals_are_of_data,
    are_the_chosen_ones,
    labels_are_of_data,
    weights_are_named,
    reads_alike,
    outcomes_are_reproduced,
    clean_outcomes_are_reproduced,
    was_attacked,
    is_as_strong,
    votes_are_not_lucky,
    answers_stand_alone,
    rejections_are_wrong,
    says_what_took_part,
)
# Without these nothing was reproduced.
_NEEDED = ("RV01", "RV02", "RV04", "RV06", "RV07", "RV09", "RV22")


def verify(
    artifact: Artifact,
    originals: Originals | Missing,
    model: NamedModel | Missing,
    recipe: Recipe,
    machine: Machine,
    seed: int,
    is_file: bool = True,
) -> VerifiedAttack:
    """Return what every check finds in an artifact, and the verdict.

    Args:
        artifact: The artifact.
        originals: The data set's images at its indices.
        model: The model that it names.
        recipe: The artifact's recipe; its section noise is used.
        machine: The device; passes are float32.
        seed: Seed of the verifier's draws, which the author of the artifact must not have known.
        is_file: Whether it was read from a file, and not packed here.

    Raises:
        UsageError: the recipe names a noise that is not here.
    """
    case = _scored(Case(artifact, originals, model, is_file), recipe, machine, seed)
    checks = [check(case) for check in CHECKS]
    verdict = verdict_of(checks)
    manifest, attack = artifact.manifest, artifact.manifest.attack
    claimed, claimed_clean = (
        estimate(right.tolist(), attack.votes) for right in (artifact.right, artifact.clean_right)
    )
    here = _estimate_of(case.attacked)
    claim = claim_words(manifest, claimed, claimed_clean, plain_noise(recipe.noise), is_file)
    return VerifiedAttack(
        attack=attack.words(),
        split=manifest.data.split,
        selection=selection_words(manifest),
        norm=attack.norm,
        eps=attack.eps,
        images=len(artifact),
        model=manifest.model.hash,
        claimed=claimed,
        claimed_clean=claimed_clean,
        here=here,
        here_clean=_estimate_of(case.clean),
        digest=artifact.chain()[-1],
        verdict=verdict,
        checks=checks,
        sentence=sentence(manifest, checks, claimed, here, verdict),
        claim=claim if verdict == "consistent" else "",
    )


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Return the verdict that follows from checks."""
    statuses = {check.code: check.status for check in checks}
    if "fail" in statuses.values():
        return "inconsistent"
    return "incomplete" if any(statuses.get(code) == "skipped" for code in _NEEDED) else "consistent"


def estimate(right: Sequence[int], votes: int) -> Estimate:
    """Return the share of right votes, each image's count held within what is possible."""
    shares = [min(max(count, 0), votes) / votes for count in right]
    low, high = mean_interval(sum(shares), len(shares))
    return Estimate(accuracy=sum(shares) / len(shares), low=low, high=high, votes=votes)


def _estimate_of(scores: Scores | None) -> Estimate | None:
    return None if scores is None else estimate(scores.right, scores.votes)


def _scored(case: Case, recipe: Recipe, machine: Machine, seed: int) -> Case:
    """Return the case with the model's answers, where the images may be shown to it."""
    artifact, model = case.artifact, case.model
    if isinstance(model, Missing) or case.why_unasked:
        return case
    judge = Judge.of(artifact, model, build_noise(recipe), machine, seed)
    of_each, votes = (artifact.labels, artifact.indices), artifact.manifest.attack.votes
    clean = None
    try:
        attacked = judge.compare(artifact.images, *of_each, "attacked", PASSES, (artifact.right, votes))
        if isinstance(case.originals, Originals) and case.originals.images.shape == artifact.images.shape:
            claimed = artifact.clean_right, votes
            clean = judge.compare(case.originals.images, *of_each, "clean", CLEAN_PASSES, claimed)
    except NumericsError as error:
        return replace(case, unanswered=error.message)
    return replace(case, judge=judge, attacked=attacked, clean=clean)
