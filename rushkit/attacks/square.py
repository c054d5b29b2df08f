"""Square attack (Andriushchenko et al. 2020): random search with squares, from scores alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses, square_windows
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_answers, check_ball, check_counts, check_eps, check_labels, checked_images
from rushkit.attacks.judged import judged
from rushkit.attacks.result import NOT_BROKEN, AttackResult, NothingFinite, checked, silence_notes, useless
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.checked import not_finite
from rushkit.models.answers import Answer, answer_kind
from rushkit.system import generator

# Queries of a random model that are compared on one panel of draws. The next panel measures what is kept anew, so that
# luck on one panel does not last.
PANEL_QUERIES = 50


@dataclass(frozen=True, repr=False)
class Square:
    """Random search with squares at the settings of official AutoAttack; it needs no gradient.

    A query changes one window of the image and keeps the change if the margin of log p̄ grows. Windows that are larger
    than the image are cut to it. All images get the same windows and signs; a smoothed model answers for all of them
    with the same draws.

    Args:
        norm: "linf", "l2" (Andriushchenko et al. 2020) or "l1" (Croce and Hein 2021, section 5).
        eps: Radius of the ball, pixel units.
        queries: Queries of the model for each image and search, of ``samples`` draws each.
        restarts: Searches for each image.
        samples: Draws for each query of a random model; None: its own m.
        selection_samples: Draws of the panel that compares versions of a random model; None: max(samples, 20).
        stop_early: Whether an image leaves once it is broken. Without it every image costs ``queries`` queries.
        seed: Seeds every draw.

    Attributes:
        asks: What the model must answer with at least.

    Example::

        Square("l1", eps=12, queries=1000)(model, x, y)

    Raises:
        UsageError: a norm, radius or number that does not exist or fit.
    """

    norm: Norm
    eps: float
    queries: int = 5000
    restarts: int = 1
    samples: int | None = None
    selection_samples: int | None = None
    stop_early: bool = True
    seed: int = 0
    asks: ClassVar[Answer] = "probabilities"

    def __post_init__(self) -> None:
        check_ball("square", self.norm, self.eps)
        check_counts("square", queries=self.queries, restarts=self.restarts)

    def __repr__(self) -> str:
        return f"Square(norm={self.norm!r}, eps={self.eps:g}, queries={self.queries})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Raises:
            UsageError: images or labels that do not fit.
            NumericsError: NaN or infinite logits for all images, or for all that the search tries.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        check_answers("square", self.asks, answer_kind(model))
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            best = BestIterate(victim, x, y, None, losses.margin, self.seed)
            best.offer(torch.arange(len(x), device=x.device), x)
            searched, answered = ~best.settled & (self.eps > 0), torch.zeros_like(best.settled)
            broken_at = torch.where(best.settled, 0, NOT_BROKEN)
            for restart in range(self.restarts if self.eps > 0 else 0):
                _Search(self, victim, best, x, restart, answered, broken_at).run()
            silent, draw = searched & ~answered, derive(self.seed, "verdict")
            notes = silence_notes(silent)
            result = judged(victim, x, best.x_adv, y, (self.norm, self.eps), draw=draw, notes=notes)
            result = replace(result, queries=broken_at)
            if useless(searched, silent):
                raise NothingFinite(not_finite(), result)
            return checked(result)


class _Search:
    """One search from its own start; every tensor has one row for each image that is still searched."""

    def __init__(
        self,
        settings: Square,
        victim: Victim,
        best: BestIterate,
        x: Tensor,
        restart: int,
        answered: Tensor,
        broken_at: Tensor,
    ) -> None:
        self._settings, self._victim, self._best, self._restart = settings, victim, best, restart
        self._kept = square_windows.start(x, settings.norm, settings.eps, self._source(0))
        self._margin = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self._x, self._index = x, torch.arange(len(x), device=x.device)
        # (N,) whether a query of the image was answered by finite logits: otherwise it only seems to hold out.
        self._answered, self._made = answered, 0
        # (N,) the number of queries that broke each image.
        self._broken_at = broken_at
        self._leave()

    def run(self) -> None:
        """Make the queries, and offer what is kept to the selection."""
        for query in range(self._settings.queries):
            if query == PANEL_QUERIES:
                self._leave()
            if not len(self._index):
                return
            new_panel = query == 0 or (self._victim.random and query % PANEL_QUERIES == 0)
            if new_panel and query:
                self._offer_kept(query)
            self._query(query, measure_kept=new_panel)
        if self._victim.random and len(self._index):
            self._offer_kept(self._settings.queries)

    def _query(self, query: int, measure_kept: bool) -> None:
        """Try a change, or measure what is kept on a new panel of draws."""
        settings, victim = self._settings, self._victim
        tried = self._kept
        if not measure_kept:
            source = self._source(query)
            tried = square_windows.proposal(self._x, self._kept, settings.norm, settings.eps, query, source)
        draw = derive(settings.seed, "square panel", self._restart, query // PANEL_QUERIES)
        logits = victim.logits(tried, draw=draw, samples=victim.samples)
        margin = losses.margin(logits, self._best.y[self._index])
        self._answered[self._index] |= torch.isfinite(margin)
        self._made += 1
        # A margin that is not a number is no improvement.
        better = torch.full_like(margin, measure_kept, dtype=torch.bool) | (margin > self._margin)
        self._margin = torch.where(better, margin.nan_to_num(nan=-torch.inf), self._margin)
        self._kept = torch.where(better.view(-1, 1, 1, 1), tried, self._kept)
        if not victim.random and better.any():
            self._best.offer(self._index[better], tried[better], logits[:, better])
            self._leave()

    def _offer_kept(self, query: int) -> None:
        """Offer the kept versions to the selection panel, and let a vote decide which images are broken."""
        self._best.offer(self._index, self._kept)
        if self._settings.stop_early:
            self._best.confirm(self._restart * self._settings.queries + query)
            self._leave()

    def _leave(self) -> None:
        """Drop the images that are broken, unless all are to make all queries, and those that never answer."""
        settled = self._best.settled[self._index]
        newly = self._index[settled & (self._broken_at[self._index] == NOT_BROKEN)]
        self._broken_at[newly] = self._restart * self._settings.queries + self._made
        stay = ~(settled & self._settings.stop_early)
        if self._made >= PANEL_QUERIES:
            stay &= self._answered[self._index]
        self._x, self._index, self._kept = self._x[stay], self._index[stay], self._kept[stay]
        self._margin = self._margin[stay]

    def _source(self, query: int) -> torch.Generator:
        return generator(self._settings.seed, "attack square", self._restart, query)
