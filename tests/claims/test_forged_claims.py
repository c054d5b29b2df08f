"""Claims that somebody altered or made up: each is found by the check that is there for it.

A forger may fit the chain of hashes to what he alters; somebody who does not breaks it. Both are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from claimed import IMAGES, Claim
from torch import Tensor

from rushkit.attacks.norms import project
from rushkit.claims.artifact import Artifact, write_artifact
from rushkit.claims.canonical import encode
from rushkit.claims.chain import original_hashes, weights_hash
from rushkit.claims.container import IMAGES as IMAGES_MEMBER
from rushkit.claims.container import MANIFEST, write_container
from rushkit.claims.evidence import originals_of
from rushkit.claims.pack import portable_text
from rushkit.claims.targets import verify_file
from rushkit.claims.tensors import dump_tensors
from rushkit.errors import UsageError
from rushkit.recipe import toml
from rushkit.recipe.load import derive_recipe
from rushkit.results.adaptive import OwnAttackUsed, SurrogateUsed
from rushkit.results.attacks import Deviation
from rushkit.results.notes import Check
from rushkit.setup.components import to_float

Mutation = Callable[[Artifact, Claim], Artifact]


def told(artifact: Artifact, **changes: object) -> Artifact:
    """The artifact with its manifest changed; ``attack__eps`` is the radius."""
    manifest = artifact.manifest
    for key, value in changes.items():
        part, _, name = key.partition("__")
        value = getattr(manifest, part).with_changes(**{name: value}) if name else value
        manifest = manifest.with_changes(**{part: value})
    return replace(artifact, manifest=manifest)


def with_pixels(artifact: Artifact, value: float, count: int = 3) -> Artifact:
    images = artifact.images.clone()
    images[5].view(-1)[:count] = value
    return replace(artifact, images=images)


def swapped(column: Tensor, first: int, second: int) -> Tensor:
    out = column.clone()
    out[[first, second]] = column[[second, first]]
    return out


def other_labels(artifact: Artifact) -> tuple[int, int]:
    """Two images of different classes."""
    labels = artifact.labels
    return 0, int((labels != labels[0]).nonzero()[0])


def swap_labels(artifact: Artifact, claim: Claim) -> Artifact:
    return replace(artifact, labels=swapped(artifact.labels, *other_labels(artifact)))


def shift_pixels(artifact: Artifact, claim: Claim) -> Artifact:
    """One pixel of one image a quarter further than the radius allows."""
    clean = to_float(originals_of(claim.recipe, "test", artifact.indices).images)
    images = artifact.images.clone()
    images[7, 1, 4, 4] = (clean[7, 1, 4, 4] + 0.125) if clean[7, 1, 4, 4] < 0.5 else (clean[7, 1, 4, 4] - 0.125)
    return replace(artifact, images=images)


def taken(artifact: Artifact, rows: Iterable[int]) -> Artifact:
    """The artifact with only these images, or some of them twice."""
    chosen = torch.tensor(list(rows))
    parts = {name: tensor[chosen] for name, tensor in artifact.tensors().items()}
    return replace(told(artifact, images=len(chosen)), **parts)


def repeated(artifact: Artifact, claim: Claim) -> Artifact:
    return taken(artifact, [0, *range(IMAGES - 1)])


def selected(artifact: Artifact, claim: Claim) -> Artifact:
    """The images that the model gets wrong under the attack are dropped, and the limit is said to be lower."""
    rows = artifact.right.nonzero().squeeze(1).tolist()
    return told(taken(artifact, rows), selection__limit=len(rows))


def exchanged(artifact: Artifact, claim: Claim) -> Artifact:
    """An image of the rule's is replaced by another one of the data set, with its right hash and label."""
    spare = next(index for index in range(360) if index not in artifact.indices.tolist())
    indices, order = torch.cat([artifact.indices[1:], torch.tensor([spare])]).sort()
    originals = originals_of(claim.recipe, "test", indices)
    images = torch.cat([artifact.images[1:], artifact.images[:1]])[order]
    clean = to_float(originals.images)
    columns = {
        name: torch.cat([getattr(artifact, name)[1:], torch.ones(1).long()])[order] for name in ("right", "clean_right")
    }
    return replace(
        artifact,
        indices=indices,
        labels=originals.labels,
        originals=original_hashes(originals.images),
        images=project(clean, images, "linf", artifact.manifest.attack.eps),
        **columns,
    )


def flipped(name: str, rows: Iterable[int] = (3,)) -> Mutation:
    def flip(artifact: Artifact, claim: Claim) -> Artifact:
        column = getattr(artifact, name).clone()
        chosen = list(rows)
        column[chosen] = artifact.manifest.attack.votes - column[chosen]
        return replace(artifact, **{name: column})

    return flip


def scaled_weights(name: str, factor: float) -> Mutation:
    def scale(artifact: Artifact, claim: Claim) -> Artifact:
        weights = {key: value.clone() for key, value in artifact.weights.items()}
        weights[name] *= factor
        return replace(artifact, weights=weights)

    return scale


def other_model(artifact: Artifact, claim: Claim) -> Artifact:
    """Other weights with their own hash: only the outcomes tell."""
    forged = scaled_weights("head.weight", -1.0)(artifact, claim)
    return told(forged, model__hash=weights_hash(forged.weights))


def nan_weights(artifact: Artifact, claim: Claim) -> Artifact:
    """Weights of NaN with their own hash."""
    forged = scaled_weights("head.weight", float("nan"))(artifact, claim)
    return told(forged, model__hash=weights_hash(forged.weights))


def originals_returned(artifact: Artifact, claim: Claim) -> Artifact:
    """The clean images as the attacked ones, with the outcomes that these have."""
    clean = to_float(originals_of(claim.recipe, "test", artifact.indices).images)
    return replace(artifact, images=clean, right=artifact.clean_right)


def tiny_steps(artifact: Artifact, claim: Claim) -> Artifact:
    """An attack of eps/255 that says strict, with the outcomes that its images have; nothing is right on 0.3."""
    clean = to_float(originals_of(claim.recipe, "test", artifact.indices).images)
    images = clean + (artifact.images - clean) / 255
    return told(
        replace(artifact, images=images, right=artifact.clean_right), attack__protocol="strict", attack__eps=0.3
    )


def foreign_originals(artifact: Artifact, claim: Claim) -> Artifact:
    return replace(artifact, originals=artifact.originals.flip(1))


def one_foreign_original(artifact: Artifact, claim: Claim) -> Artifact:
    originals = artifact.originals.clone()
    originals[2, 0] ^= 1
    return replace(artifact, originals=originals)


def recipe_with(before: str, after: str) -> Mutation:
    def change(artifact: Artifact, claim: Claim) -> Artifact:
        assert before in artifact.manifest.recipe
        return told(artifact, recipe=artifact.manifest.recipe.replace(before, after))

    return change


def normalised(artifact: Artifact, claim: Claim) -> Artifact:
    """The recipe with means and deviations before the backbone, which it does not have."""
    changes = {"backbone.mean": [0.9, 0.1, 0.5], "backbone.std": [0.1, 1.0, 9.0]}
    return told(artifact, recipe=portable_text(derive_recipe(claim.recipe, changes)))


STAND_IN = SurrogateUsed(code="smooth.py:net", stands_for="model", images=9, agreement=1.0, fooled=0, carried=0)


def of_a_stand_in() -> Deviation:
    return Deviation(name="surrogate", value=STAND_IN.code, own=None, weaker=False)


# What is forged -> the check that finds it, and a word of what it says. The chain is fitted to all of it.
FORGED: dict[str, tuple[Mutation, str, str]] = {
    "an image beyond eps": (shift_pixels, "RV01", "outside the ball l-inf 0.1"),
    "a smaller radius": (lambda one, _: told(one, attack__eps=0.09), "RV01", "outside the ball"),
    "another norm's ball": (lambda one, _: told(one, attack__norm="l2"), "RV01", "outside the ball l2 0.1"),
    "a pixel above 1": (lambda one, _: with_pixels(one, 1.01), "RV02", "outside [0, 1]"),
    "a pixel below 0": (lambda one, _: with_pixels(one, -0.01), "RV02", "outside [0, 1]"),
    "NaN": (lambda one, _: with_pixels(one, float("nan")), "RV02", "1 of 40 images"),
    "NaN in the ball": (lambda one, _: with_pixels(one, float("nan")), "RV01", "outside the ball"),
    "infinity": (lambda one, _: with_pixels(one, float("inf")), "RV02", "NaN or infinite"),
    "8-bit that is not": (lambda one, _: told(one, attack__eight_bit=True), "RV03", "and are not"),
    "an original changed": (one_foreign_original, "RV04", "1 of 40 images"),
    "another data set": (foreign_originals, "RV04", "another data set"),
    "an image twice": (repeated, "RV05", "repeated"),
    "images selected": (selected, "RV05", "selected"),
    "an image exchanged": (exchanged, "RV05", "selected"),
    "all of the split": (lambda one, _: told(one, selection__rule="all"), "RV05", "not all of digits/test"),
    "labels swapped": (swap_labels, "RV06", "other labels"),
    "a label of no class": (lambda one, _: replace(one, labels=one.labels + 5), "RV06", "none of the 10 classes"),
    "a negative label": (lambda one, _: replace(one, labels=one.labels - 5), "RV06", "none of the 10 classes"),
    "other weights": (scaled_weights("head.weight", 1.001), "RV07", "other weights"),
    "another buffer": (scaled_weights("encoder.gain", 1.001), "RV07", "other weights"),
    "another model and hash": (other_model, "RV09", "not reproduced"),
    "other classes": (lambda one, _: told(one, data__classes=one.manifest.data.classes[::-1]), "RV18", "the classes"),
    "a smaller split": (lambda one, _: told(one, data__images=359), "RV18", "number of images"),
    "an outcome flipped": (flipped("right"), "RV09", "1 of 40 outcomes, of index"),
    "all outcomes flipped": (flipped("right", range(IMAGES)), "RV09", "40 of 40 outcomes"),
    "a count above the votes": (lambda one, _: replace(one, right=one.right + 1), "RV09", "impossible"),
    "a negative count": (lambda one, _: replace(one, right=one.right - 1), "RV09", "impossible"),
    "a clean outcome flipped": (flipped("clean_right"), "RV10", "1 of 40 outcomes"),
    "a clean error as robust": (
        lambda one, _: replace(one, clean_right=torch.ones_like(one.clean_right)),
        "RV10",
        "not reproduced",
    ),
    "originals returned": (originals_returned, "RV11", "nothing was attacked"),
    "an attack of eps/255": (tiny_steps, "RV12", "weaker: PGD"),
    "a stand-in added": (
        lambda one, _: told(one, attack__surrogate=STAND_IN),
        "RV22",
        "its settings name another stand-in",
    ),
    "a stand-in that no recipe asks for": (
        lambda one, _: told(one, attack__surrogate=STAND_IN, attack__deviations=[of_a_stand_in()]),
        "RV22",
        "asks for no pgd with this stand-in",
    ),
    "the protocol's name": (
        lambda one, _: told(one, attack__protocol="paper", attack__version=1),
        "RV22",
        "no such attack under paper",
    ),
    "strict, though weaker": (lambda one, _: told(one, attack__protocol="strict"), "RV22", "under strict, by protocol"),
    "a setting left out": (lambda one, _: told(one, attack__deviations=[]), "RV22", "by deviations"),
    "more effort": (lambda one, _: told(one, attack__effort=4), "RV22", "under strict, by effort"),
    "another seed": (lambda one, _: told(one, attack__seed=5), "RV22", "by seed"),
    "a larger radius": (lambda one, _: told(one, attack__eps=0.101), "RV22", "by eps"),
    "votes of more draws": (lambda one, _: told(one, attack__samples=64), "RV22", "by samples"),
    "code in the recipe": (
        recipe_with("[backbone]", '[model]\ncode = "net.py:net"\n\n[backbone]'),
        "RV22",
        "names code as the model",
    ),
    "the name of the data set": (lambda one, _: told(one, data__split="cifar10/test"), "RV18", "the name of digits"),
    "another split's name": (lambda one, _: told(one, data__split="digits/train"), "RV22", "by split"),
    "weights of NaN": (nan_weights, "RV09", "not reproduced: the model returned NaN"),
    "an own attack added": (
        lambda one, _: told(one, attack__own=[OwnAttackUsed(code="mine.py:attack")]),
        "RV22",
        "not the last of its candidates",
    ),
    "a recipe with an own attack": (recipe_with("also = []", 'also = ["mine.py:attack"]'), "RV22", "asks for no pgd"),
    "another attack's name": (lambda one, _: told(one, attack__attack="autoattack"), "RV22", "asks for no autoattack"),
    "another noise": (recipe_with('name = "none"', 'name = "uniform"\nscale = 5.0'), "RV13", "not reproduced"),
}
# The same against votes of a random model.
FORGED_VOTES: dict[str, tuple[Mutation, str, str]] = {
    "an outcome flipped": (lambda one, _: replace(one, right=flip_surest(one)), "RV09", "1 of 40 outcomes"),
    "lucky votes": (lambda one, _: replace(one, right=(one.right - 2).clamp(min=0)), "RV13", "not reproduced"),
    "more noise": (recipe_with("scale = 0.5", "scale = 3.0"), "RV13", "not reproduced"),
    "no noise": (recipe_with('name = "uniform"\nscale = 0.5', 'name = "none"'), "RV09", "not reproduced"),
}
# Altered without fitting the chain -> where it breaks.
ALTERED: dict[str, tuple[Mutation, str]] = {
    "the split": (lambda one, _: told(one, data__split="mnist/test"), "the data set"),
    "the recipe": (recipe_with("image_size = 8", "image_size = 16"), "the recipe"),
    "the hash of the weights": (lambda one, _: told(one, model__hash="0" * 64), "the weights"),
    "the radius": (lambda one, _: told(one, attack__eps=0.2), "the protocol"),
    "the program": (lambda one, _: told(one, made_by="rushkit 9.9"), "the protocol"),
    "the budget": (lambda one, _: told(one, attack__image_forwards=10**9), "the protocol"),
    "a label": (swap_labels, "originals and labels"),
    "an original": (one_foreign_original, "originals and labels"),
    "a pixel within the ball": (lambda one, _: replace(one, images=one.images * 0.999), "images and outcomes"),
    "an outcome": (flipped("right"), "images and outcomes"),
}


def checks_of(path) -> dict[str, Check]:
    verification = verify_file(path, seed=7)
    (attack,) = verification.attacks
    assert verification.verdict == attack.verdict == "inconsistent"
    assert attack.sentence.rpartition(": ")[2].startswith("inconsistent (")
    return {check.code: check for check in attack.checks}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_claim_is_found(fixed, tmp_path, name):
    mutate, code, words = FORGED[name]
    write_artifact(tmp_path / "forged.rushkit", mutate(fixed.artifact, fixed))
    checks = checks_of(tmp_path / "forged.rushkit")
    assert checks["RV00"].status == "pass"
    assert (checks[code].status, words in checks[code].says) == ("fail", True), checks[code]


@pytest.mark.parametrize("name", FORGED_VOTES)
def test_forged_votes_are_found(random, tmp_path, name):
    mutate, code, words = FORGED_VOTES[name]
    write_artifact(tmp_path / "forged.rushkit", mutate(random.artifact, random))
    checks = checks_of(tmp_path / "forged.rushkit")
    assert (checks[code].status, words in checks[code].says) == ("fail", True), checks[code]


@pytest.mark.parametrize("name", ALTERED)
def test_the_chain_names_what_was_altered(fixed, tmp_path, name):
    mutate, where = ALTERED[name]
    altered = mutate(fixed.artifact, fixed)
    images = dump_tensors(altered.tensors())
    manifest = altered.manifest.with_changes(sizes={IMAGES_MEMBER: len(images)}, chain=fixed.artifact.chain())
    write_container(tmp_path / "altered.rushkit", {MANIFEST: encode(manifest.to_table()), IMAGES_MEMBER: images})
    (attack,) = verify_file(tmp_path / "altered.rushkit", fixed.model, seed=7).attacks
    chain = next(check for check in attack.checks if check.code == "RV00")
    assert (chain.status, chain.says) == ("fail", f"altered: the chain of hashes breaks at {where}")


def flip_surest(artifact: Artifact) -> Tensor:
    """The counts with that of the surest image turned round."""
    right, votes = artifact.right.clone(), artifact.manifest.attack.votes
    surest = int((right * 2 - votes).abs().argmax())
    right[surest] = votes - right[surest]
    return right


def test_a_model_that_reads_images_otherwise_is_not_the_one_named(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", replace(fixed.artifact, weights=None))
    other = derive_recipe(fixed.recipe, {"backbone.mean": [0.5, 0.5, 0.5], "backbone.std": [0.5, 0.5, 0.5]})
    meta = {**fixed.model.meta, "recipe": toml.dumps(other.resolved())}
    (attack,) = verify_file(tmp_path / "a.rushkit", replace(fixed.model, meta=meta), seed=1).attacks
    assert [check.code for check in attack.checks if check.status == "fail"] == ["RV08"]


def test_without_the_data_set_the_rest_is_checked(fixed, tmp_path):
    """Rows that need originals are not checked, and the verdict says so: nothing was found to be within the ball."""
    foreign = recipe_with('name = "digits"\n', 'name = "cifar10"\n')(fixed.artifact, fixed)
    write_artifact(tmp_path / "a.rushkit", foreign)
    verification = verify_file(tmp_path / "a.rushkit", changes=[f"system.data_dir={tmp_path}"], seed=1)
    (attack,) = verification.attacks
    statuses = {check.code: check.status for check in attack.checks}
    assert verification.verdict == "incomplete"
    assert {code for code, status in statuses.items() if status == "skipped"} >= {"RV01", "RV04", "RV06", "RV10"}
    assert (statuses["RV09"], statuses["RV07"], statuses["RV02"]) == ("pass", "pass", "pass")
    assert "whether they lie within l-inf 0.1 was not checked" in attack.sentence


def test_without_the_model_nothing_is_reproduced(fixed, tmp_path):
    write_artifact(tmp_path / "a.rushkit", replace(fixed.artifact, weights=None))
    verification = verify_file(tmp_path / "a.rushkit", changes=[f"system.runs_dir={tmp_path / 'none'}"], seed=1)
    (attack,) = verification.attacks
    assert (verification.verdict, attack.here) == ("incomplete", None)
    assert "not scored again" in attack.sentence


def more_tensors(artifact: Artifact, claim: Claim) -> Artifact:
    return replace(artifact, weights={**artifact.weights, "encoder.more": torch.zeros(3)})


def no_tensors(artifact: Artifact, claim: Claim) -> Artifact:
    return replace(artifact, weights={})


@pytest.mark.parametrize("mutate", [more_tensors, normalised, no_tensors])
def test_weights_that_do_not_fit_the_recipe_are_other_weights(fixed, tmp_path, mutate):
    write_artifact(tmp_path / "a.rushkit", mutate(fixed.artifact, fixed))
    weights = checks_of(tmp_path / "a.rushkit")["RV07"]
    assert weights.status == "fail"
    assert "other weights: the weights of the file do not fit the recipe of the claim" in weights.says


@pytest.mark.parametrize("version", [1, 99])
def test_a_protocol_that_does_not_run_here_makes_no_claim(fixed, tmp_path, version):
    """Nobody can say here whether its settings are those of the protocol."""
    write_artifact(tmp_path / "a.rushkit", told(fixed.artifact, attack__version=version))
    verification = verify_file(tmp_path / "a.rushkit", seed=1)
    (attack,) = verification.attacks
    took_part = next(check for check in attack.checks if check.code == "RV22")
    assert (verification.verdict, attack.claim, took_part.status) == ("incomplete", "", "skipped")
    assert f"of version {version} is not known here" in took_part.says


def test_an_attack_that_is_not_here_leaves_the_claim_incomplete(fixed, tmp_path):
    foreign = recipe_with('type = "pgd"', 'type = "somebodys"')(told(fixed.artifact, attack__attack="somebodys"), fixed)
    write_artifact(tmp_path / "a.rushkit", foreign)
    verification = verify_file(tmp_path / "a.rushkit", seed=1)
    (attack,) = verification.attacks
    took_part = next(check for check in attack.checks if check.code == "RV22")
    assert verification.verdict == "incomplete"
    assert "its recipe cannot be planned here: unknown attack 'somebodys'" in took_part.says


def test_a_noise_that_is_not_here_is_said_to_be_the_claims(fixed, tmp_path):
    foreign = recipe_with('name = "none"', 'name = "somebodys"')(fixed.artifact, fixed)
    write_artifact(tmp_path / "a.rushkit", foreign)
    with pytest.raises(UsageError, match="the recipe of the claim does not run here: unknown noise 'somebodys'"):
        verify_file(tmp_path / "a.rushkit", seed=1)


def test_votes_of_very_many_draws_are_not_taken(random, tmp_path):
    """A file of a few kilobytes must not keep a reviewer's machine busy for days."""
    write_artifact(tmp_path / "a.rushkit", told(random.artifact, attack__samples=10**12))
    checks = checks_of(tmp_path / "a.rushkit")
    assert checks["RV09"].status == "skipped"
    assert "a vote of 1000000000000 draws takes too long" in checks["RV09"].says
