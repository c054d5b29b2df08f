"""What a model answers with: logits, from which attacks take gradients, or no more than probabilities or labels."""

from __future__ import annotations

from typing import Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from rushkit.recipe.model_section import Answer as Answer

ANSWERS: tuple[Answer, ...] = get_args(Answer)

# The score of every class but the answered one: its softmax is 0 in float32, and it is finite.
_NOT_ANSWERED = -120.0


@runtime_checkable
class Answers(Protocol):
    """A module that says what it answers with; a module without this ability answers with logits that have gradients.

    Whatever it answers with, its ``forward`` returns (N, K) finite scores, whose softmax votes and attacks read:
    ``scores_of_probabilities`` and ``scores_of_labels`` make them. They have no gradient unless they are logits.
    """

    @property
    def answer_kind(self) -> Answer:
        """What its scores hold: ``logits``, ``probabilities`` (no gradient), or ``labels`` (the class alone)."""
        ...


def answer_kind(model: nn.Module) -> Answer:
    """Return what a model answers with; ``logits`` for a module that does not say.

    Example::

        answer_kind(model) == "labels"  # attack it by decisions: hopskipjump
    """
    if isinstance(model, Answers) and model.answer_kind in ANSWERS:
        return model.answer_kind
    return "logits"


def scores_of_probabilities(probabilities: Tensor) -> Tensor:
    """Return log-probabilities (N, K) as scores of probabilities (N, K) in [0, 1]; a probability of 0 stays finite."""
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()


def scores_of_labels(labels: Tensor, classes: int) -> Tensor:
    """Return scores (N, classes), float32, whose softmax is 1 at the answered labels (N,) int64 and 0 elsewhere."""
    scores = torch.full((len(labels), classes), _NOT_ANSWERED, device=labels.device)
    return scores.scatter(1, labels[:, None], 0.0)
