"""Which of several adversarial versions of an image to keep, and how often fresh noise is then right about it.

The panel that chooses scores nothing, and the votes that score have chosen nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rushkit.smoothing import Rule, SmoothedClassifier, Tally
from rushkit.system import derived_seed

RULES: tuple[Rule, ...] = ("majority", "mean")
# Draws that choose between the versions of an image.
SELECTION_SAMPLES = 100
# An image is settled when a vote of m draws would have to miss its mean by this many standard deviations to be right.
_SETTLED = 4.0
# What ``Search`` kept where it kept no attack's image.
ORIGINAL = -1


class Search:
    """The best version so far of each image of a block, on a panel of draws.

    Attributes:
        x_adv: (N, C, H, W) the versions.
        chosen: (N,) which attack made them; -1 for the image itself.
        broken: (N,) bool, the label loses the panel's vote.
        settled: (N,) bool, so clearly that further attacks cannot lower the accuracy under votes of m draws.
    """

    def __init__(self, g: SmoothedClassifier, x: Tensor, y: Tensor, seed: int) -> None:
        self._g = g
        self._y = y
        self._seed = seed
        self._samples = max(g.samples, SELECTION_SAMPLES)
        self._lead = torch.full((len(y),), -torch.inf, dtype=torch.float64, device=y.device)
        self.x_adv = x.clone()
        self.chosen = torch.full_like(y, ORIGINAL)
        self.broken = torch.zeros_like(y, dtype=torch.bool)
        self.settled = torch.zeros_like(y, dtype=torch.bool)

    def open(self) -> Tensor:
        """(n,) indices of the images that are worth another attack."""
        return (~self.settled).nonzero().squeeze(1)

    def take(self, attack: int, found: Tensor) -> None:
        """Keep the versions of one attack, whatever they do."""
        self.x_adv, self.chosen = found.clone(), torch.full_like(self.chosen, attack)

    def offer(self, attack: int, rows: Tensor, found: Tensor) -> int:
        """Keep what beats the best so far; returns how many images it is the first to break.

        Args:
            attack: Its number.
            rows: (n,) indices of the images that it was given.
            found: (n, C, H, W) its versions of them.
        """
        y = self._y[rows]
        # The same draws for every version, whoever is still in the batch: what differs is the image.
        with self._g.fixed_noise(self._seed):
            tally = self._g.tally(found, self._samples)
        share = _lead_share(tally, y)
        # A single draw is right as often as the label is drawn, whoever the rivals are; a vote, as the lead has it.
        worth = share if self._g.samples > 1 else 1 - _label_share(tally, y)
        # Confidence decides between equal votes.
        doubt = 1 - tally.confidence.gather(1, y[:, None]).squeeze(1).double() / tally.samples
        lead = worth * tally.samples + doubt
        better = lead > self._lead[rows]
        kept = rows[better]
        fresh = (share > 0) & ~self.broken[rows]
        self._lead[kept], self.x_adv[kept], self.chosen[kept] = lead[better], found[better], attack
        self.broken[rows] |= share > 0
        self.settled[kept] = _settled(tally, y, self._g.samples)[better]
        return int(fresh.sum())

    def state(self) -> dict[str, Tensor]:
        """What ``restore`` goes on from."""
        return {
            "x_adv": self.x_adv,
            "lead": self._lead,
            "chosen": self.chosen,
            "broken": self.broken,
            "settled": self.settled,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same block."""
        device = self._y.device
        self.x_adv, self.chosen = state["x_adv"].to(device), state["chosen"].to(device)
        self._lead = state["lead"].to(device)
        self.broken, self.settled = state["broken"].to(device), state["settled"].to(device)


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


def _lead_share(tally: Tally, y: Tensor) -> Tensor:
    """(N,) share of the draws by which the best other class leads the label."""
    own = tally.votes.gather(1, y[:, None]).squeeze(1)
    rival = tally.votes.scatter(1, y[:, None], -1).amax(dim=1)
    return (rival - own).double() / tally.samples


def _settled(tally: Tally, y: Tensor, m: int) -> Tensor:
    """(N,) whether a vote of m draws is as good as lost: its expected lead is many standard deviations."""
    own, lead = _label_share(tally, y), _lead_share(tally, y)
    # Of the lead that one draw brings; no panel shows a variance below one draw's worth.
    variance = (lead + 2 * own - lead.square()).clamp(min=1 / tally.samples)
    return (lead > 0) & (m * lead.square() >= _SETTLED**2 * variance)
