"""ACL (Jiang et al. 2020): NT-Xent of clean views, and of views attacked together, each with its own BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from rushkit.attacks.ascend import ascend, attacking
from rushkit.models.branches import twin
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.gather import gather_over_ranks
from rushkit.objectives.nt_xent import chance_loss, check_temperature, nt_xent
from rushkit.objectives.projector import Projected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Acl(Attacked, Projected):
    """½ C(h_c(t1), h_c(t2)) + ½ C(h_a(x̂1), h_a(x̂2)), where C is NT-Xent and x̂1, x̂2 together raise the second term.

    h_a is the network, which is used afterwards; h_c is its twin with BatchNorm layers of its own, the projector's
    included (Jiang et al. 2020, dual stream). The negatives are those of all ranks, in the attack as in the loss.
    Further options of the attack are those of ``Attacked``, and those of the projector are ``Projected``'s.

    Args:
        steps: Number of steps of the attack.
        temperature: Divides the cosine similarities.
        stream: "dual"; "adversarial", the second term alone (the paper's A2A); or "single", C(h_a(x̂1), h_c(t2)) with
            the x̂1 that raises it (A2S).

    Raises:
        UsageError: a temperature that is not above 0, and as ``Attacked`` and ``Projected``.
    """

    steps: int = 5
    temperature: float = 0.5
    stream: Literal["dual", "adversarial", "single"] = "dual"

    def __post_init__(self) -> None:
        Attacked.__post_init__(self)
        Projected.__post_init__(self)
        check_temperature(self.temperature)

    @property
    def kept_passes(self) -> int:
        """Two views, clean and attacked where there are both."""
        return 4 if self.stream == "dual" else 2

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the clean branch as ``clean``, unless no clean view has a part in the loss."""
        return nn.ModuleDict({} if self.stream == "adversarial" else {"clean": twin(network)})

    def chance_loss(self, batch_size: int) -> float:
        """Return ln(2B - 1); see ``Contrasts``."""
        return chance_loss(batch_size)

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the loss of two views of each image."""
        first, second = batch.view(), batch.view()
        if self.stream == "single":
            clean = memory.get_submodule("clean")
            moved = self._moved_from(clean, network, first, second, batch)
            yield self._contrast(network(moved), clean(second))
            return
        views = torch.cat([first, second])
        attacked = ascend(network, lambda z: len(z) * self._contrast(*network(z).chunk(2)), views, self.ball(), batch)
        loss = self._contrast(*network(attacked).chunk(2))
        if self.stream == "adversarial":
            yield loss
            return
        clean_loss = self._contrast(*memory.get_submodule("clean")(views).chunk(2))
        batch.note(clean_loss=clean_loss, adversarial_loss=loss)
        yield (clean_loss + loss) / 2

    def _moved_from(self, clean: nn.Module, network: nn.Module, x: Tensor, other: Tensor, batch: Batch) -> Tensor:
        """Return x̂ (n, C, H, W), the end of an ascent from the first view x against the clean second one."""
        ball = self.ball()
        # The mode of the attack is its target's too, and the target stays as it is in all steps.
        with attacking(clean, ball, x.device), torch.no_grad():
            target = clean(other)
        return ascend(network, lambda z: len(z) * self._contrast(network(z), target), x, ball, batch)

    def _contrast(self, first: Tensor, second: Tensor) -> Tensor:
        return nt_xent(first, second, self.temperature, gather_over_ranks())
