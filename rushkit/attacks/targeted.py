"""A model seen as the question whether it answers one class, so that any attack becomes one towards that class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError, did_you_mean, shorten
from rushkit.models.answers import Answer, answer_kind
from rushkit.smoothing import SmoothedClassifier


class TowardsClass(nn.Module):
    """Two scores of a model: the largest logit of the other classes, and the target's.

    A draw gives 1 where the model answers the target and 0 elsewhere, so that an attack on images labelled 0 that
    leads away from their label leads the model to the target.

    Args:
        model: (N, C, H, W) images -> (N, K) logits.
        target: The class to be answered.
    """

    def __init__(self, model: nn.Module, target: int) -> None:
        super().__init__()
        self.training = model.training
        self.model, self._target = model, target

    @property
    def answer_kind(self) -> Answer:
        """What the model answers with."""
        return answer_kind(self.model)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 2) scores; an equal score of another class keeps the answer from being the target."""
        logits: Tensor = self.model(x)
        others = torch.cat([logits[:, : self._target], logits[:, self._target + 1 :]], dim=1).amax(dim=1)
        return torch.stack([others, logits[:, self._target]], dim=1)


def towards(g: SmoothedClassifier, target: int) -> SmoothedClassifier:
    """Return a classifier of two classes that answers 1 where a draw of ``g`` gives the target.

    Example::

        pgd = attacks.create("pgd", norm="linf", eps=8 / 255)
        x_adv = pgd(towards(g, target=3), x, torch.zeros_like(y))
    """
    return g.through(lambda model: TowardsClass(model, target))


def target_class(text: str, classes: Sequence[str]) -> int:
    """Return the index of the class that a text names: by its name, or else by its index.

    Raises:
        UsageError: there is no such class, or there are several of that name.
    """
    named = [index for index, name in enumerate(classes) if name == text]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise UsageError(f"{len(named)} classes are called {shorten(text)!r}", f"give an index: {named[0]}")
    if text.isdecimal() and text.isascii() and len(text) < 10 and int(text) < len(classes):
        return int(text)
    raise UsageError(
        f"the model has no class {shorten(text)!r}",
        did_you_mean(text, classes) or f"a name or an index from 0 to {len(classes) - 1}",
    )
