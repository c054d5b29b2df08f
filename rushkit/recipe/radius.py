"""A radius in words, as users write it: ``l-inf 8/255``."""

from __future__ import annotations


def norm_words(norm: str) -> str:
    """``linf`` -> "l-inf"."""
    return "l-inf" if norm == "linf" else norm


def eps_words(eps: float) -> str:
    """A radius as users write it: 0.5 where four digits say all, 8/255 where it is a whole number of grey levels."""
    short, levels = f"{eps:.4g}", round(eps * 255)
    return f"{levels}/255" if abs(float(short) - eps) > 1e-9 and abs(eps * 255 - levels) < 1e-6 else short


def ball_words(norm: str, eps: float) -> str:
    """``linf``, 8/255 -> "l-inf 8/255"."""
    return f"{norm_words(norm)} {eps_words(eps)}"
