"""Keep the version of each image that does worst for the model, while attacks offer more of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.losses import Loss
from rushkit.attacks.victim import Victim, derive


@dataclass
class Best:
    """The attacker's best version of each image so far.

    Attributes:
        x_adv: (N, C, H, W) the versions.
        scores: (N,) each, how well they serve the attacker. They are compared in order: a later score decides only
            between equal earlier ones.
        settled: (N,) bool, images that need no further work. Whoever judges a version sets it.
    """

    x_adv: Tensor
    scores: tuple[Tensor, ...]
    settled: Tensor

    @classmethod
    def nothing(cls, x: Tensor, scores: int = 1, dtype: torch.dtype | None = None) -> Best:
        """Start from the clean images, which any offered version beats."""
        lowest = torch.full((len(x),), -torch.inf, dtype=dtype or x.dtype, device=x.device)
        settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(x.clone(), tuple(lowest.clone() for _ in range(scores)), settled)

    def copy(self) -> Best:
        """A copy that later offers to this one do not change."""
        return Best(self.x_adv.clone(), tuple(score.clone() for score in self.scores), self.settled.clone())

    def offer(self, index: Tensor, x_adv: Tensor, *scores: Tensor) -> Tensor:
        """Keep those of the versions ``x_adv`` of the images ``index`` that score higher than what is kept.

        Returns:
            (n,) bool, which of the offered versions were kept.
        """
        better = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        equal = ~better
        offered = [score.to(kept.dtype) for score, kept in zip(scores, self.scores, strict=True)]
        for score, kept in zip(offered, self.scores, strict=True):
            better |= equal & (score > kept[index])
            equal &= score == kept[index]
        replaced = index[better]
        self.x_adv[replaced] = x_adv[better]
        for score, kept in zip(offered, self.scores, strict=True):
            kept[replaced] = score[better]
        return better

    def take(self, index: Tensor, x_adv: Tensor) -> None:
        """Keep these versions whatever they score."""
        self.x_adv[index] = x_adv


class BestIterate:
    """The best iterate of each image, by a selection panel of the model's own noise that no gradient sees.

    A deterministic model needs no panel. The margin in votes comes first, then the attack's loss. An image is settled
    where a deterministic model errs, and for a random model where a vote is lost so clearly that chance hardly
    explains it.

    Args:
        victim: The model under attack.
        x: (N, C, H, W) clean images.
        y: (N,) labels.
        target: (N,) classes to be reached, or None.
        loss: Decides between iterates of equal margin.
        seed: Seeds the panel.
    """

    def __init__(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, loss: Loss, seed: int) -> None:
        self.victim, self.y, self.target = victim, y, target
        self._loss = loss
        self._panel = derive(seed, "selection")
        self._best = Best.nothing(x, scores=2)

    @property
    def x_adv(self) -> Tensor:
        """(N, C, H, W) the best iterates."""
        return self._best.x_adv

    @property
    def settled(self) -> Tensor:
        """(N,) bool, images that need no further work."""
        return self._best.settled

    def offer(self, index: Tensor, x_adv: Tensor, logits: Tensor | None = None) -> None:
        """Keep those of the iterates ``x_adv`` of the images ``index`` that beat what is kept.

        ``logits`` (m, n, K) at the iterates, where the attack has them, are enough for a deterministic model. A random
        one is queried on the panel.
        """
        y, target = self.y[index], None if self.target is None else self.target[index]
        if self.victim.random or logits is None:
            logits = self.victim.logits(x_adv, panel=self._panel)
        margin = self.victim.panel_margin(logits, y, target)
        if not self.victim.random:
            self.settled[index] |= margin > 0
        self._best.offer(index, x_adv, margin, self._loss(logits, y, target))

    def take(self, index: Tensor, x_adv: Tensor) -> None:
        """Keep these iterates whatever they score."""
        self._best.take(index, x_adv)

    def confirm(self) -> None:
        """Settle, between restarts, the images of a random model that a fresh vote finds clearly wrong."""
        if not self.victim.random:
            return
        margin, _ = self._best.scores
        open_images = (~self.settled).nonzero().squeeze(1)
        promising = open_images[margin[open_images] > 0]
        if len(promising):
            target = None if self.target is None else self.target[promising]
            self.settled[promising] = self.victim.judge(self.x_adv[promising], self.y[promising], target).clear
