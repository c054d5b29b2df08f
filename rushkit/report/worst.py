"""The worst of everything: what all strict attacks on the same model and images leave together, image by image.

Each attack is an upper bound of the robustness, and so is the share of images that none of them broke. An image counts
as broken by an attack if at most half of its T final votes are right. Where votes are random, an image whose votes are
split is broken by one of many attacks by chance alone, so that the figure of many attacks leans down. It says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.recipe.radius import ball_words
from rushkit.results.jsonable import Figures
from rushkit.results.statements import MAY_LEAVE_FEWER
from rushkit.results.words import at_most_words, listed
from rushkit.rounding import counted

# What is said of several attacks whose votes are random.
LEANS = "Its votes are random, and the worst of several leans down by chance: fresh votes on the saved images tell."


@dataclass(frozen=True)
class WorstPart(Figures):
    """One of the attacks that are taken together.

    Attributes:
        run: Name of its run.
        words: The attack, its protocol, and what of it is not the protocol's own.
        broke: Number of images that it broke, those that were wrong before among them.
        only: Number of these that no other attack broke.
    """

    run: str
    words: str
    broke: int
    only: int


@dataclass(frozen=True)
class Worst(Figures):
    """What the strict attacks on one model, ball, m and choice of images leave together.

    Attributes:
        split: Data set and split.
        noise: The model's noise.
        norm, eps: The ball; its radius in pixel units.
        samples: m, the number of draws in each vote.
        images: Number of images.
        accuracy: Share of them that no attack broke.
        low, high: Its 95% Wilson interval over the images.
        by_chance: Whether votes are random, so that the worst of many attacks leans down.
        broken: Indices in the split of the images that an attack broke.
        parts: The attacks, the oldest run first.
    """

    split: str
    noise: dict[str, object]
    norm: str
    eps: float
    samples: int
    images: int
    accuracy: float
    low: float
    high: float
    by_chance: bool
    broken: list[int]
    parts: list[WorstPart]

    def statement(self, noise: str = "") -> str:
        """Return the sentence that may be quoted.

        Args:
            noise: The noise of the votes in words, where it must be said; empty where not.
        """
        ball, vote = ball_words(self.norm, self.eps), listed(f"m = {self.samples}", noise)
        said = (
            f"Under {len(self.parts)} strict attacks together, {ball}: {at_most_words(self)} of "
            f"{counted(self.images, 'image')} of {self.split} stay right under every one of them, "
            f"by most of their votes ({vote}). {MAY_LEAVE_FEWER}"
        )
        return f"{said} {LEANS}" if self.by_chance else said
