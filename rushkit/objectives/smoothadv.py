"""SmoothAdv (Salman et al. 2019): adversarial training of a smoothed classifier, by one panel of noise a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rushkit.attacks import Norm
from rushkit.attacks.ascend import Start, ascend
from rushkit.attacks.ddn import ddn
from rushkit.errors import UsageError
from rushkit.objectives.perturbed import Perturbed
from rushkit.objectives.supervised import Supervised, cross_entropy, labels_of
from rushkit.smoothing import log_mean_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class SmoothAdv(Perturbed, Supervised):
    """Cross-entropy on x̂ + δ, where x̂ is the point of the ball at which −log p̄ of the label is highest (eq. S).

    p̄ is the mean softmax of m draws of the recipe's noise, the same draws in every step of the attack and in the loss.

    Further options of the attack are those of ``Attacked``, and ``Perturbed`` has ``awp`` and ``awp_start``.

    Args:
        norm: Norm of the attack's ball.
        eps: Radius of the ball, pixel units.
        start: Where the attack starts.
        attack: The attack: "pgd", or "ddn", which takes of the attack's options norm, eps, steps and attack_bn alone
            and looks for the shortest perturbation that p̄ does not survive (Rony et al. 2019).
        draws: m, the draws of noise for each image.
        train_noise: Whether the loss is the mean over "all" draws, or that of "one".
        warmup: Epochs over which the radius grows to eps, in equal steps from one epoch to the next; 1: none.
        chunk: Draws in one pass of the attack, whose forward passes are then made twice; None: all at once.

    Raises:
        UsageError: no draws, no epochs of warm-up, chunks whose BatchNorm would differ from that of the whole, an
            option that DDN does not have; and as ``Perturbed``.
    """

    norm: Norm = "l2"
    eps: float = 127 / 256
    start: Start = "clean"
    attack: Literal["pgd", "ddn"] = "pgd"
    draws: int = 1
    train_noise: Literal["all", "one"] = "all"
    warmup: int = 1
    chunk: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("draws", self.draws), ("warmup", self.warmup), ("chunk", self.chunk)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1 (got {value})", "leave it out for the default")
        if self.chunk is not None and self.attack_bn != "eval":
            raise UsageError(
                f"chunks of a batch have other statistics than the batch, which attack_bn = {self.attack_bn} takes",
                "attack_bn = eval, or leave chunk out",
            )
        if self.attack == "ddn":
            fixed = {"norm": "l2", "start": "clean", "step_size": None, "attack_rule": "sign"}
            for option, only in fixed.items():
                if (given := getattr(self, option)) != only:
                    raise UsageError(f"attack = ddn does not go with {option} = {given}", "attack = pgd does")

    @property
    def kept_passes(self) -> int:
        """The passes of the batch that are kept at once: of the attack those of a chunk, of the loss its draws."""
        attack = self.draws if self.chunk is None else min(self.chunk, self.draws)
        return self.draws if self.train_noise == "all" else attack

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean cross-entropy of the attacked views under the noise that they were attacked under."""
        labels = labels_of(batch)
        x, target = batch.view(), batch.targets()
        delta = batch.noise(x.repeat(self.draws, 1, 1, 1))
        log_prob = self.smoothed(network, delta)
        ball = self.ball(self.eps * min(1.0, (int(batch.epoch) + 1) / self.warmup))
        if self.attack == "ddn":
            moved = ddn(network, log_prob, x, labels, ball)
        else:
            moved = ascend(network, lambda z: -(target * log_prob(z)).sum(), x, ball, batch)
        copies = self.draws if self.train_noise == "all" else 1
        noisy, targets = moved.repeat(copies, 1, 1, 1) + delta[: copies * len(x)], target.repeat(copies, 1)
        yield from self.awp_steps(network, lambda: batch.mean(cross_entropy(network(noisy), targets)), batch)

    def smoothed(self, network: nn.Module, delta: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from images (n, C, H, W) to their log p̄ (n, K) under the draws δ (m·n, C, H, W)."""

        def log_prob(x: Tensor) -> Tensor:
            noisy = x.repeat(self.draws, 1, 1, 1) + delta
            if self.chunk is None:
                logits = network(noisy)
            else:
                pieces = noisy.split(max(1, self.chunk * len(x)))
                logits = torch.cat([checkpoint(network, piece, use_reentrant=False) for piece in pieces])
            return log_mean_softmax(logits.view(self.draws, len(x), logits.shape[1]))

        return log_prob
