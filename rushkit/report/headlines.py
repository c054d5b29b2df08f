"""The headline of a model as records: four accuracies that belong together, and a sentence on them.

``report.rungs`` chooses the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rushkit.results.jsonable import Figures


@dataclass(frozen=True)
class Rung(Figures):
    """One accuracy of a headline, as a share, with its 95% Wilson interval over the images.

    Attributes:
        accuracy: The share, in [0, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.
        images: Number of images.
        samples: m, the number of draws in each vote; of a certificate, the draws that bound its probability.
        data: Data set and split, such as ``"cifar10/test"``.
        chosen: How the images were chosen, in words.
        same_images: Whether these are the images of ``strict``, one by one.
        how: How it was measured, in words: ``"pgd strict"``, or the method of the certificates.
        ball: The ball in words, such as ``"l-inf 8/255"``; empty without an attack.
        norm: Norm of the ball; empty without an attack.
        radius: Radius of the ball, pixel units; None without an attack.
        noise: The noise of the model where it is not the one that the model is for, in words; else empty.
        caveat: What must be said with it, in a sentence; empty for nothing.
        runs: Names of the runs that it is from; several where attacks are taken together.
    """

    accuracy: float
    low: float
    high: float
    images: int
    samples: int
    data: str
    chosen: str
    same_images: bool
    how: str
    ball: str
    norm: str
    radius: float | None
    noise: str
    caveat: str
    runs: list[str]


@dataclass(frozen=True)
class Gap(Figures):
    """By how much ``paper`` lies above ``strict``, as a difference of shares.

    Attributes:
        difference: ``paper`` minus ``strict``, in [-1, 1].
        low: Lower end of its 95% interval.
        high: Upper end of the interval.
        paired: Whether both are of the same images: then the interval is of the differences image by image, else of two
            independent shares.
    """

    difference: float
    low: float
    high: float
    paired: bool


@dataclass(frozen=True)
class Headline(Figures):
    """What a reader sees first of a model.

    Attributes:
        clean: Accuracy without an attack, of the images and m of ``strict`` where that was measured; None if it was not
            measured, as with the other rungs.
        paper: What the protocol ``paper`` leaves. It is not the robustness, so it is None without ``strict`` beside it.
        strict: What the strict protocol leaves: an upper bound of the robustness.
        certified: The share that is right and certified: a lower bound in its own ball.
        gap: ``paper`` minus ``strict``; None unless both are there.
        missing: Name of a rung that is None -> why, in a few words.
        sentence: What may be said of it, by the rules of docs/claims.md.
    """

    clean: Rung | None = None
    paper: Rung | None = None
    strict: Rung | None = None
    certified: Rung | None = None
    gap: Gap | None = None
    missing: dict[str, str] = field(default_factory=dict)
    sentence: str = ""

    @property
    def rungs(self) -> list[tuple[str, Rung | None]]:
        """The rungs by name, from the top."""
        return [("clean", self.clean), ("paper", self.paper), ("strict", self.strict), ("certified", self.certified)]


# The headline of a model of which nothing is known yet.
NOTHING = Headline()
