"""Which of several adversarial versions of an image to keep, and how often fresh noise is then right about it.

The panel that chooses scores nothing, and the votes that score have chosen nothing. What fools a vote most need not
fool the mean softmax most: each rule keeps, and is judged on, a version of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.recipe.schema import Rule
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed
from rushkit.votes import Tally

RULES: tuple[Rule, ...] = ("majority", "mean")
# Draws that choose between the versions of an image.
SELECTION_SAMPLES = 100
# An image is settled when a vote of m draws would have to miss its mean by this many standard deviations to be right.
_SETTLED = 4.0
# What ``Search`` kept where it kept no attack's image.
ORIGINAL = -1


@dataclass
class Worst:
    """The version of each image that does worst under one rule.

    Attributes:
        x_adv: (N, C, H, W) the versions.
        lead: (N,) float64, by how much their panel goes against the label.
        lost: (N,) bool, so clearly that no other version can lower the accuracy of m draws.
    """

    x_adv: Tensor
    lead: Tensor
    lost: Tensor

    @classmethod
    def none(cls, x: Tensor) -> Worst:
        """Nothing found yet: the images themselves, which any version beats."""
        lead = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
        return cls(x.clone(), lead, torch.zeros_like(lead, dtype=torch.bool))

    def offer(self, rows: Tensor, found: Tensor, lead: Tensor, lost: Tensor) -> Tensor:
        """Keep the versions of images ``rows`` that beat what is kept; returns the rows where they do."""
        better = lead > self.lead[rows]
        kept = rows[better]
        self.x_adv[kept], self.lead[kept], self.lost[kept] = found[better], lead[better], lost[better]
        return kept


class Search:
    """The best version so far of each image of a block, by rule, on a panel of draws.

    Attributes:
        worst: What is kept for each rule.
        chosen: (N,) which attack made the version that does worst in a majority vote; -1 for the image itself.
        broken: (N,) bool, the label loses the panel's vote.
    """

    def __init__(self, g: SmoothedClassifier, x: Tensor, y: Tensor, seed: int) -> None:
        self._g = g
        self._y = y
        self._seed = seed
        self._samples = max(g.samples, SELECTION_SAMPLES)
        self.worst = {rule: Worst.none(x) for rule in RULES}
        self.chosen = torch.full_like(y, ORIGINAL)
        self.broken = torch.zeros_like(y, dtype=torch.bool)

    @property
    def x_adv(self) -> Tensor:
        """(N, C, H, W) the versions that do worst in a majority vote."""
        return self.worst["majority"].x_adv

    @property
    def settled(self) -> Tensor:
        """(N,) bool, so clearly broken that further attacks cannot lower the accuracy under any rule."""
        return torch.stack([kept.lost for kept in self.worst.values()]).all(dim=0)

    def open(self) -> Tensor:
        """(n,) indices of the images that are worth another attack."""
        return (~self.settled).nonzero().squeeze(1)

    def take(self, attack: int, found: Tensor) -> None:
        """Keep the versions of one attack, whatever they do."""
        for kept in self.worst.values():
            kept.x_adv = found.clone()
        self.chosen = torch.full_like(self.chosen, attack)

    def offer(self, attack: int, rows: Tensor, found: Tensor) -> int:
        """Keep what beats the best so far; returns how many images it is the first to break.

        Args:
            attack: Its number.
            rows: (n,) indices of the images that it was given.
            found: (n, C, H, W) its versions of them.
        """
        y, m = self._y[rows], self._g.samples
        # The same draws for every version, whoever is still in the batch: what differs is the image.
        with self._g.fixed_noise(self._seed):
            tally = self._g.tally(found, self._samples)
        share = _lead_share(tally.votes, tally.samples, y)
        # A single draw is right as often as the label is drawn, whoever the rivals are; a vote, as the lead has it.
        worth = share if m > 1 else 1 - _label_share(tally, y)
        # Confidence decides between equal votes.
        doubt = 1 - tally.confidence.gather(1, y[:, None]).squeeze(1).double() / tally.samples
        by_votes = worth * tally.samples + doubt, _settled(share, _vote_variance(tally, y), m, tally.samples)
        by_mean = by_votes
        # The mean softmax of a single draw says what its vote says.
        if m > 1:
            mean = _lead_share(tally.confidence, tally.samples, y)
            by_mean = mean, _settled(mean, _mean_variance(tally, y), m, tally.samples)
        kept = self.worst["majority"].offer(rows, found, *by_votes)
        self.worst["mean"].offer(rows, found, *by_mean)
        self.chosen[kept] = attack
        fresh = (share > 0) & ~self.broken[rows]
        self.broken[rows] |= share > 0
        return int(fresh.sum())

    def state(self) -> dict[str, Tensor]:
        """What ``restore`` goes on from."""
        kept = {f"{rule}.{name}": tensor for rule, worst in self.worst.items() for name, tensor in vars(worst).items()}
        return {"chosen": self.chosen, "broken": self.broken, **kept}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same block."""
        device = self._y.device
        self.chosen, self.broken = state["chosen"].to(device), state["broken"].to(device)
        for rule, worst in self.worst.items():
            for name in vars(worst):
                setattr(worst, name, state[f"{rule}.{name}"].to(device))


def count_right(g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int) -> dict[str, list[int]]:
    """By rule, for each image, how many of ``votes`` independent predictions by m fresh draws are right."""
    right = {rule: torch.zeros_like(y) for rule in RULES}
    with g.fresh_noise(seed):
        for _ in range(votes):
            tally = g.tally(x)
            for rule in RULES:
                right[rule] += tally.predict(rule) == y
    return {rule: counts.tolist() for rule, counts in right.items()}


def score_seeds(seed: int, start: int) -> tuple[int, int]:
    """Seeds of the votes on the adversarial images and on the originals of the block that starts there."""
    return derived_seed(seed, "score", start), derived_seed(seed, "clean", start)


def newly_wrong(right: Sequence[int], clean_right: Sequence[int]) -> int:
    """How many images lost every vote that the original won at least once."""
    return sum(count == 0 and before > 0 for count, before in zip(right, clean_right, strict=True))


def _label_share(tally: Tally, y: Tensor) -> Tensor:
    """(N,) share of the draws that say the label."""
    return tally.votes.gather(1, y[:, None]).squeeze(1).double() / tally.samples


def _lead_share(score: Tensor, samples: int, y: Tensor) -> Tensor:
    """(N,) by how much the best other class leads the label, a draw, in the (N, K) votes or confidences of all."""
    own = score.gather(1, y[:, None]).squeeze(1)
    rival = score.scatter(1, y[:, None], -1).amax(dim=1)
    return (rival - own).double() / samples


def _vote_variance(tally: Tally, y: Tensor) -> Tensor:
    """(N,) variance of the lead that one draw brings in a vote."""
    own, lead = _label_share(tally, y), _lead_share(tally.votes, tally.samples, y)
    return lead + 2 * own - lead.square()


def _mean_variance(tally: Tally, y: Tensor) -> Tensor:
    """(N,) at least the variance of the lead in softmax that one draw brings: as if label and rival went apart."""
    mean = tally.confidence / tally.samples
    deviation = (tally.confidence_squared / tally.samples - mean.square()).clamp(min=0).sqrt()
    rival = mean.scatter(1, y[:, None], -1).argmax(dim=1)
    apart = deviation.gather(1, y[:, None]) + deviation.gather(1, rival[:, None])
    return apart.squeeze(1).square().double()


def _settled(lead: Tensor, variance: Tensor, m: int, samples: int) -> Tensor:
    """(N,) whether m draws are as good as lost: their expected lead is many standard deviations.

    ``variance`` is a draw's, seen in ``samples`` of them; none that is below one draw's worth is believed.
    """
    return (lead > 0) & (m * lead.square() >= _SETTLED**2 * variance.clamp(min=1 / samples))
