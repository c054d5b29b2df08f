"""The images that a page shows of a model, ready to be laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What is done to an image: the page's style switches between views by these names.
Kind = Literal["clean", "attacked", "change", "noisy"]


@dataclass(frozen=True)
class View:
    """One version of an image; ``source`` is the URL of its PNG, which has the PNG in it."""

    kind: Kind
    source: str
    words: str


@dataclass(frozen=True)
class Tally:
    """The votes on one version of an image.

    Attributes:
        words: Which version it is.
        right: How many votes are right.
        votes: How many there are.
        taken_for: The class that most of them give; empty where that was not recorded.
        given: How many of them give it.
    """

    words: str
    right: int
    votes: int
    taken_for: str = ""
    given: int = 0

    @property
    def counts(self) -> str:
        """What the votes say: ``"dog by 7 of 10, 2 right"``, or ``"2 of 10 right"`` where no class was recorded."""
        if not self.taken_for:
            return f"{self.right} of {self.votes} right"
        return f"{self.taken_for} by {self.given} of {self.votes}, {self.right} right"

    @property
    def share(self) -> float:
        """The share of right votes, in [0, 1]."""
        return self.right / self.votes

    @property
    def won(self) -> bool:
        """Whether most votes are right."""
        return self.share > 0.5


@dataclass(frozen=True)
class Tile:
    """One image: its class, its index in the data set's split, its outcome, its versions, and the votes on them."""

    truth: str
    index: int
    outcome: str
    views: tuple[View, ...]
    tallies: tuple[Tally, ...]


@dataclass(frozen=True)
class Panel:
    """The images of a model, or only a sentence that says why there are none."""

    name: str
    caption: str
    tiles: tuple[Tile, ...] = ()

    @property
    def kinds(self) -> tuple[tuple[Kind, str], ...]:
        """The versions that its tiles have, with the name of each; that of the change is without its factor."""
        return tuple((view.kind, "change" if view.kind == "change" else view.words) for view in self.tiles[0].views)

    @property
    def first(self) -> Kind:
        """The version that is shown before a reader chooses."""
        kinds = [kind for kind, _ in self.kinds]
        return "attacked" if "attacked" in kinds else "clean"
