"""Stability training (Zheng et al. 2016, Li et al. 2019): predictions on noisy images near those on clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rushkit.objectives.smoothed import check_weight
from rushkit.objectives.supervised import Supervised, cross_entropy, labels_of, log_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Stability(Supervised):
    """CE(F(x), y) + lam · CE(p(x), F(x + δ)): the clean prediction is the label of the noisy image (Zheng et al. 2016).

    The gradient goes through p(x) as well. It suits every smoothing distribution; x + δ is not clamped, as it is not
    when the smoothed classifier is evaluated.

    Args:
        lam: Weight λ of the noisy images.

    Raises:
        UsageError: the weight is negative or not finite.
    """

    lam: float = 2.0

    def __post_init__(self) -> None:
        check_weight("lam", self.lam)

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of the batch's views. Clean and noisy images share a pass, so that BatchNorm sees both.

        Raises:
            DataError: there are no labels.
        """
        labels_of(batch)
        x = batch.view()
        clean, noisy = network(torch.cat([x, x + batch.noise(x)])).chunk(2)
        unstable = cross_entropy(noisy, log_softmax(clean).exp())
        yield batch.mean(cross_entropy(clean, batch.targets()) + self.lam * unstable)
