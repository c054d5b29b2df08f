"""A radius in words, as users write it: ``l-inf 8/255``."""

from __future__ import annotations

import math

from rushkit.rounding import as_asked


def norm_words(norm: str) -> str:
    """``linf`` -> "l-inf"."""
    return "l-inf" if norm == "linf" else norm


def eps_words(eps: float) -> str:
    """A radius as users write it: the shortest decimal that means it, or grey levels where these are shorter: 8/255."""
    decimal, levels = as_asked(eps), round(eps * 255, 2)
    grey = f"{as_asked(levels)}/255"
    return grey if len(grey) < len(decimal) and math.isclose(levels / 255, eps, rel_tol=1e-9) else decimal


def ball_words(norm: str, eps: float) -> str:
    """``linf``, 8/255 -> "l-inf 8/255"."""
    return f"{norm_words(norm)} {eps_words(eps)}"
