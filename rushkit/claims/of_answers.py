"""The checks of an artifact's model and of its outcomes, which the model gives again here."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.claims.case import Case, finding, not_checked
from rushkit.claims.counts import image_p_values, total_p_value
from rushkit.claims.evidence import Missing
from rushkit.claims.scoring import VOTES, Scores
from rushkit.errors import first_few
from rushkit.results.notes import Check
from rushkit.rounding import percent

# The level of the tests of a random model's votes: one for the images, with Bonferroni's correction, one for the total.
LEVEL = 0.005


def weights_are_named(case: Case) -> Check:
    """Check the hash of the model, computed here, against the artifact's."""
    if isinstance(case.model, Missing):
        if case.model.wrong:
            return finding("RV07", "fail", f"other weights: {case.model.why}")
        return not_checked("RV07", case.model)
    wanted = case.artifact.manifest.model.hash
    if case.model.hash != wanted:
        return finding(
            "RV07", "fail", f"other weights: {case.model.found} has hash {case.model.hash[:12]}, not {wanted[:12]}"
        )
    return finding("RV07", "pass", f"the weights have hash {wanted}; compare it with the one published")


def reads_alike(case: Case) -> Check:
    """Check that the model is read as the artifact's recipe says, which the forward pass is built from alone."""
    if isinstance(case.model, Missing):
        return not_checked("RV08", case.model)
    classes = case.model.classifier.classes
    if list(classes) != case.artifact.manifest.data.classes:
        return finding("RV08", "fail", f"another reading: the classes of {case.model.found} are not the artifact's")
    if not case.model.same_reading:
        return finding(
            "RV08", "fail", f"another reading: the recipe of {case.model.found} has another backbone or other means"
        )
    attack = case.artifact.manifest.attack
    return finding("RV08", "pass", f"built from the recipe in the artifact, m = {attack.samples}, majority vote")


def outcomes_are_reproduced(case: Case) -> Check:
    """Compare the outcome of each attacked image with its score here."""
    attack = case.artifact.manifest.attack
    right = case.artifact.right.tolist()
    if not all(0 <= count <= attack.votes for count in right):
        return finding("RV09", "fail", f"impossible: an outcome is not from 0 to {attack.votes} right votes")
    return _reproduced(case, "RV09", right, case.attacked)


def clean_outcomes_are_reproduced(case: Case) -> Check:
    """Compare the outcome of each original with its score here: clean errors count as wrong, of all images."""
    attack = case.artifact.manifest.attack
    right = case.artifact.clean_right.tolist()
    if not all(0 <= count <= attack.votes for count in right):
        return finding("RV10", "fail", f"impossible: an outcome is not from 0 to {attack.votes} right votes")
    return _reproduced(case, "RV10", right, case.clean)


def _reproduced(case: Case, code: str, claimed: Sequence[int], here: Scores | None) -> Check:
    if here is None:
        if case.unanswered and code == "RV09":
            return finding(code, "fail", f"not reproduced: {case.unanswered}")
        return not_checked(code, case.why_unscored)
    votes = case.artifact.manifest.attack.votes
    assert case.judge is not None
    said = [claimed[place] for place in here.places]
    if case.judge.g.deterministic:
        other = [
            place
            for place, count, right, close in zip(here.places, said, here.right, here.close, strict=True)
            if count != votes * right and not close
        ]
        says = "the answer of every image is as claimed"
    else:
        other = _unlike(claimed, votes, here)
        says = _agreement(here, len(claimed))
    if other:
        named = first_few([str(int(case.artifact.indices[place])) for place in other[:5]], 5, len(other))
        return finding(code, "fail", f"not reproduced: {len(other)} of {len(said)} outcomes, of index {named}")
    return finding(code, "pass", says, images=float(len(said)), votes=float(here.votes))


def _unlike(claimed: Sequence[int], votes: int, here: Scores) -> list[int]:
    """Return the places whose claimed votes fresh ones refute, at ``LEVEL`` for all images together.

    Where the first votes on each image are few, those decide that were taken again where they contradict the claim:
    they are independent of the first ones, so that choosing these images by them changes no probability.
    """
    decisive = here if here.votes >= VOTES else here.again
    if decisive is None:
        return []
    said = [claimed[place] for place in decisive.places]
    p_values = image_p_values(said, votes, decisive.right, decisive.votes)
    return [place for place, p in zip(decisive.places, p_values, strict=True) if p < LEVEL / len(here.places)]


def _agreement(here: Scores, images: int) -> str:
    """Say on how many images there were how many votes, and how often one flips."""
    each = "each image" if len(here.places) == images else f"each of {len(here.places)} of {images} images"
    fresh = "one fresh vote" if here.votes == 1 else f"{here.votes} fresh votes"
    says = f"{fresh} on {each} and the claimed ones can be of one model"
    if here.again is not None:
        says += f"; {len(here.again.places)} of {here.doubtful} that contradict the claim got {here.again.votes} more"
    if here.votes == 1:
        return says
    flips = sum(min(right, here.votes - right) for right in here.right) / (here.votes * len(here.right))
    return f"{says}; a vote of this model flips with probability {percent(flips)} %"


def votes_are_not_lucky(case: Case) -> Check:
    """Compare all claimed votes with those of the verifier's own draws, by an exact test of two samples."""
    if case.attacked is None or case.judge is None:
        return not_checked("RV13", case.why_unscored)
    if case.judge.g.deterministic:
        return finding("RV13", "pass", "the model draws nothing, so no votes could be picked")
    votes, claimed = case.artifact.manifest.attack.votes, case.artifact.right.tolist()
    if not all(0 <= count <= votes for count in claimed):
        return not_checked("RV13", "the claimed votes are impossible")
    fresh, same = case.attacked, [claimed[place] for place in case.attacked.places]
    p = total_p_value(same, votes, fresh.right, fresh.votes)
    here = sum(fresh.right) / (fresh.votes * len(same))
    said = sum(same) / (votes * len(same))
    figures = {"p": p, "claimed": said, "here": here}
    words = (
        f"{percent(said)} % of the claimed votes are right, {percent(here)} % of fresh ones (exact test, p = {p:.2g})"
    )
    if p < LEVEL:
        return finding(
            "RV13", "fail", f"not reproduced: {words}; the noise was that of the attack, or picked", **figures
        )
    return finding("RV13", "pass", words, **figures)


def rejections_are_wrong(case: Case) -> Check:
    """Check that the model has no outputs beyond the classes, or that an answer there counts as wrong."""
    if case.attacked is None:
        return not_checked("RV15", case.why_unscored)
    classes, outputs = len(case.artifact.manifest.data.classes), case.attacked.outputs
    if outputs == classes:
        return finding("RV15", "pass", f"{outputs} outputs for {classes} classes")
    rejected = case.attacked.rejected
    return finding(
        "RV15",
        "warn",
        f"{outputs} outputs for {classes} classes: an answer beyond them is a rejection, which counts as wrong here; "
        f"{rejected} attacked images are rejected",
        rejected=float(rejected),
    )
