"""AutoAttack (Croce and Hein 2020) at its official settings: several attacks in turn, each on the unbroken images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.apgd import APGD
from rushkit.attacks.best import Best
from rushkit.attacks.checks import check_ball, check_counts, check_eps, check_labels, checked_images
from rushkit.attacks.fab import FAB
from rushkit.attacks.judged import judged
from rushkit.attacks.losses import LossName, classes_needed
from rushkit.attacks.result import AttackNote, AttackResult, NothingFinite, checked, gradient_notes, useless
from rushkit.attacks.square import Square
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import UsageError

Version = Literal["standard", "rand"]
Part = APGD | FAB | Square

# Starts of APGD on CE, and targets of APGD-T, as in the official code; FAB-T has 9 targets in every norm.
_STARTS: dict[Norm, int] = {"linf": 1, "l2": 1, "l1": 5}
_TARGETS: dict[Norm, int] = {"linf": 9, "l2": 9, "l1": 5}
_RAND_EOT = 20
EFFORTS = (1, 2, 4)
CLEAN = "clean"


@dataclass(frozen=True)
class Progress:
    """The state of a suite between two of its parts, from which it can resume.

    Attributes:
        done: Names of the parts that have run; "clean" is the check of the images themselves.
        best: The best versions so far, scored on the suite's panel. Later parts leave out its settled images.
        per_attack: Name of a part to (N,) bool, the images that it broke and no part before it had.
        image_forwards: Images that went forward through the base model so far.
        image_backwards: Images that went backward through it so far.
        unusable: (N,) bool, images at which a gradient of a part was NaN or infinite.
        flat: (N,) bool, images whose gradient was zero at every step of every APGD and FAB that has attacked them.
    """

    done: tuple[str, ...]
    best: Best
    per_attack: Mapping[str, Tensor]
    unusable: Tensor
    flat: Tensor
    image_forwards: int = 0
    image_backwards: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of this state by name, for a file."""
        (score,) = self.best.scores
        by_part = {f"by.{name}": mask for name, mask in self.per_attack.items()}
        of_images = {"x_adv": self.best.x_adv, "score": score, "broken": self.best.settled}
        return {**of_images, "unusable": self.unusable, "flat": self.flat, **by_part}

    @classmethod
    def restored(
        cls, done: Sequence[str], tensors: Mapping[str, Tensor], image_forwards: int, image_backwards: int
    ) -> Progress:
        """Return the state whose ``tensors()`` returned these tensors."""
        best = Best(tensors["x_adv"], (tensors["score"],), tensors["broken"])
        per_attack = {name: tensors[f"by.{name}"] for name in done}
        return cls(tuple(done), best, per_attack, tensors["unusable"], tensors["flat"], image_forwards, image_backwards)

    def with_notes(self, index: Tensor, notes: Sequence[AttackNote | str], first: bool) -> Progress:
        """Return the progress with the images at ``index`` whose gradients were of no use to an APGD or FAB.

        Args:
            index: (n,) the images that it attacked.
            notes: Its notes.
            first: Whether it is the first of them in the suite.
        """
        unusable, flat = self.unusable.clone(), torch.zeros_like(self.flat)
        for note in notes:
            if isinstance(note, AttackNote) and note.images:
                mask = unusable if note.code == "gradient-not-finite" else flat
                mask[index[list(note.images)]] = True
        return replace(self, unusable=unusable, flat=flat if first else flat & self.flat)


@dataclass(frozen=True, repr=False)
class AutoAttackResult(AttackResult):
    """The result of the suite, and the images that each part broke.

    Attributes:
        version: "standard" or "rand".
        per_attack: Name of a part to (N,) bool, the images that it broke and no part before it had; "clean" are those
            that were wrong from the start. Broken means that a vote of fresh noise is lost.
    """

    version: Version = "standard"
    per_attack: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def contributions(self) -> dict[str, int]:
        """Name of a part to the number of images that it broke."""
        return {name: int(mask.sum()) for name, mask in self.per_attack.items()}


@dataclass(frozen=True, repr=False)
class AutoAttack:
    """``standard``: APGD on CE, APGD-T on targeted DLR, FAB-T, Square. ``rand``: APGD on CE, then on DLR, EOT 20.

    Images that are wrong by a vote of fresh noise leave after each part; of a random model, only by a clear vote, so
    that an image on the brink is attacked further. With too few classes for DLR the margin replaces it; a note says so.

    Args:
        norm: "linf", "l2" or "l1" (APGD then has 5 starts on CE and 5 targets).
        eps: Radius of the ball, pixel units.
        version: "standard" or "rand"; None: rand on a model that is random, else standard.
        steps: Steps of APGD and FAB (official: 100).
        queries: Queries of Square (official: 5000).
        samples: Draws for each gradient in rand (official EOT: 20), or m in standard on a random model; None: official.
        selection_samples: Draws of the panels that compare images; None: at least 20.
        effort: 1, 2 or 4, by which steps and queries are multiplied; 1 is the official suite.
        seed: Seeds every draw.

    Raises:
        UsageError: a norm, radius, version or effort that does not exist.
    """

    norm: Norm
    eps: float
    version: Literal["standard", "rand"] | None = None
    steps: int = 100
    queries: int = 5000
    samples: int | None = None
    selection_samples: int | None = None
    effort: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball("autoattack", self.norm, self.eps)
        if self.version not in (None, "standard", "rand"):
            raise UsageError(f"autoattack has no version {self.version!r}", "it has: standard, rand")
        check_counts("autoattack", steps=self.steps, queries=self.queries)
        if self.effort not in EFFORTS:
            raise UsageError(f"autoattack has no effort {self.effort}", f"it has: {', '.join(map(str, EFFORTS))}")

    def __repr__(self) -> str:
        return f"AutoAttack(norm={self.norm!r}, eps={self.eps:g}, version={self.version!r})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def parts(self, version: Version, num_classes: int) -> tuple[dict[str, Part], tuple[AttackNote, ...]]:
        """Return the attacks of a version by name, in order, and notes on them."""
        targeted = version == "standard"
        needed = classes_needed("dlr", targeted)
        few = num_classes < needed
        second: LossName = "margin" if few else "dlr"
        kind = "targeted DLR" if targeted else "DLR"
        text = f"{kind} needs {needed} classes and there are {num_classes}: margin instead"
        notes = (AttackNote("loss-replaced", text),) if few else ()
        if not targeted:
            return {"apgd-ce": self._apgd("ce", version), f"apgd-{second}": self._apgd(second, version)}, notes
        return {
            "apgd-ce": self._apgd("ce", version, restarts=_STARTS[self.norm]),
            "apgd-t": self._apgd(second, version, targeted=True),
            "fab-t": FAB(
                self.norm,
                self.eps,
                self.effort * self.steps,
                samples=self.samples,
                selection_samples=self.selection_samples,
                seed=derive(self.seed, "fab"),
            ),
            "square": Square(
                self.norm,
                self.eps,
                self.effort * self.queries,
                samples=self.samples,
                selection_samples=self.selection_samples,
                seed=derive(self.seed, "square"),
            ),
        }, notes

    def _apgd(self, loss: LossName, version: Version, targeted: bool = False, restarts: int = 1) -> APGD:
        return APGD(
            self.norm,
            self.eps,
            self.effort * self.steps,
            loss,
            restarts=restarts,
            samples=self.samples or (_RAND_EOT if version == "rand" else None),
            selection_samples=self.selection_samples,
            targeted=targeted,
            n_targets=_TARGETS[self.norm],
            seed=derive(self.seed, f"apgd {loss} {targeted}"),
        )

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AutoAttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1] and (N,) labels; the model is left as it was.

        Raises:
            UsageError: images or labels that do not fit, or no gradient.
            NumericsError: NaN or infinite logits or gradients at all images that no part breaks.
        """
        return self.run_from(None, model, x, y)

    def run_from(
        self,
        progress: Progress | None,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        after_part: Callable[[Progress], None] = lambda progress: None,
    ) -> AutoAttackResult:
        """Attack as ``run`` does, continuing where an earlier call stopped.

        Args:
            progress: The progress of an earlier call on the same model and images: its finished parts are not repeated,
                and the result is the same. None starts with the first part.
            model: The classifier, smoothed or not.
            x: (N, C, H, W) clean images.
            y: (N,) labels.
            after_part: Called with the progress after each part, for example to store it.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        with self._under_attack(model, x) as victim:
            check_labels(y, victim.num_classes)
            version: Version = self.version or ("rand" if victim.random else "standard")
            parts, notes = self.parts(version, victim.num_classes)
        if progress is None:
            everything = torch.arange(len(x), device=x.device)
            none = torch.zeros_like(y, dtype=torch.bool)
            nothing = Progress((), Best.nothing(x), {}, none, none, image_forwards=victim.image_forwards)
            progress = self._added(nothing, CLEAN, model, everything, x, y, x)
            after_part(progress)
        elif progress.best.x_adv.shape != x.shape:
            raise UsageError(f"the stored progress is of {len(progress.best.x_adv)} images, not {len(x)}", "start anew")
        for name, attack in parts.items():
            left = (~progress.best.settled).nonzero().squeeze(1)
            if name in progress.done or not len(left):
                continue
            try:
                result: AttackResult = attack.run(model, x[left], y[left])
            except NothingFinite as error:
                # Other images may have left before this part.
                result = error.result
            progress = self._added(progress, name, model, left, x[left], y[left], result.x_adv)
            if isinstance(attack, APGD | FAB):
                progress = progress.with_notes(left, result.notes, first=name == next(iter(parts)))
            progress = replace(
                progress,
                image_forwards=progress.image_forwards + result.image_forwards,
                image_backwards=progress.image_backwards + result.image_backwards,
            )
            after_part(progress)
        names = CLEAN, *parts
        notes += gradient_notes(progress.unusable, progress.flat)
        return self._result(model, x, y, progress, version, names, notes)

    def _under_attack(self, model: nn.Module, x: Tensor, purpose: str = "suite") -> AbstractContextManager[Victim]:
        return under_attack(model, x, derive(self.seed, purpose), self.samples, self.selection_samples)

    def _added(
        self, progress: Progress, name: str, model: nn.Module, index: Tensor, x: Tensor, y: Tensor, x_adv: Tensor
    ) -> Progress:
        """Return the progress after a part has attacked the images at ``index`` (x with labels y) and returned x_adv.

        A panel compares the new versions with the best so far, and a vote of fresh noise scores those that are kept.
        """
        best = progress.best.copy()
        with self._under_attack(model, x, f"look {name}") as victim:
            panel = victim.logits(x_adv, draw=derive(self.seed, "suite panel"))
            best.offer(index, x_adv, victim.rank(panel, y))
            verdict = victim.judge(best.x_adv[index], y, draw=derive(self.seed, f"look {name}"))
        best.settled[index] = verdict.clear
        newly_broken = torch.zeros_like(best.settled)
        newly_broken[index] = verdict.wrong
        for mask in progress.per_attack.values():
            newly_broken &= ~mask
        return replace(
            progress,
            done=(*progress.done, name),
            best=best,
            per_attack={**progress.per_attack, name: newly_broken},
            image_forwards=progress.image_forwards + victim.image_forwards,
        )

    def _result(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        progress: Progress,
        version: Version,
        names: Sequence[str],
        notes: tuple[AttackNote, ...],
    ) -> AutoAttackResult:
        with self._under_attack(model, x, "verdict") as victim:
            draw = derive(self.seed, "verdict")
            result = judged(victim, x, progress.best.x_adv, y, (self.norm, self.eps), draw=draw, notes=notes)
        none_broken = torch.zeros_like(progress.best.settled)
        spent = {
            "image_forwards": progress.image_forwards + result.image_forwards,
            "image_backwards": progress.image_backwards,
        }
        whole = AutoAttackResult(
            **{**vars(result), **spent},
            version=version,
            per_attack={name: progress.per_attack.get(name, none_broken) for name in names},
        )
        return checked(whole, useless(~progress.per_attack[CLEAN], progress.unusable & ~whole.success))
