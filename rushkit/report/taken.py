"""What attacked images are taken for: how often most votes give each class, under an attack and without it.

An image is taken for a class if more than half of its T votes give it, so that those that are taken for their own class
are the ones that stay right by most of their votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rushkit.errors import shorten
from rushkit.results.attacks import AttackRow
from rushkit.results.jsonable import Figures, in_json
from rushkit.results.taken import REJECTED, TakenFor
from rushkit.rounding import counted

# What an image is taken for: its own class, another, or none, since no class has more than half of the votes.
Kind = Literal["own", "another", "none"]
NO_CLASS = "no class"


@dataclass(frozen=True)
class TakenCount(Figures):
    """How many images of one class are taken for a class, as they are and under attack.

    Attributes:
        label: Name of the images' own class.
        taken_for: Name of the class that more than half of the votes give; None: no class has so many.
        clean: Number of images as they are.
        attacked: Number of images under attack.
    """

    label: str
    taken_for: str | None
    clean: int
    attacked: int

    @property
    def kind(self) -> Kind:
        """Whether the class is the images' own, another or none."""
        return "none" if self.taken_for is None else "own" if self.taken_for == self.label else "another"

    @property
    def taken_words(self) -> str:
        """The name of the class, or what stands for none."""
        return NO_CLASS if self.taken_for is None else self.taken_for


@dataclass(frozen=True)
class TakenUnderAttack(Figures):
    """What images are taken for under one attack, by the majority votes that its accuracy counts.

    Attributes:
        run: Name of the run.
        data: Data set and split.
        noise: The model's noise.
        samples: m, the number of draws in each vote.
        votes: T, the number of votes on each image.
        attack: The attack, its ball and protocol in words.
        images: Number of images.
        classes: Names of the classes in their order; their numbers where two have one name.
        counts: Those above 0, by label and class; empty: the record did not keep what images are taken for.
    """

    run: str
    data: str
    noise: dict[str, object]
    samples: int
    votes: int
    attack: str
    images: int
    classes: tuple[str, ...]
    counts: tuple[TakenCount, ...]

    @property
    @in_json
    def statement(self) -> str:
        """The sentence on how many images keep their class, and on the most frequent confusion."""
        under = f"Under {self.attack} (m = {self.samples})"
        if not self.counts:
            return (
                f"{under} nothing is known of what images are taken for: the run is of a version that did not keep it."
            )
        own, own_clean = self.sums("own")
        other, other_clean = self.sums("another")
        none, none_clean = self.sums("none")
        said = (
            f"{under}, {own} of {counted(self.images, 'image')} of {self.data} are taken for their own class by most "
            f"of their votes, {own_clean} as they are; {other} are taken for another, {other_clean} as they are"
        )
        if none or none_clean:
            said += f"; for {none} no class has more than half of the votes, for {none_clean} as they are"
        pair = self.most_frequent
        if pair is None:
            return f"{said}."
        return (
            f"{said}. The most frequent confusion is {shorten(pair.label)} taken for {shorten(pair.taken_words)}: "
            f"{pair.attacked} under attack, {pair.clean} as they are."
        )

    @property
    def most_frequent(self) -> TakenCount | None:
        """The two classes of which most images of the one are taken for the other under attack; None if none is."""
        confused = [count for count in self.counts if count.kind == "another" and count.attacked]
        return max(confused, key=lambda count: count.attacked, default=None)

    def sums(self, kind: Kind) -> tuple[int, int]:
        """Return how many images are taken for their own class, another or none: under attack, and as they are."""
        counts = [count for count in self.counts if count.kind == kind]
        return sum(count.attacked for count in counts), sum(count.clean for count in counts)


def taken_under_attack(
    run: str, noise: dict[str, object], row: AttackRow, attack: str, names: Sequence[str]
) -> TakenUnderAttack:
    """Return what the images of an attack are taken for.

    Args:
        run: Name of its run.
        noise: The model's noise.
        row: The attack.
        attack: The attack, its ball and protocol in words.
        names: Of the classes.
    """
    classes = tuple(names) if len(set(names)) == len(names) else tuple(map(str, range(len(names))))
    about = run, row.split, noise, row.samples, row.votes, attack, row.images, classes
    return TakenUnderAttack(*about, _counts(row, classes) if "majority" in row.outcomes.taken_for else ())


def _counts(row: AttackRow, classes: Sequence[str]) -> tuple[TakenCount, ...]:
    outcomes = row.outcomes
    taken = outcomes.clean_taken_for["majority"], outcomes.taken_for["majority"]
    clean, attacked = (Counter(_pairs(outcomes.labels, one, row.votes)) for one in taken)
    return tuple(
        TakenCount(classes[label], None if index == REJECTED else classes[index], clean[pair], attacked[pair])
        for pair in sorted({*clean, *attacked}, key=lambda pair: (pair[0], pair[1] == REJECTED, pair[1]))
        for label, index in (pair,)
    )


def _pairs(labels: Sequence[int], taken: TakenFor, votes: int) -> list[tuple[int, int]]:
    """Return the label of each image, and the class that more than half of its votes give, -1 for none."""
    images = zip(labels, taken.classes, taken.votes, strict=True)
    return [(label, index if 2 * most > votes else REJECTED) for label, index, most in images]
