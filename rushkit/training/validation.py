"""Measure a network that fine-tunes on held-out training images: clean, and under attack where the recipe says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from rushkit.attacks.pgd import PGD
from rushkit.bar import Progress
from rushkit.data import Dataset
from rushkit.data.memory import Split, limit
from rushkit.distributed import ranks
from rushkit.errors import UsageError
from rushkit.models.modes import frozen
from rushkit.models.passes import pass_size
from rushkit.recipe.radius import ball_words, eps_words
from rushkit.recipe.schema import Validation
from rushkit.results.training import ValidationProtocol
from rushkit.run.speaker import Speaker
from rushkit.setup.components import load_split, to_float
from rushkit.setup.outcomes import count_outcomes
from rushkit.setup.start import machine_of
from rushkit.setup.subject import in_precision, smoothed
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import Machine
from rushkit.training.job import TrainingJob
from rushkit.votes import first_argmax

# The figures in the metrics.
CLEAN, ROBUST = "validation_accuracy", "validation_robust_accuracy"
# Images that are attacked together.
_BLOCK = 256


def validated(job: TrainingJob, dataset: Dataset, machine: Machine, speaker: Speaker | None = None) -> TrainingJob:
    """Return a job of fine-tuning that is measured on validation images after each epoch, where there are any.

    ``speaker`` shows how far a measurement is; None shows nothing.

    Raises:
        UsageError: they are to be attacked, or to end the training early, and there are none.
    """
    recipe, settings = job.recipe, job.recipe.finetune.validation
    if recipe.data.validation or "validation" in dataset.splits:
        images, figures = load_split(recipe, dataset, "validation"), machine_of(recipe)
        held_out = HeldOut(job, images, settings, machine, figures, speaker or Speaker(-1))
        return job.with_evaluation(held_out, CLEAN if settings.choose == "clean" else ROBUST, settings.patience)
    if settings.steps or settings.patience:
        does = "attacks" if settings.steps else "stops early by"
        raise UsageError(
            f"finetune.validation {does} validation images, and no training images are held out",
            "for example --set data.validation=1000",
        )
    return job


@dataclass(frozen=True)
class HeldOut:
    """Measures the product of a job on validation images.

    Attributes:
        job: The job.
        images: Images with labels that it does not train on.
        settings: Whether, when and how they are attacked.
        machine: Device and precision of the training, in which attacks search.
        figures: Device and precision of the votes.
        speaker: Shows the progress.
    """

    job: TrainingJob
    images: Split
    settings: Validation
    machine: Machine
    figures: Machine
    speaker: Speaker

    def __call__(self, epochs: int) -> Iterator[tuple[str, float]]:
        """Yield the accuracy on clean images, each under one draw of the noise, and where it is due that under attack.

        Args:
            epochs: Epochs that are done.
        """
        network, machine, seed = self.job.product.eval(), self.machine, self.job.recipe.system.seed
        chunk = pass_size(network, tuple(self.images.images.shape[1:]), machine)
        g = smoothed(network, self.job.noise, 1, chunk, self.figures)
        with self.speaker.progress(len(self.images), "validation", "images") as bar:
            accuracy = count_outcomes(g, self.images, 1, seed, machine.device, bar).accuracy("majority")
        yield CLEAN, accuracy
        settings = self.settings
        if settings.steps and (epochs % settings.every == 0 or epochs == self.job.settings.epochs):
            # Gradients may be of low precision, votes are not.
            search = None if machine.precision == "float32" else in_precision(network, machine)
            g = SmoothedClassifier(network, self.job.noise, settings.samples, chunk, seed=0, search=search)
            images = self.attacked_images()
            with frozen(network), self.speaker.progress(len(images), "validation attack", "images") as bar:
                yield ROBUST, robust_accuracy(g, images, settings, seed, machine.device, bar)

    def attacked_images(self) -> Split:
        """Return the images that are attacked."""
        return limit(self.images, self.settings.limit)

    def protocol(self) -> ValidationProtocol | None:
        """Return a record of the attack; None where there is none."""
        settings = self.settings
        if not settings.steps:
            return None
        ball, step = ball_words(settings.norm, settings.eps), eps_words(_step(settings))
        images = self.attacked_images()
        return ValidationProtocol(
            images=f"{len(images)} images of {images.name}",
            attack=f"PGD-{settings.steps} in {ball}, steps of {step}, from a random start, m = {settings.samples}",
            use=f"the best checkpoint is chosen by {settings.choose} accuracy",
        )


def robust_accuracy(
    g: SmoothedClassifier,
    images: Split,
    settings: Validation,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
) -> float:
    """Return the share of images that a model still classifies rightly after PGD; the same on every rank.

    Args:
        g: The model under its noise.
        images: With labels.
        settings: The attack.
        seed: Seeds its draws and those of the votes.
        device: The model's.
        progress: Displays the number of images done.
    """
    assert images.labels is not None
    pgd = PGD(
        settings.norm,
        settings.eps,
        settings.steps,
        _step(settings),
        samples=settings.samples,
        best="last",
        seed=seed,
    )
    right = torch.zeros(1, dtype=torch.float64)
    for start in ranks.own(range(0, len(images), _BLOCK)):
        x, y = to_float(images.images[start : start + _BLOCK].to(device)), images.labels[start : start + _BLOCK]
        keys = torch.arange(start, start + len(x))
        x_adv = pgd.run(g, x, y.to(device)).x_adv
        votes = g.keyed_tally(x_adv, keys, seed, "validation attack", settings.samples).votes.cpu()
        right += (first_argmax(votes.double()) == y).sum()
        if progress is not None:
            progress.advance(min(_BLOCK * ranks.world(), len(images) - start))
    return ranks.total(right).item() / len(images)


def _step(settings: Validation) -> float:
    """Return the length of a step, pixel units."""
    usual = settings.eps / 4 if settings.norm == "linf" else 2 * settings.eps / settings.steps
    return settings.step_size or usual
