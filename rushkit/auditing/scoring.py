"""Score attacked images by votes of fresh noise, and keep the worst version of each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.margins import margin
from rushkit.smoothing import SmoothedClassifier

# Draws behind every accuracy, in votes of m draws each; and votes on the worst versions.
SCORE_DRAWS, FINAL_VOTES = 64, 10
# The number that stands for no attack at all.
NONE = -1


def score_votes(m: int, deterministic: bool) -> int:
    """Return how many votes of m draws score one attack; without noise they would all be the same."""
    return 1 if deterministic else max(1, SCORE_DRAWS // m)


@dataclass(frozen=True)
class Scores:
    """The votes of fresh noise on N images.

    Attributes:
        share: (N,) share of the votes that are right.
        draws: (N,) share of all draws of the votes that give the label.
        lead: (N,) margin of the best other class over the label in all draws, as a share of the draws; the doubt in the
            label breaks ties. With m = 1 it is minus the share of draws that give the label, which is what accuracy
            then means.
    """

    share: list[float]
    draws: list[float]
    lead: list[float]


def score(
    g: SmoothedClassifier, x: Tensor, y: Tensor, votes: int, seed: int, label: str, rows: Tensor | None = None
) -> Scores:
    """Let fresh noise vote on images (N, C, H, W) with labels (N,).

    The label of the attack seeds the draws, together with the images' numbers ``rows``; None: 0 to N - 1.
    """
    keys = torch.arange(len(x)) if rows is None else rows
    tally = g.keyed_tally(x, keys, seed, f"audit score {label}", votes=votes)
    outcomes = tally.predict("majority").view(len(x), votes) == y[:, None]
    draws = votes * g.samples
    counts = tally.votes.view(len(x), votes, -1).sum(dim=1)
    confidence = tally.confidence.view(len(x), votes, -1).sum(dim=1)
    of_label = counts.gather(1, y[:, None]).squeeze(1).double()
    lost = margin(counts, y).double() if g.samples > 1 else -of_label
    doubt = 1 - confidence.gather(1, y[:, None]).squeeze(1).double() / draws
    share = outcomes.double().mean(dim=1)
    return Scores(
        share=share.tolist(),
        draws=(of_label / draws).tolist(),
        lead=((lost + doubt) / draws).tolist(),
    )


class WorstVersions:
    """The version of each image that does worst in the votes that score the attacks.

    These votes only choose: the accuracy on the chosen versions comes from votes of other draws.

    Attributes:
        x_adv: (N, C, H, W) the versions; the clean images before the first offer.
        lead: (N,) float64, the lead of each version.
        number: (N,) int64, the number of the attack that each version comes from.

    Args:
        x: (N, C, H, W) clean images.
    """

    def __init__(self, x: Tensor) -> None:
        self.x_adv = x.clone()
        self.lead = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        self.number = torch.full((len(x),), NONE, dtype=torch.int64)

    def offer(self, number: int, x_adv: Tensor, lead: list[float]) -> None:
        """Keep the versions of an attack that have a larger lead than those kept so far."""
        offered = torch.tensor(lead, dtype=torch.float64)
        better = offered > self.lead
        self.lead = torch.where(better, offered, self.lead)
        self.number = torch.where(better, number, self.number)
        self.x_adv = torch.where(better.to(x_adv.device).view(-1, 1, 1, 1), x_adv, self.x_adv)
