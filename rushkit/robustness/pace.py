"""The progress of the attack on a block: passes made and left, images settled, and where it may stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from rushkit.models.answers import Answer, answer_kind
from rushkit.smoothing import SmoothedClassifier


class Pace:
    """The progress of the attack on a block, which may be stopped between two passes of the model.

    Example::

        pace = Pace(show=lambda pace: work.pause())
        pace.watch(g)
        record, x_adv = attack_block(g, plan, section, block, seed, partial, pace)

    Args:
        show: Called with the pace after each change; it may raise to stop.

    Attributes:
        passes: Passes of single images so far, forward and backward, those of an earlier session included.
        settled: Number of images in the block whose outcome is decided.
        searched: Passes of the search, once it is over and the final votes have begun; None before.
        left: Passes that are left if no other image settles, without the final votes; None if that is not known.
    """

    def __init__(self, show: Callable[[Pace], None] = lambda pace: None) -> None:
        self._show = show
        self.passes, self.settled = 0, 0
        self.left: int | None = None
        self.searched: int | None = None

    def pause(self) -> None:
        """Call ``show``, which raises if the attack is to stop here."""
        self._show(self)

    def stands(self, passes: int, settled: int, left: int | None = None) -> None:
        """Set the figures after a piece of work, then pause as ``pause`` does; call it when the state can be stored."""
        self.passes, self.settled, self.left = max(passes, self.passes), settled, left
        self._show(self)

    def score(self) -> None:
        """Record that the search is over and the final votes begin."""
        self.searched, self.left = self.passes, 0

    def watch(self, g: SmoothedClassifier) -> None:
        """Count every pass of a classifier's model from now on, and pause before each forward pass."""
        g.model = _Watched(g.model, self)
        if g.search is not None:
            g.search = _Watched(g.search, self)

    def _forward(self, images: int) -> None:
        self._show(self)
        self._count(images)

    def _count(self, images: int) -> None:
        self.passes += images
        if self.left is not None:
            self.left = max(self.left - images, 0)


class _Watched(nn.Module):
    """A model that reports its passes to a pace."""

    def __init__(self, model: nn.Module, pace: Pace) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self._pace = pace

    @property
    def answer_kind(self) -> Answer:
        """What the model answers with."""
        return answer_kind(self.model)

    def forward(self, x: Tensor) -> Any:
        """Return what the model returns."""
        self._pace._forward(len(x))
        outputs = self.model(x)
        if isinstance(outputs, Tensor) and outputs.requires_grad and x.requires_grad:
            outputs.register_hook(lambda gradient: self._pace._count(len(gradient)))
        return outputs
