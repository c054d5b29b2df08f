"""What the results of one job measure, image by image, for the columns of a study's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rushkit.certificates import rate
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Norm
from rushkit.report.protocols import PROTOCOLS, search_words, settings_words
from rushkit.report.search import change_words
from rushkit.report.study.figures import Quantity
from rushkit.results import Results
from rushkit.results.attacks import AttackRow, Attacks, Rescored, variant_words
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation
from rushkit.results.words import listed, low_words
from rushkit.rounding import counted

# Of a certification's radii so many are shown where the study does not say which.
_MOST_RADII = 3
_GROUPS = ("clean", "attacked", "certified")
# Certified radii in pixel units, by norm.
Radii = Mapping[Norm, Sequence[float]]
# They are no bound of the robustness, and each method has its own: the column is one, and each cell names its settings.
_OWN_SETTINGS = {
    "published": "the attack that each method was published with",
    "weaker": "attacks that fall short of strict",
}


@dataclass(frozen=True)
class Measured:
    """One figure of a job.

    Attributes:
        quantity: The column that it belongs to.
        samples: m of its votes; None where the model has no noise, or it is the figure of no m.
        value: The share of images, or of votes on them, that are right.
        low: Lower end of its 95 % interval over the images.
        high: Upper end.
        shares: Index of an image -> the share of its votes that are right.
        labels: Index of an image -> its label.
        ball: Data, norm and radius of an attack; empty without one.
        how: Settings that must be alike in all seeds of a row.
        remarks: What else qualifies the figure.
    """

    quantity: Quantity
    samples: int | None
    value: float
    low: float
    high: float
    shares: Mapping[int, float]
    labels: Mapping[int, int]
    ball: str = ""
    how: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def measured(results: Results, radii: Radii) -> Iterator[Measured]:
    """Yield the figures of results that a table has columns for, by majority vote.

    Args:
        results: Of one job.
        radii: Where certified accuracy is shown, by norm; a few of the certification's own in a norm without any.
    """
    seen: Counter[object] = Counter()
    for figure in _figures(results, radii):
        key = figure.quantity, figure.samples
        seen[key] += 1
        # Two attacks of one job may differ in options alone: each has a column.
        name = f"{figure.quantity.name} ({seen[key]})" if seen[key] > 1 else figure.quantity.name
        yield replace(figure, quantity=replace(figure.quantity, name=name))


def _figures(results: Results, radii: Radii) -> Iterator[Measured]:
    match results:
        case Evaluation():
            yield from _clean(results)
        case Attacks():
            noisy = results.noise.name != "none"
            for row in results.attacks:
                attacked = _attacked(row, row.samples if noisy else None)
                yield attacked
                yield from (_voted_again(attacked, row, further) for further in row.rescored)
        case Certification():
            yield from _certified(results, radii)


def order(quantity: Quantity) -> tuple[object, ...]:
    """Return what columns are sorted by: clean, then attacks with *paper* before *strict*, then certificates."""
    protocol = PROTOCOLS.index(quantity.protocol) if quantity.protocol in PROTOCOLS else -1
    place = _GROUPS.index(quantity.group), not quantity.ball, quantity.ball
    return *place, quantity.attack, quantity.radius, protocol


def _clean(results: Evaluation) -> Iterator[Measured]:
    indices, noisy = results.outcomes.images, results.noise.name != "none"
    labels = dict(zip(indices, results.outcomes.labels, strict=True))
    quantity = Quantity("clean", f"accuracy without an attack, {results.data}", "clean")
    how = tuple(filter(None, [low_words(results.precision)]))
    rows = [row for row in results.accuracy if row.rule == "majority"]
    # Without noise all numbers of draws say the same.
    for row in rows if noisy else rows[-1:]:
        predicted = results.outcomes.predicted[str(row.samples)][row.rule]
        shares = {index: float(guess == labels[index]) for index, guess in zip(indices, predicted, strict=True)}
        samples = row.samples if noisy else None
        yield Measured(quantity, samples, row.accuracy, row.low, row.high, shares, labels, how=how, remarks=how)


def _attacked(row: AttackRow, samples: int | None) -> Measured:
    vote, outcomes = row.rules["majority"], row.outcomes
    words, variant = ball_words(row.norm, row.eps), variant_words(row)
    ball, settings = f"{row.split}, {words}", listed(settings_words(row), search_words(row))
    if row.protocol in _OWN_SETTINGS:
        quantity = Quantity(
            row.protocol, f"{_OWN_SETTINGS[row.protocol]}; {row.split}", "attacked", "", "", row.protocol
        )
        settings = listed(f"{row.attack} {words}", f"m = {row.samples}" if samples else "", settings)
        samples = samples if row.protocol == "weaker" else None
    else:
        name = f"{row.attack} {words} {variant}"
        quantity = Quantity(name, f"{name}, {row.split}", "attacked", ball, row.attack, row.protocol)
    how = tuple(filter(None, [settings]))
    unsettled = change_words(row).endswith("not converged")
    right = np.asarray(outcomes.right["majority"]) / row.votes
    shares = dict(zip(outcomes.indices, right.tolist(), strict=True))
    labels = dict(zip(outcomes.indices, outcomes.labels, strict=True))
    remarks = (*how, "not converged") if unsettled else how
    return Measured(quantity, samples, vote.accuracy, vote.low, vote.high, shares, labels, ball, how, remarks)


def _voted_again(attacked: Measured, row: AttackRow, further: Rescored) -> Measured:
    """Return what votes of another number of draws leave of the images that were attacked for the m of a row."""
    name = f"{attacked.quantity.name}, attacked for m = {row.samples}"
    vote, right = further.rules["majority"], np.asarray(further.outcomes.right["majority"]) / row.votes
    return replace(
        attacked,
        quantity=replace(attacked.quantity, name=name, what=f"{name}, {row.split}"),
        samples=further.samples,
        value=vote.accuracy,
        low=vote.low,
        high=vote.high,
        shares=dict(zip(row.outcomes.indices, right.tolist(), strict=True)),
    )


def _certified(results: Certification, radii: Radii) -> Iterator[Measured]:
    outcomes = results.outcomes
    right = np.asarray(outcomes.predicted) == np.asarray(outcomes.labels)
    labels = dict(zip(outcomes.images, outcomes.labels, strict=True))
    draws = "" if results.mode == "splits" else counted(results.samples, "draw")
    made = listed(f"alpha {results.alpha:g} for each image", results.bound, draws, results.rule, results.mode)
    how = tuple(filter(None, [low_words(results.precision)]))
    for radius in radii.get(results.norm) or _some([row.radius for row in results.certified]):
        name = f"certified {ball_words(results.norm, radius)}"
        quantity = Quantity(name, f"{name}, {results.data}, {made}", "certified", results.norm, radius=radius)
        robust = right & (np.asarray(outcomes.radius) >= radius)
        share, shares = rate(robust), dict(zip(outcomes.images, robust.astype(float).tolist(), strict=True))
        yield Measured(quantity, None, share.value, share.low, share.high, shares, labels, how=how, remarks=how)


def _some(radii: Sequence[float]) -> list[float]:
    """Return a few of the radii at which a certification gives its accuracy, without 0."""
    positive = [radius for radius in radii if radius]
    return positive[:: max(1, -(-len(positive) // _MOST_RADII))]
