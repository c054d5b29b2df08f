"""Broken defences whose answer for an image depends on more than the image, devised after the thresholds were fixed.

``Remembers`` is expected to be hard to catch: two passes agree, whatever the batch, because the second repeats the
first; what it hides is the answer that an attacked image would have had on its own.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import BATCH, RANDOMNESS, SATURATION
from rushkit.auditing.selftest.ground import Ground

EPS = 0.15


def sketch(x: Tensor) -> Tensor:
    """Return images (N, C, H, W), averaged over channels and 2x2 windows: (N, H / 2 * W / 2)."""
    return nn.functional.avg_pool2d(x.mean(dim=1), 2).flatten(1)


class Remembers(nn.Module):
    """Repeats an earlier answer for an image that resembles an earlier one (after Chen et al. 2020, stateful defences).

    It keeps its memory from pass to pass, as a service would. All that an attack asks about one image resembles the
    first of its queries. A service that has not seen these queries answers the attacked image otherwise.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        reach: The largest difference of two sketches that resemble each other, pixel units.
        room: Images that it remembers; once it is full, others are answered by the network alone.
        faint: What the network's logits for the image itself are multiplied by, beside the remembered ones.

    Attributes:
        seen: (M, H / 2 * W / 2) what it keeps of its queries; None if there were none.
        answers: (M, K) the logits of its answers.
    """

    def __init__(self, network: nn.Module, reach: float = 0.32, room: int = 1024, faint: float = 0.02) -> None:
        super().__init__()
        self.network, self.reach, self.room, self.faint = network, reach, room, faint
        self.forget()

    def forget(self) -> None:
        """Empty the memory."""
        self.seen: Tensor | None = None
        self.answers: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        logits = cast(Tensor, self.network(x))
        asked = sketch(x.detach())
        remembered = logits.detach().clone()
        new = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if self.seen is not None and self.answers is not None:
            distance, nearest = torch.cdist(asked, self.seen, p=torch.inf).min(dim=1)
            new = distance > self.reach
            remembered = torch.where(new[:, None], remembered, self.answers[nearest])
        self._remember(asked[new], remembered[new])
        return torch.where(new[:, None], logits, remembered + self.faint * logits)

    def _remember(self, asked: Tensor, answers: Tensor) -> None:
        if self.seen is None or self.answers is None:
            self.seen, self.answers = asked[: self.room], answers[: self.room]
        else:
            room = self.room - len(self.seen)
            self.seen = torch.cat([self.seen, asked[:room]])
            self.answers = torch.cat([self.answers, answers[:room]])


class Forgets(nn.Module):
    """The network of a defence that remembers, as it answers somebody who has asked nothing before.

    Args:
        model: The defence; it is made to forget in every pass.
    """

    def __init__(self, model: Remembers) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        self.model.forget()
        return cast(Tensor, self.model.network(x))


class Sharpens(nn.Module):
    """Raises the logits of a batch alike until the least certain of its images is certain.

    The more certain an image is beside the least certain one of its batch, the flatter the loss becomes for it.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        lead: By how much the first class of the least certain image is to lead the second.
        most: What logits are multiplied by at most.
    """

    def __init__(self, network: nn.Module, lead: float = 20.0, most: float = 1e3) -> None:
        super().__init__()
        self.network, self.lead, self.most = network, lead, most

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        logits = cast(Tensor, self.network(x))
        first, second = logits.detach().topk(2, dim=1).values.unbind(dim=1)
        least = (first - second).min().clamp(min=self.lead / self.most)
        return self.lead / least * logits


def _remembers(ground: Ground) -> Planted:
    model = Remembers(ground.base)
    return Planted(model, stand_in=Forgets(model))


def _sharpens(ground: Ground) -> Planted:
    return Planted(Sharpens(ground.base), stand_in=ground.base)


CASES = (
    Case("remembers its queries", "broken", "linf", EPS, _remembers, (*RANDOMNESS, *BATCH), held_out=True),
    Case("sharpens the batch", "broken", "linf", EPS, _sharpens, (*SATURATION, *BATCH), held_out=True),
)
