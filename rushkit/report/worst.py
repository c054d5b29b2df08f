"""The worst of everything: what all strict attacks on the same model and images leave together, image by image.

Each attack is an upper bound of the robustness, and so is the share of images that none of them broke. An image counts
as broken by an attack if at most half of its T final votes are right. Where votes are random, an image whose votes are
split is broken by one of many attacks by chance alone, so that the figure of many attacks leans down. It says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rushkit.recipe import toml
from rushkit.recipe.radius import ball_words
from rushkit.report.families import recipe_of_run
from rushkit.report.jsonable import Figures
from rushkit.results.attacks import AttackRow, Attacks, variant_words
from rushkit.results.intervals import mean_interval
from rushkit.results.statements import MAY_LEAVE_FEWER
from rushkit.results.words import at_most_words, listed, plain_noise
from rushkit.robustness.deviations import deviation_words
from rushkit.run.info import RunInfo

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
            f"Under {len(self.parts)} strict attacks together, {ball}: {at_most_words(self)} of {self.images} images "
            f"of {self.split} stay right under every one of them, by most of their votes ({vote}). {MAY_LEAVE_FEWER}"
        )
        return f"{said} {LEANS}" if self.by_chance else said


def worst_of(runs: Iterable[tuple[RunInfo, Attacks]]) -> list[Worst]:
    """Return what strict attacks of finished runs leave together, where two or more share model, noise, ball and m.

    They are taken together where they attacked the same images: the recipes name the same data, and the rows have the
    same split, indices and labels. Attacks towards a class, of 8-bit pixels, or weaker than strict are left out.

    Args:
        runs: Runs with their results, the oldest first.
    """
    alike: dict[object, list[tuple[str, dict[str, object], AttackRow]]] = {}
    for run, results in {run.path.name: (run, results) for run, results in runs}.values():
        recipe = recipe_of_run(run)
        if recipe is None or run.status != "finished":
            continue
        data, noise = toml.dumps(recipe.data.model_dump()), plain_noise(results.noise)
        for row in results.attacks:
            if row.protocol == "strict" and not row.eight_bit:
                images = tuple(sorted(zip(row.outcomes.indices, row.outcomes.labels, strict=True)))
                ball = row.split, row.norm, row.eps, row.samples
                key = (_measured(run), data, repr(sorted(noise.items())), *ball, images)
                alike.setdefault(key, []).append((run.path.name, noise, row))
    return [_together(rows) for rows in alike.values() if len(rows) > 1]


def _measured(run: RunInfo) -> str:
    """Return what tells the model that a run attacked: the hash of its weights, with those of its code."""
    about = run.about
    return about.model.hash if about.model is not None else about.hashes.get("parent") or about.parent or run.path.name


def _together(rows: Sequence[tuple[str, dict[str, object], AttackRow]]) -> Worst:
    broken = [_broken(row) for _, _, row in rows]
    union = set().union(*broken)
    parts = []
    for place, (run, _, row) in enumerate(rows):
        others = set().union(*(images for other, images in enumerate(broken) if other != place))
        parts.append(WorstPart(run, _words(row), len(broken[place]), len(broken[place] - others)))
    _, noise, first = rows[0]
    left = first.images - len(union)
    low, high = mean_interval(left, first.images)
    return Worst(
        split=first.split,
        noise=noise,
        norm=first.norm,
        eps=first.eps,
        samples=first.samples,
        images=first.images,
        accuracy=left / first.images,
        low=low,
        high=high,
        by_chance=any(row.votes > 1 for _, _, row in rows),
        broken=sorted(union),
        parts=parts,
    )


def _broken(row: AttackRow) -> set[int]:
    """Return the indices of the images of which at most half of the votes are right."""
    votes = zip(row.outcomes.indices, row.outcomes.right["majority"], strict=True)
    return {index for index, right in votes if 2 * right <= row.votes}


def _words(row: AttackRow) -> str:
    settings = deviation_words(row.protocol, row.deviations)
    return f"{row.attack} {variant_words(row)}{f': {settings}' if settings else ''}"
