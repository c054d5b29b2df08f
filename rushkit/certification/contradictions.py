"""Empirical robust accuracy beside certified: what attacks found on the same model, images, norm and rule.

An image that is certified at a radius cannot lose its class to a perturbation of that size: the class keeps at least
half of the noise. A vote of a few draws can, so a vote that is lost is no contradiction; too many of them are.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rushkit.certificates import Certificates
from rushkit.certification.claim import Claim
from rushkit.certification.counts import ImageCounts, chosen_indices
from rushkit.errors import RushkitError
from rushkit.paths import read_text
from rushkit.recipe.load import read_recipe
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Certify, Recipe
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.names import RECIPE_FILE
from rushkit.statistics import binomial_at_least

# What is less likely than this while the certificates are true is called a contradiction.
FALSE_ALARM = 0.001
_SMALLEST = 1e-300
# What a row of an attack is compared by.
_NEEDED = {"attack", "protocol", "norm", "eps", "samples", "votes", "outcomes"}


def attacks_beside(
    recipe: Recipe, claim: Claim, model: str, of: int, counts: ImageCounts, certificates: Certificates
) -> list[dict[str, Any]]:
    """Each finished attack of the same model, noise, images and norm, with what is certified at its radius.

    Args:
        recipe: That of the certification.
        claim: What is certified.
        model: Hash of the checkpoint.
        of: How many images the split has.
        counts: The images and labels.
        certificates: Theirs.

    Returns:
        For each attack: run, protocol, deviations, eps, m, the votes T, the rule of both, the images that both looked
        at, its accuracy there, how many are certified there, how many of these keep half of the noise for certain and
        are compared, which of them it broke in every one of its T votes, the chance of that many if the certificates
        are true, and whether that is so small as to contradict them.
        The chance is None under the mean rule, whose votes may miss a mean above 1/2 as often as you like.
    """
    right = (certificates.predicted == counts.labels) & (certificates.predicted >= 0)
    radius = dict(zip(counts.images.tolist(), np.where(right, certificates.radius, -1.0).tolist(), strict=True))
    voted = dict(
        zip(counts.images.tolist(), np.where(right, _majority_radius(claim, certificates), -1.0).tolist(), strict=True)
    )
    rows: list[dict[str, Any]] = []
    for run in find_runs(recipe.system.runs_dir):
        attacked = run.about.hashes.get("parent")
        if run.verb == "attack" and run.status == "finished" and attacked == model:
            rows += _rows_of(run, recipe, claim, of, radius, voted)
    return rows


def contradictions(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence for each attack that the certificates cannot be true beside."""
    return [_contradiction(row) for row in rows if row["contradicts"]]


def _contradiction(row: dict[str, Any]) -> str:
    ball, lost = ball_words(row["norm"], row["eps"]), len(row["broken"])
    return (
        f"{lost} of {row['compared']} images that are certified at {ball} lost all {row['votes']} votes of "
        f"m = {row['samples']} under {row['attack']} ({row['protocol']}) of {row['run']}; were the certificates true, "
        f"so many would by chance with probability {_power_above(row['chance'])} at most: the certificate or the "
        f"attack is wrong; look at images {row['broken']}"
    )


def _power_above(chance: float) -> str:
    """A chance, rounded up to a power of ten: 3e-9 -> "1e-8"; never 0."""
    return f"1e{math.ceil(math.log10(max(chance, _SMALLEST)))}"


def _majority_radius(claim: Claim, certificates: Certificates) -> NDArray[np.float64]:
    """(N,) radii within which the class has at least half of the noise; a class may lead with less."""
    if claim.mode == "sequential" or not (claim.two_class or claim.mode == "splits"):
        return certificates.radius
    alone = np.asarray(claim.noise.certified_radius(certificates.p_lower, claim.norm, claim.dim))
    return np.minimum(certificates.radius, alone)


def chance_of_losses(lost: int, compared: int, images: int, samples: int, votes: int, alpha: float) -> float:
    """How likely ``lost`` or more of the ``compared`` certified images lose all T votes by chance, at most.

    A class with at least half of the noise wins a vote of m draws at least as often as m fair flips show more than m/2
    heads: ties count as lost. So a true certificate loses all T votes with the flips' probability at most. A false one
    may lose every time, and alpha is its chance among all images that were asked, not among those that were certified.

    Args:
        lost: Certified images that lost all T votes.
        compared: Certified images.
        images: Images that certification was asked about, certified or not.
        samples: m.
        votes: T.
        alpha: Probability, for each image, that its certificate is false.
    """
    flips = float(binomial_at_least(samples - samples // 2, samples, 0.5)) ** votes
    fewer = np.arange(min(lost, images) + 1)
    false = binomial_at_least(fewer, images, alpha)
    unlucky = np.array([binomial_at_least(k, compared, flips) if k <= compared else 0.0 for k in lost - fewer])
    # As many false ones as were lost explain all; the terms before it are exact numbers of false ones.
    return float(false[-1] * unlucky[-1] + np.maximum(-np.diff(false), 0.0) @ unlucky[:-1])


def _rows_of(
    run: RunInfo, recipe: Recipe, claim: Claim, of: int, radius: dict[int, float], voted: dict[int, float]
) -> list[dict[str, Any]]:
    results = run.results() or {}
    try:
        theirs = read_recipe(read_text(run.path / RECIPE_FILE), str(run.path))
    except (OSError, RushkitError):
        return []
    if theirs.data != recipe.data or theirs.noise != recipe.noise:
        return []
    rows = []
    for row in results.get("attacks", []):
        if not row.keys() >= _NEEDED:
            # Written by another version.
            continue
        section = next(
            (each for each in theirs.attack if (each.type, each.norm, each.eps) == _ball(row)),
            None,
        )
        if section is None or section.split != recipe.certify.split or row["norm"] != recipe.certify.norm:
            continue
        attacked = _attacked(of, len(row["outcomes"]["images"]))
        common = [(place, index) for place, index in enumerate(attacked) if index in radius]
        if common:
            rows.append(_row(run.path, row, common, claim, radius, voted))
    return rows


def _row(
    path: Path,
    row: dict[str, Any],
    common: list[tuple[int, int]],
    claim: Claim,
    radius: dict[int, float],
    voted: dict[int, float],
) -> dict[str, Any]:
    right = {index: row["outcomes"]["right"][claim.rule][place] for place, index in common}
    certified = [index for index in right if radius[index] >= row["eps"]]
    compared = [index for index in certified if voted[index] >= row["eps"]]
    broken = [index for index in compared if not right[index]]
    chance = None
    if claim.rule == "majority":
        chance = chance_of_losses(len(broken), len(compared), len(common), row["samples"], row["votes"], claim.alpha)
    return {
        "run": str(path),
        **{key: row[key] for key in ("attack", "protocol", "deviations", "norm", "eps", "samples", "votes")},
        "rule": claim.rule,
        "images": len(common),
        "empirical": sum(right.values()) / row["votes"],
        "certified": len(certified),
        "compared": len(compared),
        "broken": broken,
        "chance": chance,
        "contradicts": chance is not None and chance < FALSE_ALARM,
    }


def _attacked(of: int, count: int) -> list[int]:
    """Indices in the split of the images that an attack with this limit looked at, in its order."""
    return chosen_indices(of, Certify(limit=count), ordered=False).tolist()


def _ball(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["attack"], row["norm"], row["eps"]
