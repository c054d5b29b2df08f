"""DynACL (Luo et al. 2023): ACL of a network that follows its learner, with views that weaken and a growing weight."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from rushkit.attacks.ascend import ascend
from rushkit.errors import UsageError
from rushkit.models.branches import follow, twin
from rushkit.objectives.attacked import Attacked
from rushkit.objectives.gather import gather_over_ranks
from rushkit.objectives.nt_xent import chance_loss, check_temperature, nt_xent
from rushkit.objectives.projector import Projected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rushkit.models.network import Network
    from rushkit.objectives import Batch

# A share of a run such as 15/22, times 22, may lie just below 15.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class DynAcl(Attacked, Projected):
    """(1 − w/2) C(q_c(t1), k_c(t2)) + (w/2) C(q_a(x̂1), k_a(x̂2)), C is NT-Xent; x̂1, x̂2 together raise the second term.

    k is the moving average of the learner q: k ← τk + (1 − τ)q after each step, with the statistics of BatchNorm of its
    own passes. Both have a clean and an adversarial set of BatchNorm layers. The network is k with its adversarial set,
    which is used afterwards; q, which the optimizer trains, is part of the memory (Luo et al. 2023; their public code
    moves k before the step). With e = ⌊stages · p⌋ / stages at the share p of the run, the views have a strength of
    1 − e, and w = 1 + rise · e.

    Further options of the attack are those of ``Attacked``, and those of the projector are ``Projected``'s.

    Args:
        steps: Number of steps of the attack.
        temperature: Divides the cosine similarities.
        momentum_view: Whether k sees the second views; without, the network learns, and sees both, as in ACL.
        tau: τ, the share of k that stays at each step.
        stages: The number of stages of the run, each with a strength and a weight of its own.
        rise: What the weight w gains over the run.

    Raises:
        UsageError: a temperature that is not above 0, a tau outside [0, 1], no stages, a rise outside [0, 1], and as
            ``Attacked`` and ``Projected``.
    """

    steps: int = 5
    temperature: float = 0.5
    momentum_view: bool = True
    tau: float = 0.99
    stages: int = 20
    rise: float = 2 / 3

    def __post_init__(self) -> None:
        Attacked.__post_init__(self)
        Projected.__post_init__(self)
        check_temperature(self.temperature)
        for name, value in (("tau", self.tau), ("rise", self.rise)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be between 0 and 1 (got {value!r})", "the paper has 0.99 and 2/3")
        if self.stages < 1:
            raise UsageError(
                f"stages must be at least 1 (got {self.stages})",
                "stages = 1 changes neither the strength of the views nor the weight",
            )

    @property
    def kept_passes(self) -> int:
        """One view, clean and attacked, of what learns; both where it sees both."""
        return 2 if self.momentum_view else 4

    def weight(self, progress: float) -> float:
        """Return w, twice the share of the adversarial term, at a share of the run in [0, 1)."""
        return 1 + self.rise * self._elapsed(progress)

    def strength(self, progress: float) -> float:
        """Return the strength of the views at a share of the run in [0, 1): from 1, in stages, down to 1 / stages."""
        return 1 - self._elapsed(progress)

    def _elapsed(self, progress: float) -> float:
        """Return the share of the stages that are over."""
        return math.floor(self.stages * progress + _ROUNDING) / self.stages

    def attach(self, network: Network, shape: tuple[int, int, int, int]) -> nn.Module:
        """Return the clean branch, and the two of a learner; the network then is frozen, and follows."""
        memory = nn.ModuleDict({"clean": twin(network)})
        if self.momentum_view:
            learner = copy.deepcopy(network)
            memory.update({"learner": learner, "clean_learner": twin(learner)})
            for branch in (network, memory["clean"]):
                branch.requires_grad_(False)
        return memory

    def chance_loss(self, batch_size: int) -> float:
        """Return ln(2B - 1); see ``Contrasts``."""
        return chance_loss(batch_size)

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the loss of two views of each image; k follows after the step."""
        branches = cast("nn.ModuleDict", memory)
        following = nn.ModuleList([network, branches["clean"]])
        learning = following
        if self.momentum_view:
            learning = nn.ModuleList([branches["learner"], branches["clean_learner"]])
        adversarial, clean = (self._contrast(q, k) for q, k in zip(learning, following, strict=True))
        strength = self.strength(batch.progress)
        views = torch.cat([batch.view(strength=strength), batch.view(strength=strength)])
        robust = nn.ModuleList([learning[0], network])
        attacked = ascend(robust, lambda z: len(z) * adversarial(z), views, self.ball(), batch)
        share = self.weight(batch.progress) / 2
        terms = clean(views), adversarial(attacked)
        batch.note(clean_loss=terms[0], adversarial_loss=terms[1])
        yield (1 - share) * terms[0] + share * terms[1]
        if self.momentum_view:
            # Filters that a branch shares are among the parameters of each list once, so that they move once.
            follow(following, learning, self.tau)

    def _contrast(self, learner: nn.Module, follower: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return a function that maps two views (2n, C, H, W), one after the other, to their loss."""

        def loss(x: Tensor) -> Tensor:
            if learner is follower:
                first, second = learner(x).chunk(2)
            else:
                one, other = x.chunk(2)
                first, second = learner(one), follower(other)
            return nt_xent(first, second, self.temperature, gather_over_ranks())

        return loss
