"""The result of an attack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from rushkit.checked import not_finite
from rushkit.errors import NumericsError

NoteCode = Literal[
    "loss-replaced",
    "projected",
    "gradient-not-finite",
    "gradient-zero",
    "logits-not-finite",
    "outputs-are-probabilities",
    "slopes-zero",
    "other",
]


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
    return (
        *_naming("gradient-not-finite", "the gradient was NaN or infinite", unusable),
        *_naming("gradient-zero", "the gradient was zero at every step", flat),
    )


def silence_notes(silent: Tensor) -> tuple[AttackNote, ...]:
    """Return a note that names the images (N,) bool that had no finite logits at any query; none if there are none."""
    return _naming("logits-not-finite", "the logits were NaN or infinite at every query", silent)


def _naming(code: NoteCode, words: str, images: Tensor) -> tuple[AttackNote, ...]:
    if not images.any():
        return ()
    places = images.nonzero().squeeze(1).tolist()
    text = f"{words} at {len(places)} of {len(images)} images: {', '.join(map(str, places))}"
    return (AttackNote(code, text, tuple(places)),)


@dataclass(frozen=True)
class AttackResult:
    """Adversarial images, with the attack's success, losses and cost.

    Attributes:
        x_adv: (N, C, H, W) images in [0, 1], within eps of the clean ones.
        success: (N,) bool, whether the model misclassifies them (with a target: as the target). A random model is
            scored by a vote of draws that were not used to choose the images; reported figures need votes of their own.
        loss: (N,) the attack's loss at x_adv; NaN where the logits are not finite.
        loss_curve: (steps,) the loss at each step before it was taken, mean over images and restarts; an image that has
            left the batch counts with its last value. In l1 pgd and apgd begin in larger balls. Empty for an attack
            that has none.
        image_forwards: Images that went forward through the base model.
        image_backwards: Images that went backward through it.
        least_right: (N,) the smallest share of a gradient's draws that gave the label, over an image's iterates within
            the ball; 1 where there was none. The last iterate is not among them. None for an attack that takes no steps
            along gradients.
        queries: (N,) int64, after how many queries of the model an image was first found broken within the ball; 0: it
            was wrong before; -1: it was not broken. None for an attack that does not count them.
        notes: Notes that qualify the figures, such as a loss that was replaced; a plain sentence has no code.
    """

    x_adv: Tensor
    success: Tensor
    loss: Tensor
    loss_curve: Tensor
    image_forwards: int
    image_backwards: int
    notes: tuple[AttackNote | str, ...] = field(default=())
    least_right: Tensor | None = None
    queries: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({int(self.success.sum())} of {len(self.x_adv)} images succeed, "
            f"{self.image_forwards} forwards, {self.image_backwards} backwards)"
        )


# In place of a number of queries, of an image that was not broken.
NOT_BROKEN = -1
_Result = TypeVar("_Result", bound=AttackResult)


class NothingFinite(NumericsError):
    """No image that was attacked had finite logits, or a finite gradient.

    Attributes:
        result: The result all the same, for callers that attack these images among others.
    """

    def __init__(self, error: NumericsError, result: AttackResult) -> None:
        super().__init__(error.message, error.hint)
        self.result = result


def checked(result: _Result, useless: bool = False) -> _Result:
    """Return the result of an attack if there were finite numbers to base it on.

    Args:
        result: The result.
        useless: Whether no image that was attacked had a finite gradient.

    Raises:
        NothingFinite: no image has finite logits, or all gradients were useless.
    """
    if not torch.isfinite(result.loss).any():
        raise NothingFinite(not_finite(), result)
    if useless:
        raise NothingFinite(no_finite_gradient(), result)
    return result


def useless(attacked: Tensor, unusable: Tensor) -> bool:
    """Return whether images (N,) bool were attacked, and all of them were unusable (N,) bool."""
    return bool(attacked.any() and unusable[attacked].all())


def no_finite_gradient() -> NumericsError:
    """Return the error for gradients that are not finite."""
    return NumericsError(
        "the gradient of the attack's loss is NaN or infinite", "look for sqrt, log or division at 0 in the model"
    )
