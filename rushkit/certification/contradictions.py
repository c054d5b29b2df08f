"""Compare certified with empirical robust accuracy, from attacks on the same model, images, norm and rule.

No perturbation within its radius changes the class of a certified image: the class keeps at least half of the noise. A
vote of a few draws can still be lost by chance, so a lost vote is no contradiction, but too many of them are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rushkit.certification.procedure import Conclusion, Procedure
from rushkit.errors import RushkitError
from rushkit.noises import Norm
from rushkit.paths import read_text
from rushkit.recipe.load import read_recipe
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe, Rule
from rushkit.results.attacks import AttackRow, Attacks, variant_words
from rushkit.results.certification import EmpiricalRow
from rushkit.results.records import read
from rushkit.run.info import find_runs
from rushkit.run.names import RECIPE_FILE
from rushkit.statistics import binomial_at_least

# Losses that are less likely than this if the certificates are true count as a contradiction.
FALSE_ALARM = 0.001
_SMALLEST = 1e-300


@dataclass(frozen=True)
class Certified:
    """The certified radii of the images.

    Attributes:
        norm: Norm of the radii.
        rule: Majority vote or mean softmax.
        alpha: Probability, for each image, that its certificate is false.
        radius: Index of an image -> certified radius, pixel units; -1 if its class is wrong or the procedure abstains.
        majority_radius: Index -> radius within which the class has at least half of the noise.
    """

    norm: Norm
    rule: Rule
    alpha: float
    radius: dict[int, float]
    majority_radius: dict[int, float]

    @classmethod
    def of(cls, procedure: Procedure, conclusion: Conclusion) -> Certified:
        """Return the certified radii of the images from the conclusion of a procedure."""
        counts, certificates = conclusion.counts, conclusion.certificates
        right = (certificates.predicted == counts.labels) & (certificates.predicted >= 0)
        images = counts.images.tolist()
        radius, majority = (
            dict(zip(images, np.where(right, radii, -1.0).tolist(), strict=True))
            for radii in (certificates.radius, procedure.majority_radius(certificates))
        )
        return cls(procedure.claim.norm, procedure.claim.rule, procedure.claim.alpha, radius, majority)


def attacks_beside(recipe: Recipe, model: str, certified: Certified) -> list[EmpiricalRow]:
    """Compare each finished attack on the same model, noise, images and norm with the certificates at its radius.

    Args:
        recipe: The recipe of the certification; its data, noise and split decide which attacks count.
        model: Hash of the checkpoint.
        certified: The certified radii.

    Returns:
        A row for each attack. It compares the images whose class is certified at its radius to keep half of the noise.
        The chance is None under the mean rule: a vote may fail arbitrarily often even if the mean is above 1/2.
    """
    return [
        row
        for folder, attack in _attacks_on(recipe, model, certified.norm)
        if (row := _row(folder, attack, certified)) is not None
    ]


def contradictions(rows: list[EmpiricalRow]) -> list[str]:
    """Return a sentence for each attack that contradicts the certificates."""
    return [_contradiction(row) for row in rows if row.contradicts]


def _contradiction(row: EmpiricalRow) -> str:
    assert row.chance is not None
    return (
        f"{len(row.broken)} of {row.compared} images that are certified at {ball_words(row.norm, row.eps)} lost all "
        f"{row.votes} votes of m = {row.samples} under {row.attack} ({variant_words(row)}) of {row.run}; were the "
        f"certificates true, so many would by chance with probability {_power_above(row.chance)} at most: the "
        f"certificate or the attack is wrong; look at images {row.broken}"
    )


def _power_above(chance: float) -> str:
    """Return a probability, rounded up to a power of ten: 3e-9 -> "1e-8"; never 0."""
    return f"1e{math.ceil(math.log10(max(chance, _SMALLEST)))}"


def chance_of_losses(lost: int, compared: int, images: int, samples: int, votes: int, alpha: float) -> float:
    """Return an upper bound on the probability that ``lost`` or more of the ``compared`` images lose all T votes.

    A class with at least half of the noise wins a vote of m draws at least as often as m fair coin flips give more than
    m/2 heads (ties count as lost), which bounds the probability that an image with a true certificate loses all T
    votes. An image with a false certificate may always lose; alpha bounds the probability of a false certificate among
    all images that were tried, not among the certified ones.

    Args:
        lost: Certified images that lost all T votes.
        compared: Certified images.
        images: Images that certification was tried on, certified or not.
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


def _attacks_on(recipe: Recipe, model: str, norm: Norm) -> Iterator[tuple[Path, AttackRow]]:
    """Yield the rows of all finished attacks of a model on the recipe's data and split, under its noise, in a norm."""
    for run in find_runs(recipe.system.runs_dir):
        attacked = run.about.hashes.get("parent")
        if run.verb != "attack" or run.status != "finished" or attacked != model:
            continue
        try:
            theirs, results = read_recipe(read_text(run.path / RECIPE_FILE), str(run.path)), read(run.path)
        except (OSError, RushkitError):
            continue
        if isinstance(results, Attacks) and theirs.data == recipe.data and theirs.noise == recipe.noise:
            for row in results.attacks:
                if row.split.endswith(f"/{recipe.certify.split}") and row.norm == norm:
                    yield run.path, row


def _row(folder: Path, attack: AttackRow, certified: Certified) -> EmpiricalRow | None:
    """Compare an attack with the certificates of the images that they share; None if they share none."""
    votes_right = zip(attack.outcomes.indices, attack.outcomes.right[certified.rule], strict=True)
    right = {index: votes for index, votes in votes_right if index in certified.radius}
    if not right:
        return None
    at_radius = [index for index in right if certified.radius[index] >= attack.eps]
    compared = [index for index in at_radius if certified.majority_radius[index] >= attack.eps]
    broken = [index for index in compared if not right[index]]
    chance = None
    if certified.rule == "majority":
        chance = chance_of_losses(len(broken), len(compared), len(right), attack.samples, attack.votes, certified.alpha)
    return EmpiricalRow(
        run=str(folder),
        attack=attack.attack,
        protocol=attack.protocol,
        version=attack.version,
        effort=attack.effort,
        deviations=attack.deviations,
        norm=attack.norm,
        eps=attack.eps,
        samples=attack.samples,
        votes=attack.votes,
        rule=certified.rule,
        images=len(right),
        empirical=sum(right.values()) / attack.votes,
        certified=len(at_radius),
        compared=len(compared),
        broken=broken,
        chance=chance,
        contradicts=chance is not None and chance < FALSE_ALARM,
    )
