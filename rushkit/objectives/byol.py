"""BYOL (Grill et al. 2020): predict the projection that a slowly following copy of the network has of another view."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rushkit.errors import UsageError
from rushkit.models.branches import follow, frozen_copy
from rushkit.objectives.nt_xent import unit_rows
from rushkit.objectives.projector import Projected, Projector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


def byol_loss(predictions: Tensor, projections: Tensor) -> Tensor:
    """Return ‖p̄ − z̄‖² = 2 − 2 cos(p, z) of each pair of rows, in [0, 4] (Grill et al. 2020, eq. 2).

    It is computed in float32 (float64 for float64 rows) even under autocast.

    Args:
        predictions: p, (N, D), of any scale.
        projections: z, (N, D), of any scale; no gradient reaches them.

    Returns:
        (N,). A row of zeros has distance 1 from every direction.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        p, z = unit_rows(predictions), unit_rows(projections.detach())
        return (p - z).square().sum(dim=1)


def target_share(tau: float, progress: float) -> float:
    """Return τ_k = 1 − (1 − τ_0)(1 + cos(πk/K))/2, the share of the target that stays (Grill et al. 2020, section 3.3).

    Args:
        tau: τ_0, at the start.
        progress: k/K, the share of the run that is done; at 1 the target stands still.
    """
    return 1 - (1 - tau) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True)
class Byol(Projected):
    """ℓ(q(h_θ(v)), h_ξ(v')) + ℓ(q(h_θ(v')), h_ξ(v)) of two views, with ℓ(p, z) = 2 − 2 cos(p, z) (Grill et al. 2020).

    The target h_ξ starts as a copy of the network h_θ, and follows it after each step. It sees its views in train mode,
    with running statistics of its own. The target and the predictor q are training state: the network is the product.
    The options of the projector are those of ``Projected``, by default 4096 and 256 wide and batch-normalised.

    Args:
        tau: τ_0, the share of the target that stays in a step; it rises to 1 along half a cosine.
        joint_forward: Whether both views share a pass, so that BatchNorm sees them together; else each is a batch of
            its own, as in BYOL.
        predictor_hidden: Width of the predictor's hidden layer, which is batch-normalised.
        strength: How strong the views are, in [0, 1]: at 1 as the recipe's are. Weaker crops and colours suit
            adversarial training (Luo et al. 2023).

    Raises:
        UsageError: a tau or strength outside [0, 1], a width below 1, and as ``Projected``.
    """

    tau: float = 0.99
    joint_forward: bool = False
    hidden: int = 4096
    out: int = 256
    batch_norm: bool = True
    predictor_hidden: int = 4096
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("tau", self.tau), ("strength", self.strength)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be between 0 and 1 (got {value!r})", "the defaults are 0.99 and 1")
        if self.predictor_hidden < 1:
            raise UsageError(f"predictor_hidden must be at least 1 (got {self.predictor_hidden})", "BYOL's is 4096")
        super().__post_init__()

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the ``target``, a copy of the network, and the ``predictor`` of rows (N, out), which trains."""
        predictor = Projector(self.out, self.predictor_hidden, self.out, batch_norm=True)
        return nn.ModuleDict({"target": frozen_copy(network).train(), "predictor": predictor})

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of both predictions of each image; after the step the target follows.

        The spread of the target's projections is noted: 1 less the squared length of their mean direction, over all
        ranks. It is 0 where all images have the same projection, which is the collapse that BYOL may end in.
        """
        target, predictor = memory.get_submodule("target"), memory.get_submodule("predictor")
        views = torch.cat([batch.view(strength=self.strength), batch.view(strength=self.strength)])
        with torch.no_grad():
            first, second = self.passed(target, views, batch).chunk(2)
            directions = unit_rows(batch.whole(first))
            batch.note(spread=1 - directions.mean(dim=0).square().sum())
        # Each view is to predict the other.
        goals = torch.cat([second, first])
        online = nn.Sequential(network, predictor)
        predictions = self.passed(online, self.shown(online, views, goals, batch), batch)
        yield 2 * batch.mean(byol_loss(predictions, goals))
        follow(target, network, target_share(self.tau, batch.progress))

    def shown(self, online: nn.Module, views: Tensor, goals: Tensor, batch: Batch) -> Tensor:
        """Return what the online network sees (2n, C, H, W) in place of the views: here the views themselves.

        Args:
            online: The network and the predictor.
            views: (2n, C, H, W), the first view of each image and then the second.
            goals: (2n, out), what it is to predict from each.
            batch: For draws.
        """
        return views

    def passed(self, module: nn.Module, views: Tensor, batch: Batch) -> Tensor:
        """Return a module's outputs (k * n, D) for k views of each image, in one pass or in one for each view."""
        if self.joint_forward:
            outputs: Tensor = module(views)
            return outputs
        return torch.cat([module(view) for view in views.split(len(batch.images))])
