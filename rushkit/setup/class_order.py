"""Tell whether a classifier knows the classes in another order than the data set has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rushkit.errors import first_few, shorten
from rushkit.rounding import percent
from rushkit.statistics import clopper_pearson_lower, clopper_pearson_upper

# The most probable that a false alarm may be; see explained_by_permutation.
FALSE_ALARM = 0.001
LEAST_GAIN = 0.05
# The best order of K classes takes about K**3 steps.
_MOST_CLASSES = 2000


@dataclass(frozen=True)
class OtherOrder:
    """A permutation of the classes that explains an accuracy.

    Attributes:
        accuracy: The share of the images that are right as they are.
        permuted: The share that would be right under the permutation.
        images: How many images both were measured on; the permutation was found on others.
        moved: Pairs (class, what the classifier answers for it), of those classes that the permutation moves.
    """

    accuracy: float
    permuted: float
    images: int
    moved: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        """Return a sentence about it, with the figures."""
        pairs = [f"{shorten(name, 40)} is answered with {shorten(said, 40)}" for name, said in self.moved]
        return (
            f"it seems to know the classes in another order: with them permuted {percent(self.permuted)} % would be "
            f"right instead of {percent(self.accuracy)} % ({self.images} images, on which the permutation was not "
            f"chosen): {first_few(pairs, 4, separator='; ')}"
        )


def explained_by_permutation(predictions: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> OtherOrder | None:
    """Return the permutation of the classes that explains a low accuracy; None if there is no such one.

    On a random half of the images the permutation is found that makes most of them right (the assignment problem, by
    ``scipy.optimize.linear_sum_assignment``). The rest is measured on the other half, which it does not depend on. The
    permutation explains only if

    - it gains more than ``LEAST_GAIN``: the lower Clopper-Pearson bound of the share that it makes right, less the
      upper bound of the share that it makes wrong, exceeds that;
    - it knows more than a guess: the lower bound of the permuted accuracy exceeds the upper bounds of the shares of all
      classes (a K-th of the error each), and no answer that does not depend on the image is right more often than one
      class comes;
    - it halves the errors, or doubles the accuracy, on these images.

    Each of the four bounds holds but for ``FALSE_ALARM`` / 4. So, by the union bound, a classifier that gains no more
    than ``LEAST_GAIN`` by the permutation, or knows no more than a guess, is said to be explained by it with a
    probability of at most ``FALSE_ALARM``, for images drawn independently.

    >>> explained_by_permutation(model(x).argmax(1), y, dataset.classes)

    Args:
        predictions: (N,) whole numbers; those that are no class, such as an abstention of -1, count as wrong.
        labels: (N,) whole numbers in [0, K).
        classes: The K names.
    """
    from scipy.optimize import linear_sum_assignment

    predicted, right, count = np.asarray(predictions), np.asarray(labels), len(classes)
    if not 2 <= count <= _MOST_CLASSES or len(right) < 2:
        return None
    order = np.random.default_rng(0).permutation(len(right))
    found_on, measured_on = order[: len(order) // 2], order[len(order) // 2 :]
    inside = found_on[(predicted[found_on] >= 0) & (predicted[found_on] < count)]
    table = np.zeros((count, count))
    np.add.at(table, (right[inside], predicted[inside]), 1)
    # Between permutations that are equally good, the one that moves fewer classes.
    _, answers = linear_sum_assignment(table * (count + 1) + np.eye(count), maximize=True)
    said, label, images = predicted[measured_on], right[measured_on], len(measured_on)
    as_is, permuted = said == label, said == answers[label]
    accuracy, other = as_is.mean(), permuted.mean()
    shares = clopper_pearson_upper(np.bincount(label, minlength=count), images, FALSE_ALARM / 4 / count)
    if _low(permuted & ~as_is) - _high(as_is & ~permuted) <= LEAST_GAIN or _low(permuted) <= shares.max():
        return None
    if 1 - other > (1 - accuracy) / 2 and other < 2 * accuracy:
        return None
    moved = tuple((classes[place], classes[answer]) for place, answer in enumerate(answers.tolist()) if place != answer)
    return OtherOrder(float(accuracy), float(other), images, moved)


def _low(hits: NDArray[np.bool_]) -> float:
    """Return a lower bound of the probability of a hit."""
    return float(clopper_pearson_lower(hits.sum(), len(hits), FALSE_ALARM / 4))


def _high(hits: NDArray[np.bool_]) -> float:
    return float(clopper_pearson_upper(hits.sum(), len(hits), FALSE_ALARM / 4))
