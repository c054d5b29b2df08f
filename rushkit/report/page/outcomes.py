"""What was measured of the images that a panel can show: every outcome is read from a record, none is measured anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rushkit import data
from rushkit.attacks.norms import length, rounding
from rushkit.data.memory import Split
from rushkit.errors import DataError, RushkitError
from rushkit.recipe.load import derive_recipe
from rushkit.recipe.radius import ball_words
from rushkit.recipe.schema import Recipe, Rule
from rushkit.report.families import Family, recipe_of_run
from rushkit.report.page.cards import Tally
from rushkit.report.protocols import protocol_words
from rushkit.results.attacks import AttackRow, Attacks
from rushkit.results.evaluation import Evaluation
from rushkit.results.taken import TakenFor
from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.info import RunInfo
from rushkit.setup import components

# The kinds of outcome of which a panel shows some each, before others.
CONTRASTED = ("broken", "still right", "wrong", "right")
_RULE: Rule = "majority"
_NO_CLASSES = "Which class an image is taken for is not said: the attack is of a version that did not keep it."
_NONE_KEPT = "No attacked images were kept: rushkit attack --save keeps them."


@dataclass(frozen=True)
class Outcome:
    """What was measured of one image.

    Attributes:
        kind: ``"broken"``, ``"still right"`` or ``"wrong before"`` under an attack, ``"wrong"`` or ``"right"`` without
            one; empty if nothing was measured.
        tallies: The votes that decide it, where they were counted.
        taken_for: The class that a wrong image was taken for, where that was recorded.
    """

    kind: str = ""
    tallies: tuple[Tally, ...] = ()
    taken_for: str = ""

    @property
    def words(self) -> str:
        """The outcome as a tile says it: ``"broken"``, ``"taken for dog"``."""
        return f"taken for {self.taken_for}" if self.taken_for else self.kind


@dataclass(frozen=True)
class Measured:
    """Images, and what was measured of each.

    Attributes:
        recipe: The recipe of the measurement, for this machine.
        split: The images, with labels.
        classes: Classes of their data set.
        outcomes: (N,) what was measured of each image.
        adversarial: (N, C, H, W) float32, the adversarial images; None if there are none.
        caption: What was measured, and which images are chosen.
    """

    recipe: Recipe
    split: Split
    classes: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    adversarial: Tensor | None
    caption: str


def measured_images(family: Family) -> Measured:
    """Return the images of a model's newest attack, or else of its newest evaluation, or else of its data.

    Attacks whose images were kept come first, then those under the strict protocol, then those with the largest m.

    Raises:
        DataError: the data cannot be read as they are, or no recipe says which they are.
    """
    for run, row in _attacks(family):
        recipe = recipe_of_run(run)
        attacked = _attacked(run, _found_here(recipe), row) if recipe else None
        if attacked is not None:
            return attacked
    for run, evaluation in reversed(family.results(Evaluation)):
        recipe = recipe_of_run(run)
        evaluated = _evaluated(_found_here(recipe), evaluation) if recipe else None
        if evaluated is not None:
            return evaluated
    recipe = recipe_of_run(family.model)
    if recipe is None:
        raise DataError("its recipe is gone")
    recipe = _found_here(recipe)
    split, classes, labels = _read(recipe, recipe.evaluate.split)
    caption = f"{_NONE_KEPT} These are the first images of {split.name}."
    return Measured(recipe, split, classes, (Outcome(),) * len(labels), None, caption)


def _attacks(family: Family) -> list[tuple[RunInfo, AttackRow]]:
    """Return the attacks on a model, in the order in which a panel prefers them."""
    rows = [
        (run, row)
        for run, results in reversed(family.results(Attacks))
        for row in sorted(results.attacks, key=lambda row: (row.protocol != "strict", -row.samples))
        if _RULE in row.outcomes.right and _RULE in row.outcomes.clean_right
    ]
    return sorted(rows, key=lambda attack: not _is_kept(*attack))


def _is_kept(run: RunInfo, row: AttackRow) -> bool:
    return bool(row.saved) and (run.path / row.saved).is_file()


def _found_here(recipe: Recipe) -> Recipe:
    """Return the recipe on this machine, if its data can be read as they are.

    Raises:
        DataError: they would have to be downloaded or repaired first.
    """
    recipe = derive_recipe(recipe)
    section = recipe.data
    about = data.describe(section.name, recipe.system.data_dir, **section.options)
    if not about.ready:
        raise DataError(about.problem or f"the files of {section.name} are not in {recipe.system.data_dir}")
    return recipe


def _read(recipe: Recipe, name: str, limit: int = 0, skip: int = 1) -> tuple[Split, tuple[str, ...], list[int]]:
    """Return a split, the classes of its data set, and its labels."""
    dataset = components.build_dataset(recipe)
    split = components.load_split(recipe, dataset, name, limit=limit, skip=skip)
    if split.labels is None:
        raise DataError(f"{split.name} has no labels")
    return split, dataset.classes, split.labels.tolist()


def _attacked(run: RunInfo, recipe: Recipe, row: AttackRow) -> Measured | None:
    """Return the images of one attack, where they are still those that the data set has."""
    attacked = (row.attack, row.norm, row.eps, row.split.rpartition("/")[2])
    sections = (
        section
        for section in (*recipe.attack, *recipe.published)
        if (section.type, section.norm, section.eps, section.split) == attacked
    )
    section = next(sections, None)
    if section is None:
        return None
    split, classes, labels = _read(recipe, section.split, section.limit, section.skip)
    if labels != row.outcomes.labels:
        return None
    adversarial = None
    if _is_kept(run, row):
        adversarial = _adversarial(run, row, split)
        if adversarial is None:
            return None
    clean, right = row.outcomes.clean_taken_for.get(_RULE), row.outcomes.taken_for.get(_RULE)
    before = _tallies("clean", row.outcomes.clean_right[_RULE], row.votes, clean, classes)
    after = _tallies("attacked", row.outcomes.right[_RULE], row.votes, right, classes)
    outcomes = tuple(map(_fate, before, after))
    return Measured(recipe, split, classes, outcomes, adversarial, _attack_caption(row, adversarial is not None))


def _adversarial(run: RunInfo, row: AttackRow, split: Split) -> Tensor | None:
    """Return the images that an attack kept, or None if they cannot be versions of the split's."""
    try:
        tensors = load_checkpoint(run.path / row.saved).tensors
    except RushkitError:
        return None
    images = tensors.get("images")
    if images is None or images.shape != split.images.shape or not images.is_floating_point():
        return None
    # Images of another data set with the same labels lie far outside the ball.
    distance = length(images.double() - components.to_float(split.images[:]).double(), row.norm)
    within = distance <= row.eps + rounding(row.norm, images[0].numel())
    return images if bool(within.all()) else None


def _tallies(
    words: str, right: Sequence[int], votes: int, taken: TakenFor | None, classes: Sequence[str]
) -> list[Tally]:
    """Return the votes on one version of every image, with the class that most give where the record has it."""
    if taken is None:
        return [Tally(words, count, votes) for count in right]
    # A rejection, and a class that the data set has not, have no name.
    names = dict(enumerate(classes))
    return [
        Tally(words, count, votes, names.get(index, "none of the classes"), given)
        for count, index, given in zip(right, taken.classes, taken.votes, strict=True)
    ]


def _fate(before: Tally, after: Tally) -> Outcome:
    """Return the outcome of an attack on an image, by the votes on it before and after."""
    kind = "wrong before" if not before.won else "still right" if after.won else "broken"
    return Outcome(kind, (before, after))


def _attack_caption(row: AttackRow, kept: bool) -> str:
    votes = f"{row.votes} vote{'s' * (row.votes > 1)} of m = {row.samples}"
    words = (
        f"Attacked by {row.attack} within {ball_words(row.norm, row.eps)}, protocol {protocol_words(row)}. Bars and "
        f"outcomes are the {votes} on each version that the attack's accuracy counts: an image is broken if most were "
        "right on the clean one, and not on the attacked one. The images are chosen to show some that are broken and "
        "some that are still right, in the order of the split."
    )
    known = "" if _RULE in row.outcomes.taken_for else _NO_CLASSES
    return " ".join(filter(None, (words, known, "" if kept else _NONE_KEPT)))


def _evaluated(recipe: Recipe, evaluation: Evaluation) -> Measured | None:
    """Return the images of an evaluation, where they are still those that the data set has."""
    samples = max((row.samples for row in evaluation.accuracy if row.rule == _RULE), default=0)
    predicted = evaluation.outcomes.predicted.get(str(samples), {}).get(_RULE)
    section = recipe.evaluate
    split, classes, labels = _read(recipe, section.split, section.limit, section.skip)
    if predicted is None or labels != evaluation.outcomes.labels or max(predicted, default=0) >= len(classes):
        return None
    outcomes = tuple(
        Outcome("right") if label == answer else Outcome("wrong", taken_for=classes[answer])
        for label, answer in zip(labels, predicted, strict=True)
    )
    caption = (
        f"{_NONE_KEPT} On these images of {split.name} the outcome is the majority of m = {samples} noisy looks, as it "
        "was evaluated; they are chosen to show some that are wrong and some that are right."
    )
    return Measured(recipe, split, classes, outcomes, None, caption)
