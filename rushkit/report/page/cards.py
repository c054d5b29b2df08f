"""The images that a page shows of a model, ready to be laid out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thumb:
    """A small image; ``source`` is the URL of its PNG, which has the PNG in it."""

    source: str
    words: str


@dataclass(frozen=True)
class Bar:
    """The votes of one class: how many, and their share of all."""

    name: str
    count: int
    share: float
    right: bool


@dataclass(frozen=True)
class Votes:
    """The classes predicted for noisy copies of one version of an image."""

    words: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Card:
    """One image: its versions, the votes on them, and the outcome of the attack."""

    truth: str
    fate: str
    thumbs: tuple[Thumb, ...]
    votes: tuple[Votes, ...]


@dataclass(frozen=True)
class Panel:
    """The cards of a model, or only a sentence that says why there are none."""

    caption: str
    cards: tuple[Card, ...] = ()
