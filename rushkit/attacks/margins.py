"""The margin by which the label of an image loses its votes, and tests of whether chance explains it.

A margin is positive if the label loses. Two thresholds decide when a margin is beyond doubt: attacks, which see few
draws, require three standard deviations of a fair coin; scores require four of the measured standard deviations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rushkit.votes import Tally

# Standard deviations that count as certain: of a fair vote for attacks, of the observed draws for scores.
DECISIVE = 3.0
SETTLED = 4.0


def margin(score: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the best other class's score minus the label's; with a target, the target's minus the best other's.

    Args:
        score: (N, K) votes or probabilities, 0 or more.
        y: (N,) labels.
        target: (N,) classes to be reached.
    """
    wanted = y if target is None else target
    wanted_score = score.gather(1, wanted[:, None]).squeeze(1)
    best_other = score.scatter(1, wanted[:, None], -1).amax(dim=1)
    return best_other - wanted_score if target is None else wanted_score - best_other


def vote_margin(logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the (N,) margins in the votes of (m, N, K) logits, in the logits' dtype."""
    votes = torch.nn.functional.one_hot(logits.argmax(dim=2), logits.shape[2]).sum(dim=0)
    return margin(votes.to(logits.dtype), y, target)


def decisive(draws: int) -> float:
    """Return the margin that the votes of ``draws`` fair coin flips reach about once in a thousand cases."""
    return DECISIVE * math.sqrt(draws) if draws > 1 else 0.0


def hopeless(draws: int, votes: int) -> float:
    """Return the margin in ``draws`` votes from which a vote of the model's own ``votes`` draws is as good as lost."""
    return max(decisive(draws), draws * DECISIVE / math.sqrt(votes))


def is_settled(share: Tensor, variance: Tensor, votes: int, draws: int) -> Tensor:
    """Return (N,) whether a vote is as good as lost, because its expected margin is many standard deviations.

    Args:
        share: (N,) margin divided by the number of draws.
        variance: (N,) variance of one draw's margin; values below 1/draws are raised to it.
        votes: Number of draws in the vote.
        draws: Number of draws that share and variance were measured with.
    """
    return (share > 0) & (votes * share.square() >= SETTLED**2 * variance.clamp(min=1 / draws))


def label_share(tally: Tally, y: Tensor) -> Tensor:
    """Return (N,) float64, the share of the draws that vote for the label."""
    return tally.votes.gather(1, y[:, None]).squeeze(1).double() / tally.samples


def vote_share(tally: Tally, y: Tensor) -> Tensor:
    """Return (N,) float64, the margin in votes divided by the number of draws."""
    return margin(tally.votes, y).double() / tally.samples


def mean_share(tally: Tally, y: Tensor) -> Tensor:
    """Return (N,) float64, the margin in mean softmax."""
    return margin(tally.confidence, y).double() / tally.samples


def vote_variance(tally: Tally, y: Tensor) -> Tensor:
    """Return (N,) the variance of one draw's margin in votes."""
    share = vote_share(tally, y)
    return share + 2 * label_share(tally, y) - share.square()


def mean_variance(tally: Tally, y: Tensor) -> Tensor:
    """Return (N,) an upper bound on the variance of one draw's margin in softmax.

    It assumes that label and rival are perfectly anticorrelated.
    """
    mean = tally.confidence / tally.samples
    deviation = (tally.confidence_squared / tally.samples - mean.square()).clamp(min=0).sqrt()
    rival = mean.scatter(1, y[:, None], -1).argmax(dim=1)
    apart = deviation.gather(1, y[:, None]) + deviation.gather(1, rival[:, None])
    return apart.squeeze(1).square().double()
