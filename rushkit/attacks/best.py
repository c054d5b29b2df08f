"""Keep the version of each image that fools the model most, while attacks offer new versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.losses import Loss
from rushkit.attacks.race import Judge, Panel, Runs, examine, race
from rushkit.attacks.result import AttackNote, gradient_notes, useless
from rushkit.attacks.victim import Slope, Victim, derive
from rushkit.recipe.schema import Rule

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

    Attributes:
        least_right: (N,) float64, the smallest share of a gradient's draws that gave the label, over the iterates seen
            within the ball; 1 before the first.
    """

    def __init__(self, victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, loss: Loss, seed: int) -> None:
        self.victim, self.y, self.target = victim, y, target
        self._loss = loss
        self._seed = seed
        self._panel = derive(seed, "selection")
        self._best = Best.nothing(x, scores=2)
        self._asked, self._rising, self._unusable = (torch.zeros_like(y, dtype=torch.bool) for _ in range(3))
        self.least_right = torch.ones(len(x), dtype=torch.float64, device=x.device)

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

    def see(self, index: Tensor, slope: Slope, inside: bool = True) -> None:
        """Note at which of the images ``index`` a gradient was NaN, infinite or zero, and how many draws were right.

        Args:
            index: (n,) the images.
            slope: Their slopes at an iterate.
            inside: Whether the iterate lies within the ball: the draws of others say nothing of it.
        """
        self._asked[index] = True
        self._rising[index] |= slope.gradient.flatten(1).any(dim=1)
        self._unusable[index] |= ~slope.usable
        if inside:
            right = (slope.logits.argmax(dim=2) == self.y[index]).double().mean(dim=0).masked_fill(~slope.usable, 1.0)
            self.least_right[index] = torch.minimum(self.least_right[index], right)

    def notes(self) -> tuple[AttackNote, ...]:
        """Return notes that name the images whose gradients were of no use, by their positions."""
        flat = self._asked & ~self._rising & ~self._unusable
        return gradient_notes(self._unusable, flat)

    @property
    def useless(self) -> bool:
        """Whether images were attacked by gradients, and those of each were NaN or infinite until it left."""
        return useless(self._asked, self._unusable & ~self._rising)

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


@dataclass
class Champion:
    """The best version of each image by one rule of voting.

    Attributes:
        x_adv: (N, C, H, W) the versions.
        runs: Their outputs on the draws of the selection panel.
        settled: (N,) bool, images whose vote is as good as lost.
        broken: (N,) bool, images whose label has lost the vote of the panel.
        before: (N,) float64, the probability of a right vote when it was last marked.
        replaced: (N,) bool, images whose version is another one than then.
    """

    x_adv: Tensor
    runs: Runs
    settled: Tensor
    broken: Tensor
    before: Tensor
    replaced: Tensor


class BestByRule:
    """The best version of each image over several attacks, for each rule of voting, by races on a panel of draws.

    The panel only chooses versions; the final scores come from other draws. The version that fools the majority vote
    most need not fool the mean softmax most, so each rule keeps a version of its own and is scored on it. Where a vote
    has one draw, or all draws are the same, the rules are one.

    Attributes:
        chosen: (N,) the attack whose version does worst in a majority vote; -1 for the clean image.

    Args:
        victim: The model, which predicts by votes of m draws.
        x: (N, C, H, W) clean images, the first versions.
        y: (N,) labels.
        seed: Seeds the panel.
        place: Maps clean images and versions of them, (n, C, H, W) twice, to the versions that are compared in their
            place, such as those of 8-bit pixels; None: the versions themselves.
    """

    def __init__(
        self,
        victim: Victim,
        x: Tensor,
        y: Tensor,
        seed: int,
        place: Callable[[Tensor, Tensor], Tensor] = lambda x, x_adv: x_adv,
    ) -> None:
        self._ask, self._x, self._y, self._place = victim.logits, x, y, place
        votes, random = victim.votes, victim.random
        self._panel = Panel.of(votes, random, seed)
        majority = Judge("majority", votes, random)
        mean = Judge("mean", votes, random) if votes > 1 and random else majority
        self._judges: dict[Rule, Judge] = {"majority": majority, "mean": mean}
        self._champions = {
            judge: Champion(
                x_adv=x.clone(),
                runs=Runs.none(self._panel, x, victim.num_classes),
                settled=self._none(),
                broken=self._none(),
                before=self._none().double(),
                replaced=self._none(),
            )
            for judge in (majority, mean)
        }
        self.chosen = torch.full_like(y, ORIGINAL)

    def _none(self) -> Tensor:
        return torch.zeros_like(self._y, dtype=torch.bool)

    @property
    def best(self) -> dict[Rule, Champion]:
        """The versions kept for each rule. An image is settled once its vote is as good as lost."""
        return {rule: self._champions[judge] for rule, judge in self._judges.items()}

    @property
    def panel_size(self) -> int:
        """The number of draws of the panel."""
        return self._panel.size

    @property
    def x_adv(self) -> Tensor:
        """(N, C, H, W) the versions that do worst in a majority vote."""
        return self.best["majority"].x_adv

    @property
    def broken(self) -> Tensor:
        """(N,) bool, images whose label has lost the majority vote of the panel."""
        return self.best["majority"].broken

    @property
    def settled(self) -> Tensor:
        """(N,) bool, so clearly broken that further attacks cannot lower the accuracy under any rule."""
        return torch.stack([champion.settled for champion in self._champions.values()]).all(dim=0)

    def open(self) -> Tensor:
        """(n,) indices of the images that are worth another attack."""
        return (~self.settled).nonzero().squeeze(1)

    def weakest(self) -> Tensor:
        """(N, C, H, W) versions to climb on from: each image's best by the first rule that is not settled for it."""
        majority, mean = self.best["majority"], self.best["mean"]
        return torch.where(majority.settled.view(-1, 1, 1, 1), mean.x_adv, majority.x_adv)

    def leads(self) -> Tensor:
        """Return (N,) the margin by which the label loses the majority vote of the draws made of its best version."""
        margins = torch.zeros_like(self._y, dtype=torch.float64)
        for rows, leads in self._leads(self._judges["majority"]):
            margins[rows] = leads.mean(dim=0)
        return margins

    def _leads(self, judge: Judge) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices (n,) of images with equally many draws of the best version, and its leads (draws, n)."""
        runs = self._champions[judge].runs
        for drawn in runs.drawn.unique().tolist():
            rows = (runs.drawn == drawn).nonzero().squeeze(1)
            yield rows, judge.leads(runs.log_prob[:drawn, rows], self._y[rows])

    def _right(self, judge: Judge) -> Tensor:
        """Return (N,) float64, the probability that a vote on the best version is right; 0 if it is settled."""
        right = torch.zeros_like(self._y, dtype=torch.float64)
        for rows, leads in self._leads(judge):
            right[rows] = judge.right(leads)
        return right.masked_fill(self._champions[judge].settled, 0.0)

    def mark(self) -> None:
        """Note how probable a right vote on each image is now, for ``falls``."""
        for judge, champion in self._champions.items():
            champion.before, champion.replaced = self._right(judge), self._none()

    def falls(self) -> dict[Rule, Tensor]:
        """Return rule -> (N,) float64 in [0, 1], by how much a right vote has become less probable since ``mark``.

        Both probabilities are read from the draws that the panel has made of the versions. A version that is still the
        best has not fallen, whatever its later draws say, and a probability that has risen counts as no fall.
        """
        fallen = {
            judge: (champion.before - self._right(judge)).clamp(0, 1).masked_fill(~champion.replaced, 0.0)
            for judge, champion in self._champions.items()
        }
        return {rule: fallen[judge] for rule, judge in self._judges.items()}

    def rivals(self) -> Tensor:
        """(N, K-1) the other classes, from the likeliest at the best version to the least likely, by the panel."""
        runs = self.best["majority"].runs
        made = torch.arange(len(runs.log_prob), device=self._y.device)[:, None] < runs.drawn
        log_prob = runs.log_prob.masked_fill(~made[..., None], -torch.inf).logsumexp(dim=0)
        order = log_prob.scatter(1, self._y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
        return order[:, :-1]

    def clear(self, index: Tensor, logits: Tensor) -> Tensor:
        """Return (n,) bool, whether the logits (k, n, K) of k draws find a vote clearly lost, by a rule still open."""
        log_prob, y = logits.log_softmax(dim=2), self._y[index]
        votes = [
            judge.lost(judge.leads(log_prob, y)) & ~champion.settled[index]
            for judge, champion in self._champions.items()
        ]
        return torch.stack(votes).any(dim=0)

    def begin(self) -> None:
        """Let the panel vote on the clean images."""
        x_adv = self.x_adv
        runs = examine(self._ask, self._panel, x_adv, self._y, tuple(self._champions))
        for judge, champion in self._champions.items():
            champion.runs = Runs(runs.log_prob.clone(), runs.drawn.clone())
            for rows, leads in self._leads(judge):
                champion.broken[rows] = leads.mean(dim=0) > 0
                champion.settled[rows] = judge.verdict(leads, self._panel)[0]

    def take(self, attack: int, x_adv: Tensor) -> None:
        """Keep the versions of one attack, without a race."""
        x_adv = self._place(self._x, x_adv)
        for champion in self._champions.values():
            champion.x_adv = x_adv.clone()
        self.chosen = torch.full_like(self.chosen, attack)

    def offer(self, attack: int, index: Tensor, x_adv: Tensor) -> Tensor:
        """Keep the versions that win a race against the best so far; an error leaves everything as it was.

        Args:
            attack: The number of the attack.
            index: (n,) the images that it attacked.
            x_adv: (n, C, H, W) its versions of them.

        Returns:
            (n,) bool, the images that this attack is the first to break.
        """
        before, x_adv = self.broken[index], self._place(self._x[index], x_adv)
        held = {judge: (champion.x_adv[index], champion.runs.of(index)) for judge, champion in self._champions.items()}
        unsettled = {judge: ~champion.settled[index] for judge, champion in self._champions.items()}
        runs, finish = race(self._ask, self._panel, self._y[index], x_adv, held, unsettled)
        for judge, champion in self._champions.items():
            champion.runs.put(index, held[judge][1])
            better = finish[judge].better & unsettled[judge]
            rows = index[better]
            champion.x_adv[rows] = x_adv[better]
            champion.runs.put(rows, runs.of(better.nonzero().squeeze(1)))
            champion.replaced[rows] = True
            champion.settled[rows] = finish[judge].lost[better]
            champion.broken[rows] |= finish[judge].ahead[better]
            if judge == self._judges["majority"]:
                self.chosen[rows] = attack
        return self.broken[index] & ~before

    def state(self) -> dict[str, Tensor]:
        """Return copies of the tensors by name that ``restore`` needs."""
        tensors = {"chosen": self.chosen.clone()}
        for judge, champion in self._champions.items():
            tensors |= {
                f"{judge.rule}.x_adv": champion.x_adv.clone(),
                f"{judge.rule}.log_prob": champion.runs.log_prob.clone(),
                f"{judge.rule}.drawn": champion.runs.drawn.clone(),
                f"{judge.rule}.settled": champion.settled.clone(),
                f"{judge.rule}.broken": champion.broken.clone(),
                f"{judge.rule}.before": champion.before.clone(),
                f"{judge.rule}.replaced": champion.replaced.clone(),
            }
        return tensors

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a state of the same images."""
        here = {name: tensor.to(self._y.device, copy=True) for name, tensor in state.items()}
        self.chosen = here["chosen"]
        for judge in self._champions:
            rule = judge.rule
            runs = Runs(here[f"{rule}.log_prob"], here[f"{rule}.drawn"])
            names = ("x_adv", "settled", "broken", "before", "replaced")
            self._champions[judge] = Champion(runs=runs, **{name: here[f"{rule}.{name}"] for name in names})
