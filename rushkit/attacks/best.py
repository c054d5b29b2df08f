"""Keep the version of each image that fools the model most, while attacks offer new versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks import margins
from rushkit.attacks.losses import Loss
from rushkit.attacks.scoring import RULES
from rushkit.attacks.victim import Victim, derive
from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier
from rushkit.votes import Tally

# Draws of the panel that chooses between versions of an image.
SELECTION_SAMPLES = 100
# The attack number that stands for the clean image.
ORIGINAL = -1


@dataclass
class Best:
    """The attacker's best version of each image so far.

    Attributes:
        x_adv: (N, C, H, W) the versions.
        scores: Tensors (N,), larger is better for the attacker. They are compared in order: a later score only breaks
            ties in the earlier ones.
        settled: (N,) bool, images that need no further work; the code that scores the versions sets it.
    """

    x_adv: Tensor
    scores: tuple[Tensor, ...]
    settled: Tensor

    @classmethod
    def nothing(cls, x: Tensor, scores: int = 1, dtype: torch.dtype | None = None) -> Best:
        """Return a start from the clean images, which any offered version beats."""
        lowest = torch.full((len(x),), -torch.inf, dtype=dtype or x.dtype, device=x.device)
        settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return cls(x.clone(), tuple(lowest.clone() for _ in range(scores)), settled)

    def copy(self) -> Best:
        """Return a copy that later offers to this object do not change."""
        return Best(self.x_adv.clone(), tuple(score.clone() for score in self.scores), self.settled.clone())

    def offer(self, index: Tensor, x_adv: Tensor, *scores: Tensor) -> Tensor:
        """Keep each of the versions ``x_adv`` of the images ``index`` that scores higher than the one kept so far.

        Returns:
            (n,) bool, which of the offered versions were kept.
        """
        better = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        equal = ~better
        offered = [score.to(kept.dtype) for score, kept in zip(scores, self.scores, strict=True)]
        for score, kept in zip(offered, self.scores, strict=True):
            better |= equal & (score > kept[index])
            equal &= score == kept[index]
        replaced = index[better]
        self.x_adv[replaced] = x_adv[better]
        for score, kept in zip(offered, self.scores, strict=True):
            kept[replaced] = score[better]
        return better

    def take(self, index: Tensor, x_adv: Tensor) -> None:
        """Keep these versions, whatever their scores."""
        self.x_adv[index] = x_adv


class BestIterate:
    """The best iterate of each image, by a selection panel of the model's own noise that no gradient uses.

    A deterministic model needs no panel. Iterates are ranked by their margin in votes, then by the attack's loss. An
    image is settled once a deterministic model misclassifies it, or a random model loses its vote so clearly that
    chance hardly explains it.

    Args:
        victim: The model under attack.
        x: (N, C, H, W) clean images.
        y: (N,) labels.
        target: (N,) classes to be reached, or None.
        loss: Decides between iterates of equal margin.
        seed: Seeds the panel and the votes.
    """

    def __init__(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, loss: Loss, seed: int) -> None:
        self.victim, self.y, self.target = victim, y, target
        self._loss = loss
        self._seed = seed
        self._panel = derive(seed, "selection")
        self._best = Best.nothing(x, scores=2)

    @property
    def x_adv(self) -> Tensor:
        """(N, C, H, W) the best iterates."""
        return self._best.x_adv

    @property
    def settled(self) -> Tensor:
        """(N,) bool, images that need no further work."""
        return self._best.settled

    def offer(self, index: Tensor, x_adv: Tensor, logits: Tensor | None = None) -> None:
        """Keep each of the iterates ``x_adv`` of the images ``index`` that beats the one kept so far.

        For a deterministic model the ``logits`` (m, n, K) at the iterates are enough, if the attack has them. A random
        model is queried on the panel.
        """
        y, target = self.y[index], None if self.target is None else self.target[index]
        if self.victim.random or logits is None:
            logits = self.victim.logits(x_adv, draw=self._panel)
        margin = self.victim.panel_margin(logits, y, target)
        if not self.victim.random:
            self.settled[index] |= margin > 0
        self._best.offer(index, x_adv, margin, self._loss(logits, y, target))

    def take(self, index: Tensor, x_adv: Tensor) -> None:
        """Keep these iterates, whatever their scores."""
        self._best.take(index, x_adv)

    def confirm(self, climb: int) -> None:
        """Settle, before the climb of this number, the images of a random model that new draws find clearly wrong."""
        if not self.victim.random:
            return
        margin, _ = self._best.scores
        open_images = (~self.settled).nonzero().squeeze(1)
        promising = open_images[margin[open_images] > 0]
        if len(promising):
            target = None if self.target is None else self.target[promising]
            draw = derive(self._seed, "confirm", climb)
            verdict = self.victim.judge(self.x_adv[promising], self.y[promising], target, draw=draw)
            self.settled[promising] = verdict.clear


class BestByRule:
    """The best version of each image over several attacks, for each voting rule, on a panel of draws.

    The panel only chooses versions; the final scores come from other draws. The version that fools the majority vote
    most need not fool the mean softmax most, so each rule keeps a version of its own and is scored on it.

    Attributes:
        best: The versions kept for each rule. An image is settled once its vote is as good as lost.
        chosen: (N,) the attack whose version does worst in a majority vote; -1 for the clean image.
        broken: (N,) bool, whether the label loses the panel's vote.

    Args:
        g: The model under its noise.
        x: (N, C, H, W) clean images.
        y: (N,) labels.
        seed: Seeds the panel.
    """

    def __init__(self, g: SmoothedClassifier, x: Tensor, y: Tensor, seed: int) -> None:
        self._g = g
        self._y = y
        self._seed = seed
        self._samples = max(g.samples, SELECTION_SAMPLES)
        self.best = {rule: Best.nothing(x, dtype=torch.float64) for rule in RULES}
        self.chosen = torch.full_like(y, ORIGINAL)
        self.broken = torch.zeros_like(y, dtype=torch.bool)

    @property
    def x_adv(self) -> Tensor:
        """(N, C, H, W) the versions that do worst in a majority vote."""
        return self.best["majority"].x_adv

    @property
    def settled(self) -> Tensor:
        """(N,) bool, so clearly broken that further attacks cannot lower the accuracy under any rule."""
        return torch.stack([best.settled for best in self.best.values()]).all(dim=0)

    def open(self) -> Tensor:
        """(n,) indices of the images that are worth another attack."""
        return (~self.settled).nonzero().squeeze(1)

    def take(self, attack: int, x_adv: Tensor) -> None:
        """Keep the versions of one attack, whatever their scores."""
        for best in self.best.values():
            best.x_adv = x_adv.clone()
        self.chosen = torch.full_like(self.chosen, attack)

    def offer(self, attack: int, index: Tensor, x_adv: Tensor) -> int:
        """Keep the versions that beat the best so far.

        Args:
            attack: The number of the attack.
            index: (n,) the images that it attacked.
            x_adv: (n, C, H, W) its versions of them.

        Returns:
            The number of images that this attack is the first to break.
        """
        y = self._y[index]
        # Every version gets the same draws, whichever images are left in the batch, so only the image differs.
        with self._g.fixed_noise(self._seed):
            tally = self._g.tally(x_adv, self._samples)
        scores = self._scores(tally, y)
        for rule, (score, settled) in scores.items():
            better = self.best[rule].offer(index, x_adv, score)
            self.best[rule].settled[index[better]] = settled[better]
            if rule == "majority":
                self.chosen[index[better]] = attack
        lost = margins.vote_share(tally, y) > 0
        newly_broken = lost & ~self.broken[index]
        self.broken[index] |= lost
        return int(newly_broken.sum())

    def _scores(self, tally: Tally, y: Tensor) -> dict[Rule, tuple[Tensor, Tensor]]:
        """Return for each rule (n,) scores, larger is better for the attacker, and whether each image is settled."""
        m, draws = self._g.samples, tally.samples
        share = margins.vote_share(tally, y)
        # With a single draw, accuracy is the share of draws that give the label; with more, the margin decides.
        votes_lost = share if m > 1 else 1 - margins.label_share(tally, y)
        # Confidence breaks ties in votes.
        doubt = 1 - tally.confidence.gather(1, y[:, None]).squeeze(1).double() / draws
        settled = margins.is_settled(share, margins.vote_variance(tally, y), m, draws)
        majority = votes_lost * draws + doubt, settled
        if m == 1:
            # The mean softmax of a single draw predicts the same class as its vote.
            return {"majority": majority, "mean": majority}
        mean = margins.mean_share(tally, y)
        return {
            "majority": majority,
            "mean": (mean, margins.is_settled(mean, margins.mean_variance(tally, y), m, draws)),
        }

    def state(self) -> dict[str, Tensor]:
        """Return the tensors by name that ``restore`` needs."""
        tensors = {"chosen": self.chosen, "broken": self.broken}
        for rule, best in self.best.items():
            tensors |= {f"{rule}.x_adv": best.x_adv, f"{rule}.lead": best.scores[0], f"{rule}.lost": best.settled}
        return tensors

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state of the same images."""
        here = {name: tensor.to(self._y.device) for name, tensor in state.items()}
        self.chosen, self.broken = here["chosen"], here["broken"]
        self.best = {rule: Best(here[f"{rule}.x_adv"], (here[f"{rule}.lead"],), here[f"{rule}.lost"]) for rule in RULES}
