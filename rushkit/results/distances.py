"""The record of the smallest distances that break images: of each image, and their quantiles."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from rushkit.recipe.schema import Norm
from rushkit.results.base import Count, Number, Record, Share, Size, check_same_length
from rushkit.results.notes import Note


class Quantile(Record):
    """A quantile of the distances over the images; None is more than the largest radius that was tried.

    Attributes:
        share: The share of the images that are broken at this distance, such as 0.5.
        distance: The distance, pixel units.
        low: Lower end of its 95% interval, which order statistics give; 0: there is no bound.
        high: Upper end of the interval; None as well where there is no bound.
    """

    share: Share
    distance: Size | None
    low: Size | None
    high: Size | None


class Distances(Record):
    """The smallest distance at which each image was broken.

    Attributes:
        images: (N,) positions in the limited split.
        indices: (N,) the images' indices in the data set's split, before any limit.
        labels: (N,) true classes.
        distance: (N,) distance to the nearest version that was found to break the image, pixel units; 0: it was wrong
            before; None: none was found, so that the distance is more than the largest radius, as far as is known.
        held: (N,) the largest radius, pixel units, that was tried below it and at which the attack found nothing.
    """

    images: list[Count]
    indices: list[Count]
    labels: list[Count]
    distance: list[Size | None]
    held: list[Size]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_same_length(self.images, self.indices, self.labels, self.distance, self.held)
        return self


class SmallestRow(Record):
    """The smallest distances that a strict attack found for images, by bisection over its radius.

    Attributes:
        split: Data set and split.
        attack: Registered name of the attack.
        norm: The norm of the distances.
        eps: The largest radius that was tried, pixel units.
        target: Name of the class that the images were to be taken for; empty if any but their own.
        eight_bit: Whether versions have 8-bit pixels.
        protocol: The label of the attack: ``strict``, or ``weaker`` with settings that fall short of it.
        version: Version of the protocol.
        effort: How much of the protocol's budget was spent on each radius.
        samples: m of the smoothed classifier.
        resolution: The finest step between radii that were tried, pixel units.
        images: Number of images.
        quantiles: The quartiles of the distances.
        outcomes: The distance of every image.
        notes: Notes that qualify the figures.
        seconds: Seconds of work.
        image_forwards: Forward passes of single images through the model.
        image_backwards: Backward passes of single images.
    """

    split: str
    attack: str
    norm: Norm
    eps: Size
    target: str = ""
    eight_bit: bool = False
    protocol: str
    version: Number
    effort: Number
    samples: Number
    resolution: Size
    images: Number
    quantiles: list[Quantile]
    outcomes: Distances
    notes: list[Note]
    seconds: Size
    image_forwards: Count
    image_backwards: Count

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if len(self.outcomes.images) != self.images:
            raise ValueError(f"there are distances of {len(self.outcomes.images)} images, not of {self.images}")
        if any(distance is not None and distance > self.eps * (1 + 1e-6) for distance in self.outcomes.distance):
            raise ValueError("a distance is larger than every radius that was tried")
        return self


class DistanceBlock(Record):
    """The distances of a block of images, as a log keeps them.

    Attributes:
        images, labels, distance, held: As in ``Distances``, of these images.
        notes: Notes that qualify the figures.
        image_forwards: Forward passes of single images through the model.
        image_backwards: Backward passes of single images.
        seconds: Seconds of work.
    """

    images: list[Count]
    labels: list[Count]
    distance: list[Size | None]
    held: list[Size]
    notes: list[Note]
    image_forwards: Count
    image_backwards: Count
    seconds: Size
