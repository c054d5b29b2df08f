"""TRADES (Zhang et al. 2019): cross-entropy on clean images, and the divergence of attacked from clean predictions."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rushkit.attacks.ascend import Start, ascend, attacking
from rushkit.errors import UsageError
from rushkit.models.modes import still
from rushkit.objectives.cutmix import cutmix
from rushkit.objectives.perturbed import Perturbed
from rushkit.objectives.supervised import Supervised, cross_entropy, divergence, labels_of, log_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Trades(Perturbed, Supervised):
    """CE(F(x), y) + β·KL(p(x) ‖ p(x̂)), with the x̂ of the ball that maximises the divergence (Zhang et al. 2019, eq. 5).

    The gradient goes through both arguments of the divergence. BatchNorm moves once for x and once for x̂. The options
    of the attack are those of ``Attacked``, and ``Perturbed`` has ``awp`` and ``awp_start``.

    Args:
        beta: Weight of the divergence; 1/λ in the paper.
        start: Where the attack starts: "gaussian" with standard deviation 0.001, "uniform" in the ball, or "clean",
            where the divergence is flat: for an attack on the labels alone.
        attack_target: What the attack moves away from: the prediction for the "clean" image, or the "labels"
            (Rebuffi et al. 2021, who mix them).
        moves_bn: Which passes of the loss move the running statistics of BatchNorm: "both" (TRADES), or the
            "adversarial" one alone (Rebuffi et al. 2021). Both passes normalise by their batch.
        cutmix: Whether a box of each image comes from another one before the attack (Yun et al. 2019).

    Raises:
        UsageError: a beta below 0, and as ``Attacked``; a clean start is refused unless the attack is on the labels.
    """

    beta: float = 6.0
    start: Start = "gaussian"
    attack_target: Literal["clean", "labels"] = "clean"
    moves_bn: Literal["both", "adversarial"] = "both"
    cutmix: bool = False

    def __post_init__(self) -> None:
        if not self.beta >= 0:
            raise UsageError(f"beta must be at least 0 (got {self.beta!r})", "the paper's is 6")
        super().__post_init__()

    @property
    def flat_at_start(self) -> bool:
        """Whether the attack climbs the divergence from the clean prediction, which is flat there."""
        return self.attack_target == "clean"

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of the views and their attacked versions."""
        labels_of(batch)
        x, target = cutmix(batch) if self.cutmix else (batch.view(), batch.targets())
        moved = self._attacked(network, x, target, batch)

        def loss() -> Tensor:
            with still(network) if self.moves_bn == "adversarial" else nullcontext():
                clean = network(x)
            divergences = divergence(log_softmax(clean), log_softmax(network(moved)))
            batch.note(divergence=batch.mean(divergences))
            return batch.mean(cross_entropy(clean, target) + self.beta * divergences)

        yield from self.awp_steps(network, loss, batch)

    def _attacked(self, network: Network, x: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Return x̂ (n, C, H, W), the end of an ascent from x (n, C, H, W) with targets (n, K)."""
        ball = self.ball()
        if self.attack_target == "labels":
            return ascend(network, lambda z: cross_entropy(network(z), target).sum(), x, ball, batch)
        # The mode of the attack is its target's too.
        with attacking(network, ball, x.device), torch.no_grad():
            clean = log_softmax(network(x))
        return ascend(network, lambda z: divergence(clean, log_softmax(network(z))).sum(), x, ball, batch)
