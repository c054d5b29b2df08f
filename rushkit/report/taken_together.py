"""Takes the strict attacks on one model and the same images together, image by image: the worst of everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rushkit.recipe import toml
from rushkit.report.families import recipe_of_run
from rushkit.report.worst import Worst, WorstPart
from rushkit.results.attacks import AttackRow, Attacks, variant_words
from rushkit.results.intervals import mean_interval
from rushkit.results.words import plain_noise
from rushkit.robustness.deviations import deviation_words
from rushkit.run.info import RunInfo


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
