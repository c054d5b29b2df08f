"""Votes: add up a model's predictions on noisy copies of images, pass by pass, and return the winning class (eq. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.recipe.schema import Rule

# Unit of a confidence that is rounded down to a whole number: see ``VoteCounter``.
SCORE = 2**20


@dataclass(frozen=True)
class Tally:
    """The answers of a model to m noisy copies of each image, added up.

    Attributes:
        votes: (N, K) int64, how often each class had the largest logit.
        confidence: (N, K) float64, sum of the softmax over the draws.
        confidence_squared: (N, K) float64, sum of its squares, for variance bounds.
        samples: m.
    """

    votes: Tensor
    confidence: Tensor
    confidence_squared: Tensor
    samples: int

    def __repr__(self) -> str:
        images, classes = self.votes.shape
        return f"Tally({images} images, {classes} classes, {self.samples} draws each)"

    def predict(self, rule: Rule = "majority") -> Tensor:
        """Return (N,) int64 classes by most votes or by largest mean softmax; a tie goes to the lowest class."""
        if rule not in ("majority", "mean"):
            raise UsageError(f"unknown rule {rule!r}", "use majority or mean")
        score = self.votes.double() if rule == "majority" else self.confidence
        return first_argmax(score)


class VoteCounter:
    """Adds up votes and confidences of N images, pass by pass, on the device; a pass may hold copies of any images.

    Args:
        images: N.
        classes: K.
        device: Where the logits are.
        whole: Sum confidences as whole numbers instead of floats. Each is rounded down to a multiple of 1/SCORE, so
            that the sums are exact and the same in any order; a bound on the mean of the rounded confidences is one on
            the mean confidence, which is no smaller.

    Attributes:
        votes: (N, K) int64, how often each class had the largest logit.
        confidence: (N, K) sum of the softmax: float64 (float32 on MPS, which has no float64), or int64 in units of
            1/SCORE.
        confidence_squared: (N, K) sum of its squares: likewise, in units of 1/SCORE².
        finite: () bool, whether all logits so far were finite; the caller decides when to wait for the answer.
    """

    def __init__(self, images: int, classes: int, device: torch.device, whole: bool = False) -> None:
        number = torch.int64 if whole else torch.float32 if device.type == "mps" else torch.float64
        self.votes = torch.zeros(images, classes, dtype=torch.int64, device=device)
        self.confidence = torch.zeros(images, classes, dtype=number, device=device)
        self.confidence_squared = torch.zeros_like(self.confidence)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self._whole = whole

    def add(self, logits: Tensor, image: Tensor) -> None:
        """Count a pass.

        Args:
            logits: (n, K) float32 or float64.
            image: (n,) int64, the image that each row is a copy of.
        """
        self.finite &= torch.isfinite(logits).all()
        confidence = torch.softmax(logits, dim=1)
        confidence = (confidence * SCORE).floor().long() if self._whole else confidence.to(self.confidence.dtype)
        self.votes.index_put_((image, logits.argmax(dim=1)), self.votes.new_ones(()), accumulate=True)
        self.confidence.index_add_(0, image, confidence)
        self.confidence_squared.index_add_(0, image, confidence.square())


def first_argmax(score: Tensor) -> Tensor:
    """Return the index of the first largest entry, (N, K) -> (N,); torch.argmax may take any of several equal ones."""
    largest = score == score.amax(dim=1, keepdim=True)
    return largest.to(torch.uint8).cummax(dim=1).values.eq(0).sum(dim=1)
