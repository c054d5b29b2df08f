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


def repeat(model: Callable[[Tensor], Tensor], x: Tensor, classes: int = 0) -> Repeat:
    """Run a model twice on the first 16 images, which are repeated if there are fewer.

    Args:
        model: (n, C, H, W) images -> (n, K) logits; it draws from generators of its own or from the global ones, whose
            state this leaves to the caller.
        x: (N, C, H, W) images.
        classes: If the model has more outputs, those of so many classes are compared by themselves as well: the logit
            of a rejection may be so large that no change beside it counts. 0: all outputs are classes.
    """
    rows = x[torch.arange(ROWS, device=x.device) % len(x)]
    first, second = model(rows), model(rows)
    looks = [first.shape[1], *([classes] if 0 < classes < first.shape[1] else [])]
    return Repeat(max(relative_change(first[:, :some], second[:, :some]) for some in looks), first.shape[1])


def relative_change(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two logits (n, K), as a share of the largest of the first.

    Logits that are NaN or infinite in either do not count.
    """
    finite = torch.isfinite(first) & torch.isfinite(second)
    first, second = (torch.where(finite, logits, 0.0) for logits in (first, second))
    return float((first - second).abs().amax()) / max(float(first.abs().amax()), 1e-12)
