"""The result of an attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor


class AttackNote(NamedTuple):
    """Something that a reader of an attack's figures must know.

    Attributes:
        code: What it is about, for code that has to tell notes apart.
        text: The sentence for people.
    """

    code: Literal["loss-replaced", "part-left-out", "projected", "other"]
    text: str


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images, and how well and at what cost the attack found them.

    Attributes:
        x_adv: (N, C, H, W) images in [0, 1], within eps of the clean ones.
        success: (N,) bool, whether the model errs there (with a target: whether it says the target). A randomised model
            is judged by a vote of draws that chose nothing; a figure to be reported needs votes of its own.
        loss: (N,) the attack's loss at x_adv.
        loss_curve: (steps,) the loss at each step before it was taken, mean over images and restarts; an image that has
            left the batch counts with its last value. Empty for an attack that has none.
        image_forwards: Images that went forward through the base model.
        image_backwards: Images that went backward through it.
        notes: What a reader of the figures must know, such as a loss that was replaced; a sentence alone has no code.
    """

    x_adv: Tensor
    success: Tensor
    loss: Tensor
    loss_curve: Tensor
    image_forwards: int
    image_backwards: int
    notes: tuple[AttackNote | str, ...] = field(default=())

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({int(self.success.sum())} of {len(self.x_adv)} images succeed, "
            f"{self.image_forwards} forwards, {self.image_backwards} backwards)"
        )
