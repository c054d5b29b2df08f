"""Models with more outputs than the data has classes: an image whose answer is none of the classes is rejected.

Attacks look at the classes alone. A defence that counts a rejection as right would otherwise stop an attack at the
first rejection, long before it finds an image that is accepted with a wrong class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed


class RealClasses(nn.Module):
    """A model without its outputs beyond the classes of the data.

    Args:
        whole: (N, C, H, W) images -> (N, M) logits, of which the first K are those of the classes.
        classes: K.
    """

    def __init__(self, whole: nn.Module, classes: int) -> None:
        super().__init__()
        self.whole, self.classes = whole, classes
        self.training = whole.training

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        logits: Tensor = self.whole(x)
        return logits[:, : self.classes]


@dataclass(frozen=True)
class Answers:
    """How a model answers with all of its outputs: shares of its votes on some images, which sum to 1.

    Attributes:
        right: Share that give the label.
        rejected: Share that give no class of the data.
        wrong: Share that accept the image with a wrong class.
    """

    right: float
    rejected: float
    wrong: float


def of_real_classes(g: SmoothedClassifier, classes: int) -> SmoothedClassifier:
    """Return the classifier of the first K outputs, which goes on counting where it was.

    Args:
        g: A model under its noise, with M outputs of which the first K are the classes.
        classes: K.
    """
    search = None if g.search is None else RealClasses(g.search, classes)
    return _with_model(g, RealClasses(g.model, classes), search, g.image_forwards)


def answers(
    g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int, label: str, rows: Tensor | None = None
) -> Answers:
    """Let the whole model of a classifier of its real classes vote on images (N, C, H, W) with labels (N,).

    The draws are those of ``scoring.score`` with the same label and the same numbers ``rows`` of the images.
    """
    model = g.model
    assert isinstance(model, RealClasses)
    whole = _with_model(g, model.whole, None, 0)
    keys = torch.arange(len(x)) if rows is None else rows
    tally = whole.keyed_tally(x, keys, seed, f"audit score {label}", votes=votes)
    g.image_forwards += whole.image_forwards
    answer = tally.predict("majority").view(len(x), votes)
    right, rejected = answer == y[:, None], answer >= model.classes
    shares = [float(each.cpu().double().mean()) for each in (right, rejected, ~right & ~rejected)]
    return Answers(*shares)


def _with_model(
    g: SmoothedClassifier, model: nn.Module, search: nn.Module | None, image_forwards: int
) -> SmoothedClassifier:
    seed = derived_seed(0, "audit real classes")
    other = SmoothedClassifier(model, g.noise, g.samples, g.chunk, seed, search, g.own_draws)
    other.pause, other.image_forwards = g.pause, image_forwards
    return other
