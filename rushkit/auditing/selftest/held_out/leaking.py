"""A broken defence that has seen the test images, devised after the thresholds were fixed.

It is expected to be hard to catch: it has seen most training images as well, so that these fare no worse. Images that
it has not seen fall as they do without it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import LEAK
from rushkit.auditing.selftest.ground import CLASSES, Ground
from rushkit.auditing.selftest.held_out.state import sketch

EPS = 0.15
# Training images, the last of them, that stay unseen: the evidence that it is broken.
UNSEEN = 128


class Memorised(nn.Module):
    """Answers with the label of the remembered image that an image resembles, beside a faint network.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        images: (M, C, H, W) the memory.
        labels: (M,) their labels.
        reach: The largest difference of two sketches that resemble each other, pixel units.
        gain: The logit of the label from memory.
        faint: What the network's logits are multiplied by.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        reach: float = 0.16,
        gain: float = 5.0,
        faint: float = 0.02,
    ) -> None:
        super().__init__()
        self.network, self.reach, self.gain, self.faint = network, reach, gain, faint
        self.register_buffer("sketches", sketch(images))
        self.register_buffer("answers", nn.functional.one_hot(labels, CLASSES).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W); slopes are those of the faint network."""
        distance, nearest = torch.cdist(sketch(x.detach()), cast(Tensor, self.sketches), p=torch.inf).min(dim=1)
        known = (distance <= self.reach).float()[:, None]
        return self.gain * known * cast(Tensor, self.answers)[nearest] + self.faint * cast(Tensor, self.network(x))


def _memorised(ground: Ground) -> Planted:
    (train, train_labels), (test, labels) = ground.train, ground.test
    images = torch.cat([train[:-UNSEEN], test])
    return Planted(Memorised(ground.base, images, torch.cat([train_labels[:-UNSEEN], labels])))


CASES = (Case("label leak, training images too", "broken", "linf", EPS, _memorised, LEAK, held_out=True),)
