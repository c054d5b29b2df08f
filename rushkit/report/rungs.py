"""Choose the figures of a model's headline, so that they belong together.

``strict`` is chosen first, and the others stand beside it:

1. Of the rows that may be quoted as upper bounds (``protocols.upper_bounds``), those on the test split count, where
   there are any; of these, those under the model's noise.
2. The ball is l-inf 8/255 where it was attacked, else the largest radius that was, in the first of l-inf, l2 and l1.
3. Rows on the same images, of the same weights and m, are one group. The group of the MOST IMAGES counts, of equals
   that of the largest m, then the newest. A row of 6 images never displaces one of 64, however little it leaves.
4. Within the group, the row that leaves least counts, or what is left after all its strict attacks together
   (``taken_together``), if that is less.

- ``clean`` is of the same images and m, as the attack itself recorded it. Without ``strict`` it is the vote of the
  largest m.
- ``paper`` is of the same data, noise, weights, ball and m: one at the paper's own settings first, then one on the same
  images, then the same attack, then the most images, then the newest.
- ``certified`` is under the model's noise and of the same weights: at the attack's norm and radius if that radius was
  certified; else at the middle radius, of the same norm if there is one; of the most images, then the newest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from rushkit.errors import shell_line
from rushkit.recipe.radius import ball_words
from rushkit.report.families import Family
from rushkit.report.figures import AccuracyRow, MeasuredAttack, MeasuredCertification, Model
from rushkit.report.headlines import Gap, Headline, Rung
from rushkit.report.measured import every_attack
from rushkit.report.own_noise import other_noise, under_its_noise
from rushkit.report.protocols import protocol_words, upper_bounds
from rushkit.report.quotable import SAME_RADIUS, ball_to_quote, images_of, lowest, most_images, on_test
from rushkit.report.quoted import sentence_of
from rushkit.report.worst import LEANS, Worst
from rushkit.results.attacks import AttackRow
from rushkit.results.certification import Certification, CertifiedRate
from rushkit.results.intervals import mean_interval
from rushkit.results.words import Accuracy, listed, low_words
from rushkit.run.info import RunInfo
from rushkit.statistics import joined_interval, paired_interval

# How paper stands where strict does not.
_ALONE = "only beside strict: by itself it says nothing of the robustness"


def headline_of(family: Family, model: Model) -> Headline:
    """Return the headline of a model, as this module's description says it is chosen.

    Args:
        family: Its runs.
        model: Its figures.
    """
    rows = every_attack(family)
    weights = {run.path.name: weights_of_run(run) for run in family.runs}
    group = _strict_group(rows, model, weights)
    if not group:
        headline = _without_strict(rows, model, weights)
    else:
        row = lowest(group)
        together = _together(group, model)
        if together is not None and together.accuracy >= row.majority.accuracy:
            together = None
        strict = _strict(row, model) if together is None else _worst(together, row, model)
        beside = _paper_row(rows, row, weights)
        paper = None if beside is None else _paper(beside, row, model)
        headline = Headline(
            clean=_clean_beside(row, model),
            paper=paper,
            strict=strict,
            certified=_certified(model, weights, weights[row.run], row),
            gap=None if beside is None or paper is None else _gap(beside, row, together, paper, strict),
        )
    missing = _missing(headline, rows, model)
    return replace(headline, missing=missing, sentence=sentence_of(headline, model))


def clean_row(model: Model) -> AccuracyRow | None:
    """Return the accuracy without an attack to quote: the vote of the largest m, on test if there is any; else None."""
    votes = [row for row in model.accuracy if row.rule == "majority"]
    votes = under_its_noise([row for row in votes if on_test(row.data)] or votes, model.about)
    return max(votes, key=lambda row: (row.samples, row.images), default=None)


def middle_radius(results: Certification) -> CertifiedRate | None:
    """Return the middle one of the radii above 0 at which any image is certified; None if there is none."""
    shown = [row for row in results.certified if row.radius > 0 and row.count]
    return shown[len(shown) // 2] if shown else None


def weights_of_run(run: RunInfo) -> str:
    """Return what tells the weights that a run measured: their hash, else the name of the checkpoint; else empty."""
    about = run.about
    if about.model is not None:
        return about.model.hash
    parent = (about.parent or "").replace("\\", "/")
    return about.hashes.get("parent") or (PurePath(parent).name if parent.endswith(".safetensors") else "")


def _strict_group(rows: Sequence[MeasuredAttack], model: Model, weights: Mapping[str, str]) -> list[MeasuredAttack]:
    """Return the rows of which the lowest is ``strict``, oldest first; empty if no attack was as strong."""
    bounds = upper_bounds(rows)
    bounds = under_its_noise([row for row in bounds if on_test(row.record.split)] or bounds, model.about)
    # In the order of the runs: upper_bounds has the strict ones first.
    quoted = {id(row) for row in bounds}
    ball = ball_to_quote([row for row in rows if id(row) in quoted])
    return most_images(ball, weights) if ball else []


def _together(group: Sequence[MeasuredAttack], model: Model) -> Worst | None:
    """Return what the strict attacks on the images of a group leave together, if there are several."""
    first = group[0]
    row, runs, indices = first.record, {one.run for one in group}, set(first.record.outcomes.indices)
    ball = row.split, row.norm, row.eps, row.samples, row.images, first.noise

    def about_them(worst: Worst) -> bool:
        same = (worst.split, worst.norm, worst.eps, worst.samples, worst.images, worst.noise) == ball
        return same and set(worst.broken) <= indices and {part.run for part in worst.parts} <= runs

    return next(filter(about_them, model.worst), None)


def _strict(row: MeasuredAttack, model: Model) -> Rung:
    return _attacked(row, model, row.majority)


def _worst(worst: Worst, row: MeasuredAttack, model: Model) -> Rung:
    how = f"{len(worst.parts)} strict attacks together, by most of their votes"
    runs = list(dict.fromkeys(part.run for part in worst.parts))
    return replace(_attacked(row, model, worst), how=how, caveat=LEANS if worst.by_chance else "", runs=runs)


def _paper(row: MeasuredAttack, strict: MeasuredAttack, model: Model) -> Rung:
    return replace(_attacked(row, model, row.majority), same_images=images_of(row) == images_of(strict))


def _attacked(row: MeasuredAttack, model: Model, share: Accuracy) -> Rung:
    about = row.record
    how = f"{about.attack} {protocol_words(about)}"
    return _rung(row, model, how, (share.accuracy, share.low, share.high), (about.norm, about.eps))


def _clean_beside(row: MeasuredAttack, model: Model) -> Rung:
    """Return the clean accuracy that an attack recorded of its own images, by votes of its own m."""
    about, share = row.record, row.majority.clean_accuracy
    figures = (share, *mean_interval(share * about.images, about.images))
    return _rung(row, model, f"vote of m = {about.samples}", figures)


def _rung(
    row: MeasuredAttack | MeasuredCertification | AccuracyRow,
    model: Model,
    how: str,
    share: tuple[float, float, float],
    ball: tuple[str, float] | None = None,
    same: bool = True,
) -> Rung:
    """Return a rung: a share of the images that a row is of, with both ends of its interval.

    Args:
        row: What was measured.
        model: The model.
        how: How it was measured, in words.
        share: The share with the ends of its interval.
        ball: Norm and radius; None without an attack.
        same: Whether the images are those of ``strict``.
    """
    about = row if isinstance(row, AccuracyRow) else row.record
    norm, radius = ball or ("", None)
    return Rung(
        *share,
        images=about.images,
        samples=about.samples,
        data=about.split if isinstance(about, AttackRow) else about.data,
        chosen=row.chosen,
        same_images=same,
        how=how,
        ball="" if radius is None else ball_words(norm, radius),
        norm=norm,
        radius=radius,
        noise=other_noise(row.noise, model.about),
        caveat="",
        runs=[row.run],
    )


def _paper_row(
    rows: Sequence[MeasuredAttack], strict: MeasuredAttack, weights: Mapping[str, str]
) -> MeasuredAttack | None:
    """Return the row under the paper's protocol that stands beside a strict one; None if there is none."""
    place = _place(strict)
    alike = [
        row
        for row in rows
        if row.record.protocol == "paper" and _place(row) == place and weights[row.run] == weights[strict.run]
    ]

    def rank(row: MeasuredAttack) -> tuple[object, ...]:
        same = images_of(row) == images_of(strict)
        return not row.record.deviations, same, row.record.attack == strict.record.attack, row.record.images

    # Of equals the newest.
    return max(reversed(alike), key=rank, default=None)


def _gap(paper: MeasuredAttack, strict: MeasuredAttack, together: Worst | None, above: Rung, below: Rung) -> Gap:
    difference = above.accuracy - below.accuracy
    if above.same_images:
        broken = None if together is None else set(together.broken)
        pairs = zip(_shares(paper), _shares(strict), strict=True)
        differences = [
            high - (low if broken is None else float(index not in broken)) for (index, _, high), (_, _, low) in pairs
        ]
        return Gap(difference, *paired_interval(differences), paired=True)
    of_paper = (difference - above.accuracy + above.low, difference - above.accuracy + above.high)
    of_strict = (difference + below.accuracy - below.high, difference + below.accuracy - below.low)
    return Gap(difference, *joined_interval(difference, of_paper, of_strict), paired=False)


def _shares(row: MeasuredAttack) -> list[tuple[int, int, float]]:
    """Return index, label and the share of right votes of each image, in one order for all rows on these images."""
    outcomes = row.record.outcomes
    columns = zip(outcomes.indices, outcomes.labels, outcomes.right["majority"], strict=True)
    return sorted((index, label, right / row.record.votes) for index, label, right in columns)


def _certified(
    model: Model, weights: Mapping[str, str], of: str | None, attacked: MeasuredAttack | None
) -> Rung | None:
    alike = [one for one in model.certified if of is None or not weights[one.run] or weights[one.run] == of]
    alike = under_its_noise([one for one in alike if on_test(one.record.data)] or alike, model.about)
    if attacked is not None:
        norm, eps = attacked.record.norm, attacked.record.eps
        in_norm = [one for one in alike if one.record.norm == norm]
        there = [(one, row) for one in in_norm for row in one.record.certified if abs(row.radius - eps) < SAME_RADIUS]
        if there:
            # Of equals the newest.
            one, at = max(reversed(there), key=lambda pair: pair[0].record.images)
            return _proved(one, at, attacked, model)
        alike = in_norm or alike
    if not alike:
        return None
    one = max(reversed(alike), key=lambda one: one.record.images)
    asked = [row for row in one.record.certified if row.radius > 0]
    middle = middle_radius(one.record) or next(iter(asked), None)
    return None if middle is None else _proved(one, middle, attacked, model)


def _proved(one: MeasuredCertification, row: CertifiedRate, attacked: MeasuredAttack | None, model: Model) -> Rung:
    results = one.record
    images = sorted(zip(results.outcomes.images, results.outcomes.labels, strict=True))
    same = attacked is not None and results.data == attacked.record.split and tuple(images) == images_of(attacked)
    how = listed(results.method, low_words(results.precision))
    return _rung(one, model, how, (row.value, row.low, row.high), (results.norm, row.radius), same)


def _evaluated(row: AccuracyRow, model: Model) -> Rung:
    how = listed(f"vote of m = {row.samples}", low_words(row.precision))
    return _rung(row, model, how, (row.accuracy, row.low, row.high), same=False)


def _without_strict(rows: Sequence[MeasuredAttack], model: Model, weights: Mapping[str, str]) -> Headline:
    row = clean_row(model)
    if row is not None:
        return Headline(clean=_evaluated(row, model), certified=_certified(model, weights, weights[row.run], None))
    attacked = under_its_noise([row for row in rows if on_test(row.record.split)] or rows, model.about)
    if attacked:
        # What an attack recorded of its images before it began.
        most = max(attacked, key=lambda row: (row.record.images, row.record.samples))
        return Headline(clean=_clean_beside(most, model), certified=_certified(model, weights, weights[most.run], None))
    return Headline(certified=_certified(model, weights, None, None))


def _missing(headline: Headline, rows: Sequence[MeasuredAttack], model: Model) -> dict[str, str]:
    """Return why each rung that is not there is not."""
    if not model.classifies:
        return dict.fromkeys((name for name, rung in headline.rungs if rung is None), "an encoder, not a classifier")

    def measure(*words: str) -> str:
        return f"not measured: {shell_line('rushkit', *words, *model.named_by)}"

    papers = any(row.record.protocol == "paper" for row in rows)
    paper = measure("attack")
    if papers:
        paper = _ALONE if headline.strict is None else "not measured under the vote and in the ball of strict"
    certified = "none at a radius above 0" if model.certified else measure("certify")
    if model.about.get("noise") == "none" and not model.certified:
        certified = "without noise there is no certificate"
    why = {
        "clean": measure("evaluate"),
        "paper": paper,
        "strict": measure("attack"),
        "certified": certified,
    }
    return {name: why[name] for name, rung in headline.rungs if rung is None}


def _place(row: MeasuredAttack) -> tuple[object, ...]:
    about = row.record
    return about.split, str(row.noise), about.norm, about.eps, about.samples
