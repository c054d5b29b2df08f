"""What images are taken for: the class that most of an image's votes give, and how many of them give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Protocol, Self

from pydantic import model_validator

from rushkit.recipe.schema import Rule
from rushkit.results.base import Choice, Number, Record

# The class of an answer that is none of the classes: a model with more outputs than classes rejects an image by it.
REJECTED = -1


class TakenFor(Record):
    """What the votes on N images take them for.

    Attributes:
        classes: (N,) the class that most of the image's votes give, the lowest of several; -1: none of the classes.
        votes: (N,) how many of its votes give that class.
    """

    classes: list[Choice]
    votes: list[Number]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.classes) != len(self.votes):
            raise ValueError(f"{len(self.votes)} counts of votes stand beside {len(self.classes)} classes")
        return self


TakenByRule = dict[Rule, TakenFor]


def joined(parts: Sequence[Mapping[Rule, TakenFor]]) -> TakenByRule:
    """Return what the images of all parts are taken for, in order; empty unless every part says it."""
    if not all(parts):
        return {}
    return {
        rule: TakenFor(
            classes=[index for part in parts for index in part[rule].classes],
            votes=[count for part in parts for count in part[rule].votes],
        )
        for rule in parts[0]
    }


class Voted(Protocol):
    """Votes on N images, as the outcomes of attacks and the lines of their logs have them."""

    @property
    def right(self) -> Mapping[Rule, Sequence[int]]:
        """Rule -> (N,) number of correct votes on the adversarial image."""
        ...

    @property
    def clean_right(self) -> Mapping[Rule, Sequence[int]]:
        """Rule -> (N,) number of correct votes on the clean image."""
        ...

    @property
    def taken_for(self) -> Mapping[Rule, TakenFor]:
        """Rule -> what the votes take the adversarial images for."""
        ...

    @property
    def clean_taken_for(self) -> Mapping[Rule, TakenFor]:
        """Rule -> what they take the clean images for."""
        ...


def check_votes(outcomes: Voted, labels: Sequence[int], votes: int, target: int | None = None) -> None:
    """Raise ValueError if images cannot be taken for these classes by votes of which so many are right.

    Args:
        outcomes: The votes; records that did not keep what images are taken for pass.
        labels: (N,) true classes.
        votes: T, the number of votes on each image.
        target: The class that the images were to be taken for; a vote is then right if it does not give it.
    """
    kept = set(outcomes.right) if outcomes.taken_for or outcomes.clean_taken_for else set()
    counted = labels if target is None else [target] * len(labels)
    for taken, right in ((outcomes.taken_for, outcomes.right), (outcomes.clean_taken_for, outcomes.clean_right)):
        if set(taken) != kept:
            raise ValueError("what images are taken for is not kept under every rule, before and after the attack")
        for rule, of_images in taken.items():
            given = right[rule] if target is None else [votes - count for count in right[rule]]
            if len(of_images.classes) != len(labels):
                raise ValueError(f"{len(of_images.classes)} images are taken for a class, not {len(labels)}")
            for image in zip(of_images.classes, of_images.votes, counted, given, strict=True):
                _check_image(*image, votes)


def _check_image(index: int, most: int, counted: int, given: int, votes: int) -> None:
    """Raise ValueError unless ``most`` of the votes can give class ``index`` if ``given`` give class ``counted``."""
    if most > votes:
        raise ValueError(f"an image is taken for class {index} by {most} of {votes} votes")
    if index == counted and most != given:
        raise ValueError(f"an image is taken for class {index} by {most} votes, and {given} give it")
    if index != counted and most + given > votes:
        raise ValueError(f"an image has {most} votes for class {index} and {given} for {counted}, of {votes}")
    if index != counted and (most, -_rank(index)) < (given, -_rank(counted)):
        raise ValueError(f"an image is taken for class {index} by {most} votes, and {given} give class {counted}")


def check_known(indices: Sequence[int], classes: int) -> None:
    """Raise ValueError if the class of an image, or what it is taken for, is none of so many classes."""
    if max(indices, default=REJECTED) >= classes:
        raise ValueError(f"an image is of class {max(indices)}, or taken for it, of {classes} classes")


def _rank(index: int) -> float:
    """Return the place of a class among those with equally many votes; a rejection comes last."""
    return inf if index == REJECTED else index
