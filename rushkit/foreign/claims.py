"""The accuracy that a foreign file claims for itself, and whether the clean check contradicts it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from rushkit.results.imported import Claim
from rushkit.statistics import binomial_at_least

# What training code calls the clean accuracy that it saves, that of these weights before the best of the training.
_KEYS = (
    "acc",
    "acc1",
    "accuracy",
    "clean_acc",
    "prec1",
    "test_acc",
    "test_accuracy",
    "top1",
    "top1_acc",
    "val_acc",
    "val_accuracy",
    "best_acc",
    "best_acc1",
    "best_accuracy",
    "best_prec1",
    "best_test_acc",
    "best_top1",
)
# Fewer right answers than this probability allows contradict the claim: one right import of a thousand does so.
LEAST_PROBABILITY = 0.001
# A claim above this is taken for this: an accuracy of 100 % is a rounded one, and one wrong answer would refute it.
_LARGEST = 0.995


def claim_of(beside: Mapping[str, object]) -> Claim | None:
    """Return the accuracy that a file states beside its weights; None where it states none.

    Args:
        beside: What stands beside the state dict, by key. A number up to 1 is a share, one up to 100 per cent; 0, which
            many write before the first measurement, is none.
    """
    stated = {key.lower(): (key, value) for key, value in beside.items()}
    for known in _KEYS:
        key, value = stated.get(known, ("", None))
        number = _number(value)
        if number is not None and 0 < number <= 100:
            return Claim(key=key, accuracy=number if number <= 1 else number / 100)
    return None


def chance_of_claim(claim: Claim, correct: int, images: int) -> float:
    """Return the probability of at most so many right answers if the claim held: P(X <= correct), X binomial.

    Args:
        claim: What the file states.
        correct: Right answers.
        images: Images that were classified.
    """
    accuracy = min(claim.accuracy, _LARGEST)
    return float(binomial_at_least(images - correct, images, 1 - accuracy))


def _number(value: object) -> float | None:
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex() or value.is_meta or value.is_quantized:
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
