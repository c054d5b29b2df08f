"""Accuracy as a report breaks it down, by the passes of an attack and by class: records without what computes them."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.results.jsonable import Figures


@dataclass(frozen=True)
class PassesPoint(Figures):
    """What stands after a climb; at no passes what is right without an attack.

    Attributes:
        passes: Of an image that stays to this climb's end: forward and backward, each draw counted.
        accuracy: Share of the images that no climb has broken yet, as the attack's own panel of selection saw it.
        low: Lower end of its 95% interval.
        high: Upper end of the interval.
    """

    passes: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class PassesSeries(Figures):
    """Robust accuracy as a function of passes.

    Attributes:
        smaller: Radius of the ball whose versions were tried first, pixel units; None: there was none.
        settings: Those that are not the protocol's own, in words.
        scored: The robust accuracy by votes of fresh noise, which is the figure of the attack.
        points: In the order of passes; the first is at 0.
    """

    run: str
    data: str
    split: str
    noise: dict[str, object]
    attack: str
    norm: str
    eps: float
    smaller: float | None
    protocol: str
    version: int
    effort: int
    samples: int
    settings: str
    images: int
    scored: float
    points: tuple[PassesPoint, ...]


@dataclass(frozen=True)
class ClassShare(Figures):
    """The share of right votes on the images of a class, with its 95% interval over the images."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassAccuracy(Figures):
    """The accuracy of a class.

    Attributes:
        name: Its name; its number where that is not known.
        images: How many images of it there are.
        clean: Without an attack.
        attacked: On the same images and by the same votes under attack; None where there was none.
    """

    name: str
    images: int
    clean: ClassShare
    attacked: ClassShare | None = None


@dataclass(frozen=True)
class PerClass(Figures):
    """The accuracy of every class of which there are images, under the majority vote.

    Attributes:
        run: Name of the run.
        data: Data set and split.
        noise: The model's noise.
        samples: m, the number of draws in each vote.
        attack: The attack, its ball and protocol in words; empty for none.
        classes: In the order of the classes.
        absent: Names of the classes of which there is no image.
    """

    run: str
    data: str
    noise: dict[str, object]
    samples: int
    attack: str
    classes: tuple[ClassAccuracy, ...]
    absent: tuple[str, ...]
