"""Standard accuracy of a smoothed classifier: eq. 4 under each m, and the mean rule beside it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rushkit.noises import is_deterministic
from rushkit.recipe.schema import Recipe
from rushkit.results.intervals import accuracy_row
from rushkit.run.checkpoint import Checkpoint
from rushkit.run.folder import Run
from rushkit.setup import components
from rushkit.setup.model import load_classifier
from rushkit.setup.outcomes import count_outcomes
from rushkit.setup.start import machine_of, start_run
from rushkit.setup.subject import check_classes, check_images, labels_of, smoothed


def evaluate(recipe: Recipe, source: Checkpoint, run: Run | None = None) -> dict[str, Any]:
    """Accuracy on clean images under the recipe's noise, for every m and rule.

    Args:
        recipe: Sections data, noise, evaluate, system.
        source: A fine-tuned checkpoint.
        run: Takes results.json. None: a new one.

    Returns:
        What results.json holds: ``accuracy`` with a row for each m and rule, and ``outcomes`` with every image's.
    """
    if run is None:
        with start_run("evaluate", recipe, parent=str(source.path)) as run:
            return evaluate(recipe, source, run)
    machine, settings = machine_of(recipe), recipe.evaluate
    classifier = load_classifier(source, machine)
    dataset = components.build_dataset(recipe)
    split = components.load_split(recipe, dataset, settings.split)
    labels = labels_of(split, len(classifier.classes))
    check_classes(recipe.data.name, dataset.classes, classifier.classes)
    check_images(split, classifier.image_size)
    samples, noise = sorted(set(settings.samples)), components.build_noise(recipe)
    drawn = "the same at every draw" if is_deterministic(noise) else "fresh for every image"
    run.speaker.say(
        f"evaluate {source.path}: {components.describe_split(split)}, m = {', '.join(map(str, samples))}, "
        f"noise {recipe.noise.name}, {drawn}; {machine}"
    )
    g = smoothed(classifier.network, noise, max(samples), classifier.chunk(recipe.system.chunk), machine)
    rows: list[dict[str, Any]] = []
    predicted: dict[str, dict[str, list[int]]] = {}
    with run.speaker.progress(len(split) * sum(samples), "evaluate", "passes") as progress:
        for m in samples:
            outcomes = count_outcomes(g, split, m, recipe.system.seed, machine.device, progress.advance)
            predicted[str(m)] = {rule: outcomes.tally.predict(rule).tolist() for rule in settings.rules}
            for rule in settings.rules:
                row = accuracy_row(outcomes.right(rule))
                per_class = per_class_accuracy(outcomes.right(rule), labels, classifier.classes)
                rows.append({"samples": m, "rule": rule, **row, "per_class": per_class})
    results = {
        "stage": "evaluate",
        "recipe": recipe.name,
        "source": str(source.path),
        "data": split.name,
        "noise": recipe.noise.model_dump(),
        "accuracy": rows,
        "outcomes": {"labels": labels.tolist(), "predicted": predicted},
    }
    return run.write_results(results)


def per_class_accuracy(right: Tensor, labels: Tensor, classes: tuple[str, ...]) -> dict[str, float | None]:
    """Class name -> share of its images that are right; None for a class without images."""
    shares = ((name, right[labels == index]) for index, name in enumerate(classes))
    return {name: hits.double().mean().item() if len(hits) else None for name, hits in shares}
