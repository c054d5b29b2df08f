"""BYORL: BYOL whose online network sees adversarial views, after the idea of Gowal et al. (2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rushkit.attacks.ascend import ascend
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.byol import Byol, byol_loss

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Byorl(Byol, Attacked):
    """ℓ(q(h_θ(v̂)), h_ξ(v')) + ℓ(q(h_θ(v̂')), h_ξ(v)), with the v̂ of the ball around v that maximises its own term.

    Gowal et al. (2021) describe the idea without code or all settings: this form of it is rushkit's own. The targets
    are those of the clean views. The options of the attack are those of ``Attacked``, the others ``Byol``'s.

    Args:
        attacked_views: Which of the online network's views are attacked: "both", the "first", or "none", as in BYOL.

    Raises:
        UsageError: as ``Byol`` and ``Attacked``.
    """

    attacked_views: Literal["both", "first", "none"] = "both"

    def __post_init__(self) -> None:
        Byol.__post_init__(self)
        Attacked.__post_init__(self)

    def shown(self, online: nn.Module, views: Tensor, goals: Tensor, batch: Batch) -> Tensor:
        """Return the views (2n, C, H, W), attacked where they are to be."""
        count = {"both": 2, "first": 1, "none": 0}[self.attacked_views] * len(batch.images)
        if not count:
            return views

        def loss(z: Tensor) -> Tensor:
            # In eval mode a joint pass is the same, and faster.
            predictions = online(z) if self.attack_bn == "eval" else self.passed(online, z, batch)
            return byol_loss(predictions, goals[:count]).sum()

        return torch.cat([ascend(online, loss, views[:count], self.ball(), batch), views[count:]])
