"""Find out whether a model is random by itself: run it twice on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Images in each of the two passes.
ROWS = 16
# The change, as a share of the largest logit, from which a model is random by itself. On a CPU the logits of any other
# model are the same bits; kernels that add up in varying order differ by about 1e-6.
RANDOM_FROM = 1e-3


@dataclass(frozen=True)
class Repeat:
    """What a second pass of a model over the same images changes.

    Attributes:
        change: The largest difference of two logits, as a share of the largest logit; logits that are NaN or infinite
            in either pass do not count.
        num_classes: K.
    """

    change: float
    num_classes: int

    @property
    def random(self) -> bool:
        """Whether the model is random by itself."""
        return self.change > RANDOM_FROM


def repeat(model: Callable[[Tensor], Tensor], x: Tensor) -> Repeat:
    """Run a model twice on the first 16 images, which are repeated if there are fewer.

    Args:
        model: (n, C, H, W) images -> (n, K) logits; it draws from generators of its own or from the global ones, whose
            state this leaves to the caller.
        x: (N, C, H, W) images.
    """
    rows = x[torch.arange(ROWS, device=x.device) % len(x)]
    first, second = model(rows), model(rows)
    finite = torch.isfinite(first) & torch.isfinite(second)
    first, second = (torch.where(finite, logits, 0.0) for logits in (first, second))
    largest = max(float(first.abs().amax()), 1e-12)
    return Repeat(float((first - second).abs().amax()) / largest, first.shape[1])
