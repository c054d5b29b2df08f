"""What a fine-tuned network gets right at the end of its training: of the training images, and of held-out ones."""

from __future__ import annotations

from rushkit.data.memory import Split, limit
from rushkit.errors import RushkitError
from rushkit.models.passes import pass_size
from rushkit.recipe.schema import Recipe
from rushkit.results.training import EndAccuracy
from rushkit.run.speaker import Speaker
from rushkit.setup import components
from rushkit.setup.outcomes import count_outcomes
from rushkit.setup.start import machine_of
from rushkit.setup.subject import smoothed
from rushkit.training.job import TrainingJob

# Images of each kind that are looked at: enough for a figure of one percent, and few beside those of an epoch.
_MOST = 10_000
_TEST = "test"


def end_accuracy(job: TrainingJob, recipe: Recipe, validated: bool, speaker: Speaker) -> EndAccuracy | None:
    """Measure the product of a fine-tuning under one draw of the noise for each image; all ranks call it.

    Args:
        job: The job that is done.
        recipe: Its recipe.
        validated: Whether validation images were looked at already: then test images are left alone.
        speaker: Says why no test images are looked at, if they should have been.

    Returns:
        The accuracy on training images, as they are without augmentation, and on test images where there are any that
        it was not trained on; None for a training on the labels of a clustering.
    """
    if job.pseudo is not None:
        return None
    machine = machine_of(recipe)
    network = job.product.eval()
    chunk = pass_size(network, tuple(job.split.images.shape[1:]), machine)
    g = smoothed(network, job.noise, 1, chunk, machine)

    def measured(images: Split) -> tuple[float, str]:
        images = limit(images, _MOST)
        outcomes = count_outcomes(g, images, 1, recipe.system.seed, machine.device)
        return outcomes.accuracy("majority"), f"{len(images)} images of {images.name}"

    training, images = measured(job.split)
    held_out = None if validated else _test_images(recipe, speaker)
    if held_out is None:
        return EndAccuracy(training=training, images=images)
    test, of_test = measured(held_out)
    return EndAccuracy(training=training, images=images, test=test, test_images=of_test)


def _test_images(recipe: Recipe, speaker: Speaker) -> Split | None:
    """Return the labelled test images; None where there are none, or where the model was trained on them."""
    dataset = components.build_dataset(recipe)
    if _TEST not in dataset.splits or recipe.finetune.split == _TEST:
        return None
    try:
        split = components.load_split(recipe, dataset, _TEST)
    except RushkitError as error:
        # What was trained stands, whatever its test images lack.
        speaker.warn(f"no accuracy on test images: {error.message}")
        return None
    return split if split.labels is not None and len(split) else None
