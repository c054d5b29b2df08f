"""The result of an attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

NoteCode = Literal["loss-replaced", "projected", "gradient-not-finite", "gradient-zero", "other"]


class AttackNote(NamedTuple):
    """A note that qualifies the figures of an attack.

    Attributes:
        code: Identifies the kind of note to code.
        text: The sentence that users read.
        images: Positions in the batch of the images that it is about; empty if it is about the whole attack.
    """

    code: NoteCode
    text: str
    images: tuple[int, ...] = ()


def gradient_notes(unusable: Tensor, flat: Tensor) -> tuple[AttackNote, ...]:
    """Return notes that name the images whose gradients were of no use, by their positions in the batch.

    Args:
        unusable: (N,) bool, images at which a gradient was NaN or infinite.
        flat: (N,) bool, images whose gradient was zero at every step.
    """
    notes: list[AttackNote] = []
    kinds: tuple[tuple[NoteCode, Tensor, str], ...] = (
        ("gradient-not-finite", unusable, "was NaN or infinite"),
        ("gradient-zero", flat, "was zero at every step"),
    )
    for code, images, words in kinds:
        if images.any():
            places = images.nonzero().squeeze(1).tolist()
            text = f"the gradient {words} at {len(places)} of {len(images)} images: {', '.join(map(str, places))}"
            notes.append(AttackNote(code, text, tuple(places)))
    return tuple(notes)


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images, with the attack's success, losses and cost.

    Attributes:
        x_adv: (N, C, H, W) images in [0, 1], within eps of the clean ones.
        success: (N,) bool, whether the model misclassifies them (with a target: as the target). A random model is
            scored by a vote of draws that were not used to choose the images; reported figures need votes of their own.
        loss: (N,) the attack's loss at x_adv.
        loss_curve: (steps,) the loss at each step before it was taken, mean over images and restarts; an image that has
            left the batch counts with its last value. In l1 pgd and apgd begin in larger balls. Empty for an attack
            that has none.
        image_forwards: Images that went forward through the base model.
        image_backwards: Images that went backward through it.
        notes: Notes that qualify the figures, such as a loss that was replaced; a plain sentence has no code.
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
