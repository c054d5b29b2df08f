"""Projected gradient descent (Madry et al. 2018) with expectation over the model's noise (Athalye et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_eps, check_labels, checked_images
from rushkit.attacks.losses import LossName
from rushkit.attacks.norms import random_start
from rushkit.attacks.restarts import (
    Curve,
    check_classes,
    check_settings,
    check_untargeted,
    classes_to_reach,
    climbs,
    concluded,
    draw_of_step,
    drive,
    start_source,
)
from rushkit.attacks.result import AttackResult
from rushkit.attacks.steps.falling import FallingSteps
from rushkit.attacks.victim import Victim, derive, under_attack
from rushkit.errors import UsageError

# What the gradients may see of a smoothed classifier's noise.
_NOISES = ("fresh", "fixed", "per-image", "none")


@dataclass(frozen=True, repr=False)
class PGD:
    """Steps in the direction that raises the loss most, each projected onto ball and box.

    The RUSH paper's attack is ``steps=40, step_size=2/255, random_start=False, best="last", noise="fixed"`` in l-inf
    at 8/255: eq. 7 on one panel of noise. The defaults are those of a stronger one.

    Args:
        norm: "linf", "l2" or "l1".
        eps: Radius of the ball, pixel units.
        steps: Gradient steps of one climb.
        step_size: Length of every step, pixel units: in l-inf the change of each pixel, in l2 the length, in l1 the
            change of the pixel of largest slope before the projection; None: falling to 0 along a cosine.
        loss: The loss that is climbed: "nll" (−log p̄, eq. 7), "ce" (mean over draws), "dlr" (mean over draws),
            "dlr-mean" (of log p̄) or "margin" (of log p̄).
        random_start: Start anywhere in the ball, or at the image.
        restarts: Climbs for each image; images that are broken leave before the next climb.
        noise: What the gradients see of a smoothed classifier's noise: "fresh" draws at every step, one "fixed" panel
            of draws for all images and the whole attack, a fixed panel "per-image", which is seeded by the pixels of
            the image, or "none": the network is climbed without its noise. Panels that select iterates and votes have
            noise in every case.
        samples: Draws for each gradient (EOT); None: the model's own m.
        best: Return the "best" iterate by a selection panel (for a deterministic model, by the loss), or the "last".
        selection_samples: Draws of the selection panel; None: max(samples, 20).
        targeted: Reach a class rather than leave one; by default the likeliest other.
        seed: Seeds every draw.

    Attributes:
        rule: The rule by which it takes its steps; a subclass may have another.

    Raises:
        UsageError: a norm, radius or option that does not exist or fit.
    """

    norm: Norm
    eps: float
    steps: int = 40
    step_size: float | None = None
    loss: LossName = "nll"
    random_start: bool = True
    restarts: int = 1
    noise: Literal["fresh", "fixed", "per-image", "none"] = "fresh"
    samples: int | None = None
    best: Literal["last", "best"] = "best"
    selection_samples: int | None = None
    targeted: bool = False
    seed: int = 0
    rule: ClassVar[type[FallingSteps]] = FallingSteps

    def __post_init__(self) -> None:
        check_settings("pgd", self, ("linf", "l2", "l1"))
        if self.step_size is not None:
            if self.step_size == 0:
                raise UsageError("pgd: step_size must be above 0")
            check_eps(self.norm, self.step_size, name="step_size")
        if self.noise not in _NOISES or self.best not in ("last", "best"):
            known = f"noise is one of {', '.join(_NOISES)}, best is last or best"
            raise UsageError(f"pgd: {known} (got {self.noise!r}, {self.best!r})")

    def __repr__(self) -> str:
        return f"PGD(norm={self.norm!r}, eps={self.eps:g}, steps={self.steps}, loss={self.loss!r})"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return adversarial images in [0, 1] within eps of x; see ``run``."""
        return self.run(model, x, y).x_adv

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raise UsageError if the loss needs more classes than there are."""
        check_classes(self, classes)

    def run(self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor | None = None) -> AttackResult:
        """Attack (N, C, H, W) images with pixels in [0, 1].

        Args:
            model: The classifier, smoothed or not; it is left as it was.
            x: Clean images.
            y: (N,) their labels.
            target: (N,) classes to be reached, for an attack made with ``targeted``; None: the likeliest other class.

        Raises:
            UsageError: images, labels or targets that do not fit, too few classes for the loss, no gradient.
            NumericsError: NaN or infinite logits or gradients at all images; they are never counted as a success.
        """
        x, y = checked_images(x, y)
        check_eps(self.norm, self.eps, x[0].numel())
        check_untargeted("pgd", self, target)
        with under_attack(model, x, self.seed, self.samples, self.selection_samples) as victim:
            check_labels(y, victim.num_classes)
            self.check_fit(victim.num_classes, *x.shape[2:])
            reached = classes_to_reach(victim, x, y, target, self.seed) if self.targeted else None
            climbed = victim.without_noise() if self.noise == "none" else victim
            keys = pixel_keys(x) if self.noise == "per-image" else None
            best = BestIterate(victim, x, y, reached, losses.get(self.loss), self.seed)
            curve = Curve(self.steps)

            def start(number: int) -> Tensor:
                source = start_source(self.seed, number, x.device)
                return random_start(x, self.norm, self.eps, source, shared=True) if self.random_start else x

            last_alone = self.best == "last"
            if not last_alone:
                best.offer(torch.arange(len(x), device=x.device), x)
            for batch in climbs(best, x, [reached] * self.restarts, start, curve, every_image_first=last_alone):
                batch = batch if keys is None else replace(batch, keys=keys[batch.index])
                climb = self.rule(batch.x, batch.start, self.norm, self.eps, self.steps, self.step_size)
                offered: Literal["all", "none"] = "none" if last_alone else "all"
                left = drive(climbed, batch, climb, self.loss, best, curve, offered, self._draws(batch.number))
                if last_alone and self.restarts == 1:
                    best.take(left, climb.x_adv)
                elif last_alone:
                    best.offer(left, climb.x_adv)
            victim.add_passes(climbed)
            return concluded(self, best, x, curve, self._notes(victim))

    def _draws(self, climb: int) -> Callable[[int], int]:
        """Return the function from steps to the seeds of their draws; fixed noise has one for the whole attack."""
        if self.noise in ("fixed", "per-image"):
            panel = derive(self.seed, "panel")
            return lambda step: panel
        return draw_of_step(self.seed, climb)

    def _notes(self, victim: Victim) -> tuple[str, ...]:
        if self.noise == "fresh" or not victim.random or victim.has_panels:
            return ()
        wanted = "left out" if self.noise == "none" else "fixed"
        return (f"noise was to be {wanted}, but the model draws its own: it was fresh",)


def pixel_keys(x: Tensor) -> Tensor:
    """Return a number for each image that its pixels determine: (N, C, H, W) in [0, 1] -> (N,) int64.

    Pixels are rounded to 16 bits, so that an image has the same number on every device.
    """
    rows = (x.detach() * 65535).round().to("cpu", torch.int32).flatten(1).contiguous().numpy()
    digests = (blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return torch.tensor([int.from_bytes(digest, "big") >> 1 for digest in digests], dtype=torch.int64, device=x.device)
