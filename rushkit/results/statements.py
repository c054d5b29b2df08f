"""The sentences that state what a model withstands, built from records by the rules of docs/claims.md.

What an attack leaves is an upper bound of the robustness, what a certificate proves a lower one. Each sentence says
which it is, about how many images, and how these were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.recipe.radius import ball_words, eps_words, norm_words
from rushkit.recipe.schema import Rule
from rushkit.results.attacks import AttackRow, variant_words
from rushkit.results.certification import Certification, CertifiedRate
from rushkit.results.words import (
    Accuracy,
    at_least_words,
    at_most_words,
    every_words,
    listed,
    low_words,
    proved_words,
)
from rushkit.rounding import counted, percent, percent_interval

# How images were chosen that no rule gives.
BY_THE_AUTHOR = "chosen by the author"
# What an upper bound leaves open.
MAY_LEAVE_FEWER = "This is an upper bound: a stronger attack may leave fewer."
MAY_BE_MORE = "This is a lower bound: more of them may be robust."


def chosen_words(indices: Sequence[int], split: str, limit: int, skip: int) -> str:
    """Return how images were chosen, where their indices agree with it.

    It is "all of test", "every 20th of test", "the first 500 of a fixed order of test", or "chosen by the author".

    Args:
        indices: (N,) the images' indices in the split, in any order.
        split: Name of the split, such as ``"test"``.
        limit: The most images that were asked for; 0: all. A limit takes the first of one permutation of the split.
        skip: Every ``skip``-th image was asked for.
    """
    if limit and len(indices) == limit:
        distinct = len(set(indices)) == len(indices) and all(index % skip == 0 for index in indices)
        return rule_words(split, limit, skip) if distinct else BY_THE_AUTHOR
    whole = not limit or len(indices) < limit
    every = sorted(indices) == list(range(0, len(indices) * skip, skip))
    return rule_words(split, 0, skip) if whole and every else BY_THE_AUTHOR


def rule_words(split: str, limit: int, skip: int) -> str:
    """Return which images of a split the options --limit and --skip choose; ``chosen_words`` has the sentences."""
    every = f"{every_words(skip)} of {split}"
    return f"the first {limit} of a fixed order of {every if skip > 1 else split}" if limit else every


def clean_statement(row: Accuracy, images: str, samples: int, conditions: str = "") -> str:
    """Return the sentence on an accuracy without an attack.

    Args:
        row: The accuracy.
        images: The images in words, as ``images_of`` returns them.
        samples: m, the number of draws in each vote.
        conditions: What else the figure depends on, such as ``"noise none, in bf16"``; empty for nothing.
    """
    share = f"{percent(row.accuracy)} % [{percent_interval(row.low, row.high)}]"
    return f"Without an attack, a vote of m = {samples} is right on {share} of {listed(images, conditions)}."


def attack_statement(row: AttackRow, chosen: str, rule: Rule = "majority", settings: str = "", noise: str = "") -> str:
    """Return the sentence on what an attack leaves: an upper bound, rounded up.

    Args:
        row: The attack.
        chosen: How the images were chosen, as ``chosen_words`` returns it.
        rule: The rule of voting.
        settings: The protocol and the settings in words; empty: the protocol's name.
        noise: The noise of the vote in words, where it must be said; empty where not.
    """
    share = row.rules[rule]
    return (
        f"Under {row.attack}, {ball_words(row.norm, row.eps)}, {settings or variant_words(row)}: "
        f"{at_most_words(share)} of {images_of(row.images, row.split, chosen)} stay right "
        f"({listed(f'm = {row.samples}', noise)}), against "
        f"{percent(share.clean_accuracy)} % of the same images clean. {MAY_LEAVE_FEWER}"
    )


def certificate_statement(results: Certification, chosen: str, row: CertifiedRate | None, noise: str = "") -> str:
    """Return the sentence on what is proved at a radius: a lower bound, rounded down.

    Args:
        results: The certification.
        chosen: How the images were chosen, as ``chosen_words`` returns it.
        row: The radius and the share; None: no image was certified at any radius above 0.
        noise: The noise in words, where it must be said; empty where not.
    """
    images = images_of(results.images, results.data, chosen)
    proved = f"Proved ({listed(results.method, noise, low_words(results.precision))})"
    norm = norm_words(results.norm)
    if row is None:
        return f"{proved}: of {images} none is certified at any {norm} radius above 0 that was asked for."
    together = ""
    if results.alpha:
        together = (
            f"; taken together, at least {proved_words(row)} % of these images do, but for one chance of "
            f"{results.alpha:g}"
        )
    return (
        f"{proved}: {at_least_words(row)} of {images} keep "
        f"their right class under every {norm} perturbation up to {eps_words(row.radius)}{together}. {MAY_BE_MORE}"
    )


def images_of(images: int, data: str, chosen: str) -> str:
    """Return "500 images of cifar10/test (all of test)"."""
    return f"{counted(images, 'image')} of {data}" + (f" ({chosen})" if chosen else "")


def weights_statement(digest: str) -> str:
    """Return the sentence on the weights that the figures are of."""
    return f"The weights have hash {digest}; compare it with the one published."
