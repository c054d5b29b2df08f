"""What attacks that fit a defence leave in a row: the stand-in that gradients came from, and the user's own attacks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from rushkit.results.base import Count, Number, Record, Share

# What a stand-in stands for: the whole model, or what changes the images before it.
StandsFor = Literal["model", "fronts"]


class SurrogateUsed(Record):
    """The differentiable stand-in whose slopes an attack followed; values and decisions were the model's.

    Attributes:
        code: The file without its folder, or the module, and the name in it: ``"defence.py:smooth"``; or
            ``"identity"``.
        sha256: Hash of the file; "" if it has none.
        stands_for: What it stands for.
        images: Number of images on which it was compared with the model, under the model's noise and unattacked.
        agreement: Share of them that it answers as the model does.
        fooled: Number of these images that the model has right, and that an attack of a few steps on the stand-in alone
            has it take for another class.
        carried: Number of the fooled ones that the model then has wrong, too.
    """

    code: str
    sha256: str = ""
    stands_for: StandsFor
    images: Number
    agreement: Share
    fooled: Count
    carried: Count

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if not self.carried <= self.fooled <= self.images:
            raise ValueError("more images are carried over than were fooled, or more fooled than there are")
        return self


class OwnAttackUsed(Record):
    """An attack of the user's own that took part.

    Attributes:
        code: The file without its folder, or the module, and the name in it: ``"mine.py:attack"``.
        sha256: Hash of the file; "" if it has none.
        projected: Number of images of which it returned versions outside the ball or [0, 1], which were projected.
        unused: Number of images at which it took no part: it ended with an error, or its pixels were not finite.
    """

    code: str
    sha256: str = ""
    projected: Count = 0
    unused: Count = 0
