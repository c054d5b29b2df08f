"""Adversarial training (Madry et al. 2018): cross-entropy on the images that an inner attack finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rushkit.attacks.ascend import ascend
from rushkit.objectives.cutmix import cutmix
from rushkit.objectives.perturbed import Perturbed
from rushkit.objectives.supervised import Supervised, cross_entropy, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class PgdAt(Perturbed, Supervised):
    """Cross-entropy on x̂, the point of the ball where an attack finds it highest (Madry et al. 2018, eq. 2.1).

    The options of the attack are those of ``Attacked``, and ``Perturbed`` has ``awp`` and ``awp_start``.

    Args:
        cutmix: Whether a box of each image comes from another one before the attack (Yun et al. 2019).
    """

    cutmix: bool = False

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean cross-entropy of the attacked views."""
        labels_of(batch)
        x, target = cutmix(batch) if self.cutmix else (batch.view(), batch.targets())
        moved = ascend(network, lambda z: cross_entropy(network(z), target).sum(), x, self.ball(), batch)
        yield from self.awp_steps(network, lambda: batch.mean(cross_entropy(network(moved), target)), batch)
