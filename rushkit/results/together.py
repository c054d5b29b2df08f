"""What certificates say of all images of a test set together, and the levels of the two bounds that share one alpha."""

from __future__ import annotations

import math

from rushkit.results.base import Count, Record, Share

# Terms of a tail that are smaller than it by so many powers of e are left out, and so much of it is kept free for that
# and for rounding.
_NEGLIGIBLE, _SLACK = 60.0, 1e-6


class Together(Record):
    """What certificates say of all their images together; docs/certificates.md proves it.

    Attributes:
        most_false: No more of the certificates are false, at any radius, but for a chance of alpha/2.
        strict_alpha: Probability, for each image, that its strict certificate is false: alpha/2 in all.
    """

    most_false: Count
    strict_alpha: Share

    def proved(self, count: int, strict: int) -> int:
        """Return how many images are right and robust at least, if ``count`` are certified and ``strict`` strictly."""
        return max(count - self.most_false, strict, 0)


def together_at(alpha: float, images: int) -> Together:
    """Return the levels of the two bounds that share ``alpha``, for certificates of so many images.

    Where nothing is left to chance nothing is subtracted, and of a single image its own certificate is the bound.

    Example::

        together_at(0.001, 10_000)  # Together(most_false=22, strict_alpha=5e-08)

    Raises:
        ValueError: alpha is 1, or too small for float64 to halve.
    """
    if not alpha or images == 1:
        return Together(most_false=0, strict_alpha=alpha)
    return Together(most_false=most_false(images, alpha, alpha / 2), strict_alpha=alpha / 2 / images)


def most_false(images: int, alpha: float, chance: float) -> int:
    """Return the smallest q such that X ~ Binomial(images, alpha) exceeds it with probability at most ``chance``.

    Written out without scipy, which a list of runs need not wait for. Rounding can make q larger, but not smaller.

    Args:
        images: Number of certificates.
        alpha: Probability that one is false, in (0, 1).
        chance: In (0, 1).

    Raises:
        ValueError: alpha or chance is 0 or 1.
    """
    log_odds, log_rest = math.log(alpha) - math.log1p(-alpha), math.log1p(-alpha)
    # The logarithm of P(X = k) / chance, for k = 0, 1, ...
    terms = [images * log_rest - math.log(chance)]
    while len(terms) <= images and (len(terms) <= images * alpha or terms[-1] > -_NEGLIGIBLE):
        k = len(terms)
        terms.append(terms[-1] + math.log((images - k + 1) / k) + log_odds)
    tail = 0.0
    for k in range(len(terms) - 1, 0, -1):
        tail += math.exp(terms[k])
        if tail > 1.0 - _SLACK:
            return k
    return 0
