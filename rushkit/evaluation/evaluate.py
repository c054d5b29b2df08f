"""Measure the standard accuracy of a smoothed classifier for each m, by majority vote (eq. 4) and by mean softmax.

On demand, accuracy under common corruptions and under rotations and translations is measured beside it.
"""

from __future__ import annotations

from torch import Tensor

from rushkit.corruptions import check_images
from rushkit.evaluation.baseline import Baseline, baseline_of, check_same_images
from rushkit.evaluation.blocks import CORRUPTIONS, SHIFT, square_side
from rushkit.evaluation.corrupted import measure_corruptions
from rushkit.evaluation.shifted import largest_translation, measure_shifts
from rushkit.recipe.schema import Recipe, Rule
from rushkit.results.evaluation import AccuracyRow, Evaluation, EvaluationOutcomes
from rushkit.results.intervals import accuracy_row
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components
from rushkit.setup.class_order import explained_by_permutation
from rushkit.setup.outcomes import Outcomes, count_outcomes
from rushkit.setup.start import run_or_new
from rushkit.setup.subject import Subject


def evaluate(
    recipe: Recipe, source: Checkpoint, run: Run | None = None, baseline: Evaluation | None = None
) -> Evaluation:
    """Measure the accuracy on clean images under the recipe's noise, for every m and rule.

    Where the recipe's section evaluate names corruptions, or says ``shift = true``, measure accuracy under these too.

    Example::

        results = evaluate(load_recipe("cifar10"), open_checkpoint("cifar10", "finetune"))
        for row in results.accuracy:
            print(row.samples, row.rule, row.accuracy)

    Args:
        recipe: The sections data, noise, evaluate and system are used.
        source: A fine-tuned checkpoint.
        run: The run that results.json is written to; what a stopped run has of corruptions and shifts is kept. None
            starts a new one.
        baseline: An evaluation under the same corruptions, on the same images, of the model whose errors make the mean
            corruption error; None: there is no such figure.

    Returns:
        The contents of results.json, where ``accuracy`` has a row for each m and rule, ``outcomes`` the prediction for
        each image, ``corruptions`` and ``shifts`` what was measured of these.

    Raises:
        UsageError: the baseline is of other images or corruptions, the images are not such as corruptions are defined
            for, or translations move them out of sight.
        Interrupted: a signal asked to stop amid corruptions or shifts; finished work is kept.
    """
    settings = recipe.evaluate
    with run_or_new(run, "evaluate", recipe, source) as run:
        subject = Subject.open(recipe, source, split=settings.split, limit=settings.limit, skip=settings.skip, run=run)
        _check_threats(recipe, subject)
        errors = None if baseline is None else _errors_of(baseline, recipe, subject)
        samples, split, machine = sorted(set(settings.samples)), subject.split, subject.machine
        g = subject.smoothed(max(samples))
        drawn = "the same at every draw" if g.deterministic else "fresh for every image"
        run.speaker.say(
            f"evaluate {source.path}: {components.describe_split(split)}, m = {', '.join(map(str, samples))}, "
            f"noise {recipe.noise.name}, {drawn}; {machine}"
        )
        if words := subject.random_words():
            run.speaker.say(f"note: {words}")
        rows: list[AccuracyRow] = []
        predicted: dict[str, dict[Rule, list[int]]] = {}
        with run.speaker.progress(len(subject) * sum(samples), "evaluate", "passes") as progress:
            for m in samples:
                outcomes = count_outcomes(g, split, m, recipe.system.seed, machine.device, progress, subject.indices)
                predicted[str(m)] = {rule: outcomes.predicted[rule].tolist() for rule in settings.rules}
                rows += [_row(m, rule, outcomes, subject.classifier.classes) for rule in settings.rules]
        last = predicted[str(max(samples))][settings.rules[0]]
        if order := explained_by_permutation(last, subject.labels, subject.classifier.classes):
            run.speaker.warn(order.describe())
        corruptions = measure_corruptions(subject, recipe, run, rows, errors) if settings.corruptions else None
        shifts = measure_shifts(subject, recipe, run, rows) if settings.shift else None
        results = Evaluation(
            recipe=recipe.name,
            source=str(source.path),
            data=split.name,
            noise=recipe.noise,
            precision=machine.precision,
            accuracy=rows,
            outcomes=EvaluationOutcomes(
                indices=[] if subject.is_whole else subject.indices.tolist(),
                labels=subject.labels.tolist(),
                predicted=predicted,
            ),
            corruptions=corruptions,
            shifts=shifts,
        )
        return run.write_results(results)


def _check_threats(recipe: Recipe, subject: Subject) -> None:
    """Raise UsageError for images that the corruptions or shifts of a recipe are not defined for."""
    if recipe.evaluate.corruptions:
        check_images(subject.classifier.channels, square_side(subject, CORRUPTIONS))
    if recipe.evaluate.shift:
        largest_translation(recipe, square_side(subject, SHIFT))


def _errors_of(baseline: Evaluation, recipe: Recipe, subject: Subject) -> Baseline:
    check_same_images(baseline, subject)
    return baseline_of(baseline, recipe)


def _row(samples: int, rule: Rule, outcomes: Outcomes, classes: tuple[str, ...]) -> AccuracyRow:
    right = outcomes.right(rule)
    per_class = per_class_accuracy(right, outcomes.labels, classes)
    return AccuracyRow(samples=samples, rule=rule, **accuracy_row(right), per_class=per_class)


def per_class_accuracy(right: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, float | None]:
    """Return the accuracy on each class by its name; None for a class without images."""
    shares = ((name, right[labels == index]) for index, name in enumerate(classes))
    return {name: hits.double().mean().item() if len(hits) else None for name, hits in shares}
