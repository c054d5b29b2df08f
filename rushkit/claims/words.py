"""The sentences that state a claim: built from counts and the manifest, never read from the file."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from rushkit.claims.manifest import Manifest
from rushkit.recipe import toml
from rushkit.recipe.radius import ball_words
from rushkit.results.notes import Check, Status
from rushkit.results.statements import BY_THE_AUTHOR, rule_words, weights_statement
from rushkit.results.verification import Estimate, Verdict
from rushkit.results.words import at_most_words, listed, noise_words
from rushkit.rounding import counted, percent, percent_interval

# What no verification shows.
CANNOT = (
    "What this cannot show: that no stronger attack exists; that no other images were tried first, where the author "
    "chose them; that these weights are those of a paper (file and claim can change together, so compare the hash with "
    "one published elsewhere); how many runs were tried; that the attack was a fair one for a model that keeps its "
    "gradients away; that the model did not train on the test set. The hashes detect damage and mixing, not forgery: "
    "whoever writes the file writes them. An image that fools the model is a proof by itself; one that does not proves "
    "nothing."
)
# What no verification of certificates shows.
CANNOT_CERTIFY = (
    "What this cannot show: that no other images were tried first, where the author chose them; that these weights are "
    "those of a paper (compare the hash with one published elsewhere); how many runs were tried; that the model did "
    "not train on the test set. Fresh draws of some images are a sample: what was forged in few others may be missed."
)


def selection_words(manifest: Manifest) -> str:
    """Return which images they are: ``"all of cifar10/test"``."""
    data, selection = manifest.data, manifest.selection
    # What the section data of the recipe leaves of the split, which the indices count.
    limit = _data_limit(manifest)
    split = f"{data.split} after data.limit = {limit}" if limit else data.split
    if selection.rule == "chosen":
        return f"of {split}, {BY_THE_AUTHOR}"
    return rule_words(split, 0, 1) if selection.rule == "all" else rule_words(split, selection.limit, selection.skip)


def _data_limit(manifest: Manifest) -> int:
    """Return the recipe's ``data.limit``; 0 for none, or a text that is no recipe, which is refused elsewhere."""
    with contextlib.suppress(ValueError):
        data = toml.loads(manifest.recipe).get("data")
        limit = data.get("limit") if isinstance(data, dict) else 0
        return limit if isinstance(limit, int) else 0
    return 0


def claim_words(
    manifest: Manifest, claimed: Estimate, clean: Estimate, noise: Mapping[str, object], is_file: bool
) -> str:
    """Return what may be said of an attack: an upper bound on robust accuracy, and of which images.

    Args:
        manifest: The manifest.
        claimed: What the attack leaves.
        clean: The accuracy on the same images without it.
        noise: The noise of the votes, as a recipe has it.
        is_file: Whether the attack is that of a file; else of a run.
    """
    attack = manifest.attack
    images, vote = counted(manifest.images, "image"), listed(attack.words(), f"noise {noise_words(noise)}")
    quoted = "" if attack.protocol == "strict" else " Only the protocol strict may be quoted, and this is not it."
    return (
        f"On these {images} ({selection_words(manifest)}) the attack in this {'file' if is_file else 'run'} "
        f"({vote}) leaves {at_most_words(claimed)} right, clean errors counted as wrong, against "
        f"{percent(clean.accuracy)} % of the same images clean. Each attacked image lies within "
        f"{ball_words(attack.norm, attack.eps)} and was scored again here. A stronger attack may leave fewer."
        f"{quoted} {weights_statement(manifest.model.hash)}"
    )


def sentence(
    manifest: Manifest, checks: Sequence[Check], claimed: Estimate, here: Estimate | None, verdict: Verdict
) -> str:
    """Return ``"200 images, all within 8/255 and [0, 1], hashes match; now 6.5 % [..], claimed 6.6 %: consistent"``."""
    statuses = {check.code: check.status for check in checks}
    ball = ball_words(manifest.attack.norm, manifest.attack.eps)
    inside = {
        "pass": f"all within {ball}",
        "fail": f"not all within {ball}",
        "skipped": f"whether they lie within {ball} was not checked",
    }[statuses["RV01"]]
    box = " and [0, 1]" if statuses["RV02"] == "pass" else ", not all in [0, 1]"
    hashes = _hash_words(statuses)
    scored = "not scored again" if here is None else f"now {_with_interval(here)}"
    fails = [check for check in checks if check.status == "fail"]
    reasons = f" ({'; '.join(f'{check.code} {check.name}' for check in fails)})" if fails else ""
    images = counted(manifest.images, "image")
    return f"{images}, {inside}{box}, {hashes}; {scored}, claimed {percent(claimed.accuracy)} %: {verdict}{reasons}"


def _with_interval(here: Estimate) -> str:
    return f"{percent(here.accuracy)} % [{percent_interval(here.low, here.high)}]"


def _hash_words(statuses: Mapping[str, Status]) -> str:
    of_hashes = [statuses[code] for code in ("RV00", "RV04", "RV07")]
    if "fail" in of_hashes:
        return "hashes do not match"
    unchecked = [what for code, what in (("RV04", "originals"), ("RV07", "weights")) if statuses[code] == "skipped"]
    return f"hashes of {' and '.join(unchecked)} not checked" if unchecked else "hashes match"
