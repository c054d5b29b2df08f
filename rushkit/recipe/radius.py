"""Write a radius as users do (``l-inf 8/255``), and refuse one that cannot be in pixel units."""

from __future__ import annotations

import math

from rushkit.errors import UsageError
from rushkit.rounding import as_asked


def norm_words(norm: str) -> str:
    """``linf`` -> "l-inf"."""
    return "l-inf" if norm == "linf" else norm


def eps_words(eps: float) -> str:
    """Return a radius as users write it: the shortest decimal, or grey levels such as 8/255 where these are shorter.

    Either means the same float: 0.30000000000000004 is not 76.5/255.
    """
    decimal, levels = as_asked(eps), round(eps * 255, 2)
    grey = f"{as_asked(levels)}/255"
    return grey if len(grey) < len(decimal) and levels / 255 == eps else decimal


def ball_words(norm: str, eps: float) -> str:
    """``linf``, 8/255 -> "l-inf 8/255"."""
    return f"{norm_words(norm)} {eps_words(eps)}"


def longest_distance(norm: str, dim: int | None = None) -> float:
    """Return how far apart two images in [0, 1] can be, in pixel units; infinite if that depends on an unknown size.

    Args:
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        dim: C * H * W; None: not known yet.
    """
    if norm == "linf":
        return 1.0
    if dim is None:
        return math.inf
    return math.sqrt(dim) if norm == "l2" else float(dim)


def grey_levels(value: float) -> str:
    """Return what a number too large for pixel units most likely meant: ``8/255``."""
    return f"{as_asked(value)}/255"


def beyond_pixels(norm: str, length: float, dim: int | None = None) -> str | None:
    """Say what is wrong with a radius or step longer than any distance between two images; None if nothing is."""
    longest = longest_distance(norm, dim)
    if length <= longest:
        return None
    far = (
        "where 1 is the whole range" if norm == "linf" else f"where any two such images are at most {longest:.4g} apart"
    )
    return f"must be in pixel units, {far}; did you mean {grey_levels(length)}?"


def check_eps(norm: str, eps: float, dim: int | None = None, name: str = "eps") -> None:
    """Raise UsageError for a radius (or a step) that is negative, not finite, or longer than images are apart.

    Args:
        norm: Norm of the ball.
        eps: Radius of the ball, pixel units.
        dim: C * H * W of the images, which bounds l2 and l1; None: not known yet.
        name: What the number is called.
    """
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not math.isfinite(eps) or eps < 0:
        raise UsageError(f"{name} must be a finite number, 0 or more (got {eps!r})", "in pixel units, such as 8/255")
    if eps > (longest := longest_distance(norm, dim)):
        raise UsageError(
            f"{norm_words(norm)} {name} {as_asked(eps)} is more than two images in [0, 1] can be apart ({longest:.4g})",
            f"{as_asked(eps)} looks like {grey_levels(eps)}: radii are in pixel units, not in grey levels of 0 to 255",
        )
