"""Races between versions of an image: on the same draws of a selection panel, until one is clearly the better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rushkit.attacks import losses, margins
from rushkit.attacks.victim import derive
from rushkit.recipe.schema import Rule

# The fewest draws of the whole panel, and the draws after which a race may end before it.
PANEL_SAMPLES = 100
_ENDS = (16, 32, 64)
# A version is clearly better if the sum of its draws' leads over the other's is this many times the root of the sum of
# their squares. Where neither is better, a look is misled about once in eighty cases on each side.
CLEARLY = 2.5
# Standard errors that are allowed for where less than the whole panel decides whether a vote is lost or won.
_ERRORS = 2.0


class Ask(Protocol):
    """A query of the model, such as ``Victim.logits``."""

    def __call__(self, x: Tensor, *, draw: int, samples: int) -> Tensor:
        """Return the logits (samples, N, K) of images (N, C, H, W) on the draws that a seed determines."""
        ...


@dataclass(frozen=True)
class Panel:
    """The draws on which versions are compared, in stages; no gradient and no score uses them.

    Attributes:
        seed: Seeds all draws.
        ends: Number of draws at the end of each stage.
    """

    seed: int
    ends: tuple[int, ...]

    @classmethod
    def of(cls, votes: int, random: bool, seed: int) -> Panel:
        """Return the panel of a model that predicts by ``votes`` draws; a deterministic model needs one draw."""
        size = max(votes, PANEL_SAMPLES)
        return cls(derive(seed, "panel"), (*(end for end in _ENDS if end < size), size) if random else (1,))

    @property
    def size(self) -> int:
        """The number of draws in all."""
        return self.ends[-1]

    def stages(self) -> Iterator[tuple[int, int, int]]:
        """Yield the seed of each stage, its first draw, and the draw after its last."""
        start = 0
        for number, end in enumerate(self.ends):
            yield derive(self.seed, "stage", number), start, end
            start = end


@dataclass
class Runs:
    """The outputs for one version of each image on the draws of the panel.

    Attributes:
        log_prob: (P, N, K) log-softmax at each draw; undefined beyond those that were made.
        drawn: (N,) int64, number of draws that were made.
    """

    log_prob: Tensor
    drawn: Tensor

    @classmethod
    def none(cls, panel: Panel, like: Tensor, classes: int) -> Runs:
        """Return runs without draws for images (N, C, H, W)."""
        drawn = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(panel.size, len(like), classes), drawn)

    def of(self, index: Tensor) -> Runs:
        """Return a copy for the images ``index``."""
        return Runs(self.log_prob[:, index], self.drawn[index])

    def put(self, index: Tensor, other: Runs) -> None:
        """Take over the runs of the images ``index`` from ``other``."""
        self.log_prob[:, index], self.drawn[index] = other.log_prob, other.drawn


@dataclass(frozen=True)
class Judge:
    """Judges versions of images by the rule of voting that is reported.

    Attributes:
        rule: The rule.
        votes: m, the number of draws in a vote.
        random: Whether the draws of an image differ.
    """

    rule: Rule
    votes: int
    random: bool

    def leads(self, log_prob: Tensor, y: Tensor) -> Tensor:
        """Return the lead of the rival over the label at each draw, (n, N, K) -> (n, N) float64 in [-1, 1].

        The rival is the best other class over all draws. The mean over the draws is the margin by which the label loses
        its vote, or its mean softmax, to the rival. For votes of a single draw any other class counts: the lead is 1
        where the draw does not give the label, and else -1. A draw with NaN or infinite logits counts for the label.
        """
        finite = torch.isfinite(log_prob).all(dim=2)
        winner = log_prob.argmax(dim=2)
        if self.votes == 1 and self.random:
            return torch.where(finite, 1 - 2 * (winner == y).double(), -1.0)
        if self.rule == "mean":
            score = log_prob.double().exp().nan_to_num()
        else:
            score = torch.nn.functional.one_hot(winner, log_prob.shape[2]).double()
        label = y.view(1, -1, 1).expand(len(score), -1, 1)
        rival = score.sum(dim=0).scatter(1, y[:, None], -1).argmax(dim=1).view(1, -1, 1).expand_as(label)
        lead = (score.gather(2, rival) - score.gather(2, label)).squeeze(2)
        return torch.where(finite, lead, -1.0)

    def lost(self, leads: Tensor, errors: float = 0.0) -> Tensor:
        """Return (N,) bool, whether the vote is as good as lost: by many standard deviations of a vote of m draws.

        Args:
            leads: (n, N) what ``leads`` returned.
            errors: By how many of its own standard errors the mean lead is taken to be smaller, or larger if negative.
        """
        lead, draws = leads.mean(dim=0), len(leads)
        if not self.random:
            return lead > 0
        variance = leads.square().mean(dim=0) - lead.square()
        lead = lead - errors * (variance.clamp(min=1 / draws) / draws).sqrt()
        return margins.is_settled(lead, variance, self.votes, draws)

    def verdict(self, leads: Tensor, panel: Panel) -> tuple[Tensor, Tensor]:
        """Return (N,) bool twice: whether the vote is as good as lost, and whether more draws may yet show that it is.

        Fewer draws than the whole panel must show it by two standard errors, because they mislead more often.
        """
        if len(leads) == panel.size:
            return self.lost(leads), torch.zeros_like(leads[0], dtype=torch.bool)
        lost = self.lost(leads, _ERRORS)
        return lost, ~lost & self.lost(leads, -_ERRORS)

    def right(self, leads: Tensor) -> Tensor:
        """Return (N,) float64, the probability that a vote of m draws gives the label, by what ``leads`` returned.

        At m = 1 it is the label's share of the draws, and 0 or 1 without noise. Else the sum of m leads is taken to be
        normal with the mean and the variance of the draws; variances below 1/draws are raised to it.
        """
        lead, draws = leads.mean(dim=0), len(leads)
        if not self.random:
            return (lead <= 0).double()
        if self.votes == 1:
            return (1 - lead) / 2
        variance = (leads.square().mean(dim=0) - lead.square()).clamp(min=1 / draws)
        right: Tensor = torch.special.ndtr(-lead * (self.votes / variance).sqrt())
        return right

    def safe(self, leads: Tensor) -> Tensor:
        """Return (N,) bool, whether the label is as good as certain to win a vote of m draws."""
        return torch.zeros_like(leads[0], dtype=torch.bool) if self.votes == 1 else self.lost(-leads, _ERRORS)


@dataclass(frozen=True)
class Finish:
    """How a race ended for n images, under one rule.

    Attributes:
        better: (n,) bool, whether the challenger is better than the incumbent.
        lost: (n,) bool, whether its vote is as good as lost.
        ahead: (n,) bool, whether the label loses the vote of the challenger's draws.
    """

    better: Tensor
    lost: Tensor
    ahead: Tensor


def race(
    ask: Ask,
    panel: Panel,
    y: Tensor,
    challenger: Tensor,
    incumbents: Mapping[Judge, tuple[Tensor, Runs]],
    open_rules: Mapping[Judge, Tensor],
) -> tuple[Runs, dict[Judge, Finish]]:
    """Let challengers run against the incumbents until each image is decided under every rule that is open for it.

    A race ends after 16, 32 or 64 draws where the challenger is clearly worse; where it is clearly better and its vote
    is either as good as lost or clearly not; and where the label is certain to win, so that it does not matter.
    Equal draws are decided by the margin of log p̄. Incumbents make the draws that they lack, and keep them.

    Args:
        ask: Queries the model.
        panel: The draws.
        y: (n,) labels.
        challenger: (n, C, H, W) new versions.
        incumbents: Judge to the best versions so far, and their runs, which are extended in place.
        open_rules: Judge to (n,) bool, the images for which this rule still has something to decide.

    Returns:
        The challengers' runs, and how the race ended under each rule.
    """
    n = len(y)
    runs: Runs | None = None
    finish = {
        judge: Finish(*(torch.zeros(n, dtype=torch.bool, device=y.device) for _ in range(3))) for judge in incumbents
    }
    live = torch.arange(n, device=y.device)
    for draw, start, end in panel.stages():
        made = ask(challenger[live], draw=draw, samples=end - start).log_softmax(dim=2)
        runs = runs or Runs.none(panel, challenger, made.shape[2])
        runs.log_prob[start:end, live], runs.drawn[live] = made.to(runs.log_prob.dtype), end
        go_on = torch.zeros(len(live), dtype=torch.bool, device=y.device)
        for judge, (x_adv, held) in incumbents.items():
            _extend(ask, x_adv, held, live[open_rules[judge][live]], draw, start, end)
            go_on |= _look(judge, y, live, runs, held, end, panel, finish[judge]) & open_rules[judge][live]
        live = live[go_on]
        if not len(live):
            break
    assert runs is not None
    return runs, finish


def examine(ask: Ask, panel: Panel, x: Tensor, y: Tensor, judges: Iterable[Judge]) -> Runs:
    """Return runs of versions (N, C, H, W) without a rival, until each image's vote is as good as lost or not lost."""
    live, runs = torch.arange(len(y), device=y.device), None
    for draw, start, end in panel.stages():
        made = ask(x[live], draw=draw, samples=end - start).log_softmax(dim=2)
        runs = runs or Runs.none(panel, x, made.shape[2])
        runs.log_prob[start:end, live], runs.drawn[live] = made.to(runs.log_prob.dtype), end
        undecided = torch.zeros(len(live), dtype=torch.bool, device=y.device)
        for judge in judges:
            leads = judge.leads(runs.log_prob[:end, live], y[live])
            undecided |= judge.verdict(leads, panel)[1]
        live = live[undecided]
        if not len(live):
            break
    assert runs is not None
    return runs


def _extend(ask: Ask, x_adv: Tensor, runs: Runs, index: Tensor, draw: int, start: int, end: int) -> None:
    """Make the draws of a stage for the versions of the images ``index`` that lack them."""
    lacking = index[runs.drawn[index] < end]
    if len(lacking):
        made = ask(x_adv[lacking], draw=draw, samples=end - start).log_softmax(dim=2)
        runs.log_prob[start:end, lacking] = made.to(runs.log_prob.dtype)
        runs.drawn[lacking] = end


def _look(
    judge: Judge, y: Tensor, live: Tensor, runs: Runs, held: Runs, end: int, panel: Panel, finish: Finish
) -> Tensor:
    """Record the state of the race after ``end`` draws; return (n,) bool, the live images that are still undecided."""
    ours, theirs, labels = runs.log_prob[:end, live], held.log_prob[:end, live], y[live]
    leads = judge.leads(ours, labels)
    gain = leads - judge.leads(theirs, labels)
    total, spread = gain.sum(dim=0), gain.square().sum(dim=0).sqrt()
    higher = losses.margin(ours, labels) > losses.margin(theirs, labels)
    better = torch.where(total == 0, higher, total > 0)
    ahead, (lost, perhaps) = leads.mean(dim=0) > 0, judge.verdict(leads, panel)
    finish.better[live], finish.lost[live], finish.ahead[live] = better, lost, ahead
    unclear = (total.abs() <= CLEARLY * spread) & (spread > 0) & ~judge.safe(leads)
    return unclear | (better & perhaps)
