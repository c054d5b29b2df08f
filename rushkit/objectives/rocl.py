"""RoCL (Kim et al. 2020): contrastive pre-training with a third view, the attack on the first away from the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rushkit.attacks.ascend import ascend, attacking
from rushkit.errors import UsageError
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.gather import Gather, gather_over_ranks
from rushkit.objectives.nt_xent import check_temperature, nt_xent_views
from rushkit.objectives.projector import Projected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch

View = Literal["other", "original"]


@dataclass(frozen=True, kw_only=True)
class RoCL(Attacked, Projected):
    """C_3(h(v1), h(v2), h(x̂)) + C_2(h(x̂), h(v2)) / λ, with the x̂ around v1 that maximises C_2 (Kim et al. 2020, eq. 7).

    C_V is NT-Xent of V views, summed over positives. Its negatives are those of all ranks, in the attack as well. The
    options of the attack are those of ``Attacked``, those of the projector ``Projected``'s.

    Args:
        steps: Number of steps of the attack; the paper's 7 have a step_size of 0.007.
        temperature: Divides the cosine similarities, in the attack and the regulariser as well.
        lam: λ, by which the regulariser is divided.
        regulariser: Which projections the regulariser takes: the loss's own ("shared", the paper's formula), or those
            of a pass of x̂ and its partner for themselves ("separate", the public code), which moves BatchNorm again.
        attack_to: The view that the attack moves away from: the "other" one, or the "original" that it starts from.
        regularise_to: The view that the regulariser pulls x̂ to.
        detach_keys: Whether the gradient goes through one side of each similarity alone, as in the public code: about
            half of the gradient.

    Raises:
        UsageError: a temperature or λ that is not above 0, and as ``Attacked`` and ``Projected``.
    """

    steps: int = 7
    temperature: float = 0.5
    lam: float = 256.0
    regulariser: Literal["shared", "separate"] = "shared"
    attack_to: View = "other"
    regularise_to: View = "other"
    detach_keys: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not self.lam > 0:
            raise UsageError(f"lam must be above 0 (got {self.lam!r})", "the paper's is 256")
        Attacked.__post_init__(self)
        Projected.__post_init__(self)

    @property
    def kept_passes(self) -> int:
        """Three views, and two more where the regulariser has a pass of its own."""
        return 3 if self.regulariser == "shared" else 5

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the loss of two views and the attacked first one, which share a pass of the network."""
        views = {"original": batch.view(), "other": batch.view()}
        moved = self._attacked(network, views["original"], views[self.attack_to], batch)
        z = dict(zip((*views, "moved"), network(torch.cat([*views.values(), moved])).chunk(3), strict=True))
        contrast = self._contrast(*z.values())
        if self.regulariser == "shared":
            pair = z["moved"], z[self.regularise_to]
        else:
            pair = network(torch.cat([moved, views[self.regularise_to]])).chunk(2)
        yield contrast + self._contrast(*pair) / self.lam

    def _attacked(self, network: Network, x: Tensor, partner: Tensor, batch: Batch) -> Tensor:
        """Return x̂ (n, C, H, W), the end of an ascent of C_2 from x with the view ``partner`` (n, C, H, W)."""
        ball = self.ball()
        # The partner stays where it is, and the network is in the mode of the attack: a single pass is enough.
        with attacking(network, ball, x.device), torch.no_grad():
            fixed = network(partner)
        # The mean over this rank's n images times n: the sum over ranks is that of the whole batch.
        return ascend(network, lambda z: len(x) * self._contrast(network(z), fixed), x, ball, batch)

    def _contrast(self, *views: Tensor) -> Tensor:
        """Return NT-Xent of projections (n, out) of some views over those of all ranks, a scalar."""
        return nt_xent_views(views, self.temperature, gather=self._gather())

    def _gather(self) -> Gather | None:
        gather = gather_over_ranks()
        if not self.detach_keys:
            return gather

        def detached(rows: Tensor) -> tuple[Tensor, int]:
            keys, first = (rows, 0) if gather is None else gather(rows)
            return keys.detach(), first

        return detached
