"""Run the attacks of a protocol on one block of images in turn; strict leaves out images that are clearly broken."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rushkit.attacks.abilities import CreditsParts, Reports, Resumes
from rushkit.attacks.autoattack import Progress
from rushkit.attacks.best import BestByRule
from rushkit.attacks.cascade.attack import Cascade
from rushkit.attacks.cascade.engine import SMALLER, Engine
from rushkit.attacks.grid import on_grid
from rushkit.attacks.guard import Weights
from rushkit.attacks.result import AttackNote, AttackResult, NothingFinite
from rushkit.attacks.scoring import cast_votes, cast_votes_by_rule, newly_wrong
from rushkit.attacks.targeted import towards
from rushkit.attacks.victim import Victim, under_attack
from rushkit.errors import PluginError
from rushkit.files import JSON
from rushkit.recipe.schema import Attack, Rule
from rushkit.results.logs import AttackBlock, FurtherVotes
from rushkit.results.notes import Note, image_note, merged
from rushkit.robustness.final_votes import final_votes, followed_by, no_votes
from rushkit.robustness.one_panel import OnePanel
from rushkit.robustness.own_attacks import OwnAttack
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import Plan, further_samples
from rushkit.run.partial import Partial
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

# The name that images misclassified before any attack are credited to.
CLEAN = "clean"
_PART = "part."
# Images that are scored before a stop keeps their votes.
_SCORED_AT_ONCE = 8
# Seconds between two times that the state of a cascade is stored, for the case that the process is killed.
_STORE_EVERY = 20.0


@dataclass(frozen=True)
class Block:
    """Images that are attacked together.

    Attributes:
        start: Position of the first image in the limited split.
        x: (N, C, H, W) float32 in [0, 1].
        y: (N,) int64.
        keys: (N,) int64, the index of each image in the whole split, which seeds the votes that score it.
        smaller: (N, C, H, W) versions that were found in a smaller ball, the first to be tried; None: there are none.
    """

    start: int
    x: Tensor
    y: Tensor
    keys: Tensor
    smaller: Tensor | None = None


@dataclass
class Costs:
    """The cost and the success of the attacks on a block so far.

    Attributes:
        done: How many candidates have run.
        contributions: Attack to the number of images that it was the first to break.
        notes: Notes that qualify the figures.
        image_forwards: Forward passes of single images through the model, in attacks.
        image_backwards: Backward passes of single images, in attacks.
        seconds: Seconds of work, over all sessions.
    """

    done: int = 0
    contributions: dict[str, int] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    image_forwards: int = 0
    image_backwards: int = 0
    seconds: float = 0.0

    def credit(self, name: str, images: int) -> None:
        """Credit an attack with images that it was the first to break."""
        self.contributions[name] = self.contributions.get(name, 0) + images

    def note(self, note: AttackNote | str, keys: Tensor) -> None:
        """Add a note from an attack, unless it was added before.

        Args:
            note: The note.
            keys: (n,) the indices in the split of the images that were attacked.
        """
        coded = note if isinstance(note, AttackNote) else AttackNote("other", note)
        record = Note(code=coded.code, text=coded.text)
        if coded.images:
            record = image_note(coded.code, keys[list(coded.images)].tolist())
        self.notes = merged([*self.notes, record])


def attack_block(
    g: SmoothedClassifier,
    plan: Plan,
    section: Attack,
    block: Block,
    seed: int,
    partial: Partial | None = None,
    pace: Pace | None = None,
) -> tuple[AttackBlock, Tensor]:
    """Run the plan's attacks on a block, keep the most damaging version of each image, and score it by fresh votes.

    Under ``strict`` the clean image competes with the attacks' versions, and an image is attacked no further once its
    vote is as good as lost. Towards a target an image is lost once the target wins its vote, and votes that do not
    give the target count as right.

    Args:
        g: The model under its noise, with the m of the votes.
        plan: The attacks to run.
        section: Norm and eps.
        block: The images.
        seed: Seeds every draw.
        partial: Stores the state of the search, and may hold the state of an earlier session.
        pace: Receives the progress; it may raise to stop, between two attacks, two steps of a cascade or two
            passes of the model. What a cascade has done but for the unfinished step is then stored, of other attacks
            what was done before the unfinished one, and of the final votes those of whole images.

    Returns:
        The line for the log, and the (N, C, H, W) images that do worst in a majority vote.
    """
    attacked = g if plan.target is None else towards(g, plan.target)
    with under_attack(attacked, block.x, seed) as victim:
        work = _Work(victim, (g, attacked), plan, section, block, seed, partial, pace or Pace())
        work.search_all()
        work.score_all()
    search, costs = work.search, work.costs
    own, *further = work.scored.values()
    if plan.protocol != "strict" and not costs.contributions:
        # Elsewhere no panel has scored the images, so the final votes decide the credit.
        costs.credit(CLEAN, own.clean_right["majority"].count(0))
        costs.credit(plan.candidates[0].label, newly_wrong(own.right["majority"], own.clean_right["majority"]))
    record = AttackBlock(
        images=list(range(block.start, block.start + len(block.x))),
        labels=block.y.tolist(),
        chosen=search.chosen.tolist(),
        right=own.right,
        clean_right=own.clean_right,
        taken_for=own.taken_for,
        clean_taken_for=own.clean_taken_for,
        rescored=further,
        contributions=costs.contributions,
        first_broken=work.first_broken,
        last_fall=work.last_fall,
        queries=work.queries,
        notes=list(costs.notes),
        image_forwards=costs.image_forwards,
        image_backwards=costs.image_backwards,
        seconds=work.seconds(),
    )
    return record, search.x_adv


def search_block(
    g: SmoothedClassifier, plan: Plan, section: Attack, block: Block, seed: int, pace: Pace | None = None
) -> tuple[Tensor, Costs]:
    """Run the plan's attacks as ``attack_block`` does, without scoring what they keep.

    Returns:
        The (N, C, H, W) images that do worst in a majority vote, and the costs.
    """
    attacked = g if plan.target is None else towards(g, plan.target)
    with under_attack(attacked, block.x, seed) as victim:
        work = _Work(victim, (g, attacked), plan, section, block, seed, None, pace or Pace())
        work.search_all()
    return work.search.x_adv, work.costs


class _Work:
    """The search on one block, its costs, and where both are stored."""

    def __init__(
        self,
        victim: Victim,
        classifiers: tuple[SmoothedClassifier, SmoothedClassifier],
        plan: Plan,
        section: Attack,
        block: Block,
        seed: int,
        partial: Partial | None,
        pace: Pace,
    ) -> None:
        """Begin on a block; the classifiers are the one that scores, and the one that is attacked."""
        self._victim, self._plan, self._section, self._block = victim, plan, section, block
        (self._g, self._attacked), g = classifiers, classifiers[0]
        # Towards a target the classes are two: 0 is any other.
        self._y = block.y if plan.target is None else torch.zeros_like(block.y)
        self._seed, self._partial, self._pace = seed, partial, pace
        self._started = self._stored = time.perf_counter()
        self._suite: Progress | None = None
        self._engine: Engine | None = None
        # The state of a cascade that an earlier session began.
        self._begun: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self.search = self._new_search()
        self.costs = Costs()
        self.first_broken: dict[Rule, list[int]] = {}
        self.last_fall: dict[Rule, list[float]] = {}
        self.queries: list[int] = []
        # By the number of draws of a vote, first the m of the attack: the votes on the images that are scored.
        self.scored = {m: no_votes(m) for m in (g.samples, *further_samples(section, g.samples, plan))}

    def _new_search(self) -> BestByRule:
        section, seed = self._section, derived_seed(self._seed, "selection")
        if not section.eight_bit:
            return BestByRule(self._victim, self._block.x, self._y, seed)

        def place(x: Tensor, x_adv: Tensor) -> Tensor:
            return on_grid(x, x_adv, section.norm, section.eps)

        return BestByRule(self._victim, self._block.x, self._y, seed, place)

    def seconds(self) -> float:
        return self.costs.seconds + time.perf_counter() - self._started

    def search_all(self) -> None:
        """Run every candidate in turn, continuing an earlier session if there was one."""
        everything = torch.arange(len(self._block.x), device=self._block.x.device)
        strict = self._plan.protocol == "strict"
        begun = self._restore()
        for number, candidate in enumerate(self._plan.candidates):
            if number < self.costs.done:
                continue
            attacker = candidate.create(self._section)
            if isinstance(attacker, Cascade):
                self._cascade(attacker)
                break
            if strict and not begun:
                self._begin()
            begun = True
            rows = self.search.open() if strict else everything
            if not len(rows):
                break
            weights = Weights(self._attacked)
            try:
                x_adv, by_part = self._run(attacker, rows)
            finally:
                changed = weights.put_back()
            if changed:
                raise PluginError(
                    f"attack {self._section.type!r} changed the model's weights: what it found is of another model"
                )
            if strict:
                newly_broken = self._offer(number, rows, x_adv)
                by_part = {candidate.label: newly_broken} if by_part is None else by_part
            else:
                self.search.take(number, x_adv)
            for name, images in (by_part or {}).items():
                self.costs.credit(name, images)
            self.costs.done = number + 1
            self._suite = None
            self._store()
            self._stand()
        for number, own in enumerate(self._plan.also):
            if len(self._plan.candidates) + number >= self.costs.done:
                self._own(number, own)

    def _own(self, number: int, own: OwnAttack) -> None:
        """Let an attack of the user's own try what is left, and credit it with what it is the first to break."""
        rows = self.search.open()
        if not len(rows):
            return
        before, g, block = self._attacked.image_forwards, self._attacked, self._block
        keys = block.keys[rows.to(block.keys.device)]
        found = own.versions(g, self._section, block.x[rows], self._y[rows], keys, self._seed)
        # A stop that the attack made another error of is a stop.
        self._pace.pause()
        self.costs.image_forwards += g.image_forwards - before
        held = {rule: best.broken.clone() for rule, best in self.search.best.items()}
        newly_broken = (
            self._offer(self._plan.first_own + number, rows[found.rows], found.x_adv) if len(found.rows) else 0
        )
        for rule, numbers in self.first_broken.items():
            for row in (self.search.best[rule].broken & ~held[rule]).nonzero().squeeze(1).tolist():
                numbers[row] = len(self._plan.rounds) + 1 + number
        self.costs.credit(own.code, newly_broken)
        self.costs.notes = merged([*self.costs.notes, *found.notes])
        self.costs.done = len(self._plan.candidates) + number + 1
        self._store()
        self._stand()

    @property
    def _scored_images(self) -> int:
        return len(self.scored[self._g.samples].right["majority"])

    def score_all(self) -> None:
        """Score the versions that were kept by fresh votes, a few images at a time; a stop keeps these votes."""
        block, votes, seed = self._block, self._plan.votes, self._seed
        self._pace.score()
        try:
            for start in range(self._scored_images, len(block.x), _SCORED_AT_ONCE):
                rows = slice(start, start + _SCORED_AT_ONCE)
                versions = {rule: kept.x_adv[rows] for rule, kept in self.search.best.items()}
                x, keys = block.x[rows], block.keys[rows]
                cast = {}
                for m in self.scored:
                    g = self._g if m == self._g.samples else self._g.with_samples(m)
                    attacked = cast_votes_by_rule(g, versions, votes, seed, keys)
                    cast[m] = attacked, cast_votes(g, x, votes, seed, keys, "clean")
                for m, (attacked, clean) in cast.items():
                    more = final_votes(m, attacked, clean, block.y[rows], self._plan.target)
                    self.scored[m] = followed_by(self.scored[m], more)
        except BaseException:
            self._store()
            raise

    def _begin(self) -> None:
        before = self._victim.image_forwards
        self.search.begin()
        self.costs.image_forwards += self._victim.image_forwards - before
        self.costs.credit(CLEAN, int(self.search.broken.sum()))
        rows = self.search.open()
        if self._block.smaller is not None and len(rows):
            number = len(self._plan.candidates)
            self.costs.credit(SMALLER, self._offer(number, rows, self._block.smaller[rows]))

    def _offer(self, number: int, rows: Tensor, x_adv: Tensor) -> int:
        before = self._victim.image_forwards
        newly_broken = int(self.search.offer(number, rows, x_adv).sum())
        self.costs.image_forwards += self._victim.image_forwards - before
        return newly_broken

    def _cascade(self, attacker: Cascade) -> None:
        """Run a cascade step by step; when it is stopped, store what all finished steps have found."""
        block = self._block
        engine = self._engine = attacker.on(self._victim, self.search, block.x, self._y, block.smaller)
        if self._begun is not None:
            engine.restore(*self._begun)
        try:
            while engine.advance():
                self._stand()
                if time.perf_counter() - self._stored > _STORE_EVERY:
                    self._store()
        except BaseException:
            self._store()
            raise
        self._engine = None
        costs = self.costs
        costs.image_forwards += engine.at.image_forwards
        costs.image_backwards += engine.at.image_backwards
        for name, images in engine.at.credits.items():
            costs.credit(name, images)
        for note in engine.notes():
            costs.note(note, block.keys)
        self.first_broken = {rule: numbers.tolist() for rule, numbers in engine.first_broken.items()}
        self.last_fall = {rule: falls.tolist() for rule, falls in engine.last_fall.items()}
        costs.done = 1
        self._store()

    def _run(self, attacker: Any, rows: Tensor) -> tuple[Tensor, dict[str, int] | None]:
        """Attack the images in these rows; for a suite, also count the images that each part was the first to break."""
        g, plan = self._attacked, self._plan
        model: Any = g
        if plan.panel:
            # With a panel, one pass of the model covers all draws of the panel.
            g = g.with_samples(plan.gradient_samples)
            model = OnePanel(g, derived_seed(self._seed, "panel"))
        before = g.image_forwards
        x, y = self._block.x[rows], self._y[rows]
        try:
            if isinstance(attacker, Resumes):
                result = attacker.run_from(self._suite, model, x, y, self._after_part)
            elif isinstance(attacker, Reports):
                result = attacker.run(model, x, y)
            else:
                x_adv = attacker(model, x, y)
                self.costs.image_forwards += g.image_forwards - before
                return x_adv, None
        except NothingFinite as error:
            # Its notes name the images. Whether the whole attack was in vain, all blocks decide.
            result = error.result
        passes = plan.gradient_samples if plan.panel else 1
        self.costs.image_forwards += result.image_forwards * passes
        self.costs.image_backwards += result.image_backwards * passes
        if result.queries is not None and len(plan.candidates) == 1:
            # What was not attacked was wrong before.
            self.queries = torch.zeros_like(self._y).index_copy(0, rows, result.queries).tolist()
        for note in result.notes:
            self.costs.note(note, self._block.keys[rows.to(self._block.keys.device)])
        return result.x_adv, self._by_part(result, rows)

    def _by_part(self, result: AttackResult, rows: Tensor) -> dict[str, int] | None:
        if not isinstance(result, CreditsParts):
            return None
        # Images that were broken earlier have already been credited.
        unbroken = ~self.search.broken[rows]
        return {name: int((mask & unbroken).sum()) for name, mask in result.per_attack.items()}

    def _after_part(self, progress: Progress) -> None:
        self._suite = progress
        self._store()
        self._stand()

    def _stand(self) -> None:
        """Report the progress to the pace, which may raise to stop."""
        passes = self.costs.image_forwards + self.costs.image_backwards
        if self._suite is not None:
            passes += self._suite.image_forwards + self._suite.image_backwards
        if self._engine is not None:
            passes += self._engine.at.image_forwards + self._engine.at.image_backwards
        left = None if self._engine is None else self._engine.left()
        self._pace.stands(passes, int(self.search.settled.sum()), left)

    def _store(self) -> None:
        if self._partial is None:
            return
        self._stored = time.perf_counter()
        suite: dict[str, Any] | None = None
        cascade: dict[str, Any] | None = None
        if self._engine is None:
            tensors = self.search.state()
        else:
            # The versions of the search are part of the cascade's state.
            tensors, cascade = self._engine.tensors(), self._engine.numbers()
        if self._suite is not None:
            part = self._suite
            tensors |= {f"{_PART}{name}": tensor for name, tensor in part.tensors().items()}
            suite = {
                "done": list(part.done),
                "image_forwards": part.image_forwards,
                "image_backwards": part.image_backwards,
            }
        notes = [note.to_table() for note in self.costs.notes]
        books = {**vars(self.costs), "notes": notes, "seconds": self.seconds()}
        tables: dict[str, Mapping[Rule, Sequence[float]]] = {
            "first_broken": self.first_broken,
            "last_fall": self.last_fall,
        }
        found: dict[str, JSON] = {
            name: {str(rule): list(column) for rule, column in table.items()} for name, table in tables.items()
        }
        found["queries"] = list(self.queries)
        scored: list[JSON] = [votes.to_table() for votes in self.scored.values()]
        meta: dict[str, JSON] = {"books": books, "suite": suite, "cascade": cascade, "scored": scored, **found}
        self._partial.save(self._block.start, tensors, meta)

    def _restore(self) -> bool:
        stored = None if self._partial is None else self._partial.load(self._block.start)
        if stored is None:
            return False
        tensors, suite, cascade = stored.tensors, stored.meta["suite"], stored.meta["cascade"]
        if cascade is None:
            self.search.restore(tensors)
        else:
            self._begun = cascade, tensors
        books = stored.meta["books"]
        self.first_broken, self.last_fall = stored.meta["first_broken"], stored.meta["last_fall"]
        self.queries = stored.meta["queries"]
        self.scored = {votes["samples"]: FurtherVotes(**votes) for votes in stored.meta["scored"]}
        self.costs = Costs(**{**books, "notes": [Note(**note) for note in books["notes"]]})
        if suite is not None:
            device = self._block.y.device
            of_suite = {
                name.removeprefix(_PART): tensors[name].to(device) for name in tensors if name.startswith(_PART)
            }
            self._suite = Progress.restored(**suite, tensors=of_suite)
        return True
